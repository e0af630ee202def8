// @ts-check
// An answer's Markdown as elements. An update replaces only the open blocks at the end, so that a selection stays and long
// answers stay fast.

import { copyText, make } from "../../shared/dom.mjs";
import { highlighted, loadHighlighter } from "../highlighting.mjs";
import { createMarkdownParser, parseMarkdown, plainText, safeImage, safeLink } from "../markdown.mjs";

/** @typedef {import("../markdown.mjs").Token} Token */

const MAX_LIVE_HIGHLIGHT = 4000; // characters; a longer code block is highlighted when it is complete
const FRAME_BUDGET_MS = 8; // a more expensive update delays the next one

/**
 * @param {HTMLElement} el
 * @returns {{ update: (text: string, isComplete: boolean) => void }}
 */
export function mount(el) {
  let parser = createMarkdownParser();
  let shown = "";
  let isDone = false;
  /** @type {string[]} the Markdown of the closed blocks */
  let closed = [];
  /** @type {{ token: Token, el: HTMLElement }[]} */
  let open = [];
  let notBefore = 0;
  /** @type {number | undefined} */
  let timer;

  function clear() {
    parser = createMarkdownParser();
    closed = [];
    open = [];
    el.replaceChildren();
  }

  /** @param {string} text */
  function grow(text) {
    const { closed: added, open: next } = parser.parse(text);
    const elements = [...added, ...next].map((token, index) => {
      const old = open[index];
      const isKept = old && (old.token.raw === token.raw || growCode(old, token));
      return { token, el: isKept ? old.el : elementOf(token) };
    });
    for (const old of open) if (!elements.some((each) => each.el === old.el)) old.el.remove();
    elements.forEach((each, index) => {
      const current = el.children[closed.length + index] ?? null;
      if (current !== each.el) el.insertBefore(each.el, current); // to move an element would lose its selection
    });
    for (const each of elements.slice(0, added.length)) finish(each.el);
    closed.push(...added.map((token) => token.raw));
    open = elements.slice(added.length);
  }

  /** Parses the whole text: the end may define a link, or make a list a loose one. @param {string} text */
  function complete(text) {
    const tokens = parseMarkdown(text);
    const shownBlocks = [...closed, ...open.map(({ token }) => token.raw)];
    const isSame = tokens.length === shownBlocks.length && tokens.every((token, index) => token.raw.trim() === shownBlocks[index].trim());
    if (!isSame || /^ {0,3}\[[^\]\n]+\]:/m.test(text)) {
      const elements = tokens.map(elementOf);
      el.replaceChildren(...elements);
      elements.forEach(finish);
    } else open.forEach((each) => finish(each.el));
  }

  /** @param {string} text @param {boolean} isComplete */
  function render(text, isComplete) {
    const start = performance.now();
    if (!text.startsWith(shown) || (isDone && text !== shown)) clear();
    if (text !== shown || el.childElementCount === 0) grow(text);
    if (isComplete) complete(text);
    shown = text;
    isDone = isComplete;
    const cost = performance.now() - start;
    notBefore = cost > FRAME_BUDGET_MS ? performance.now() + Math.min(cost * 4, 500) : 0;
  }

  return {
    update(text, isComplete) {
      clearTimeout(timer);
      const wait = notBefore - performance.now();
      if (isComplete || wait <= 0) render(text, isComplete);
      else timer = setTimeout(() => render(text, false), wait);
    },
  };
}

/**
 * Appends to a code block in place.
 * @param {{ token: Token, el: HTMLElement }} old
 * @param {Token} token
 * @returns {boolean} false: the block needs a new element
 */
function growCode(old, token) {
  const before = old.token.text ?? "";
  if (old.token.type !== "code" || token.type !== "code" || token.lang !== old.token.lang) return false;
  const text = token.text ?? "";
  const code = old.el.querySelector("code");
  if (!code || !text.startsWith(before)) return false;
  const nodes = text.length <= MAX_LIVE_HIGHLIGHT ? highlighted(text, languageOf(token)) : null;
  if (nodes) code.replaceChildren(...nodes);
  else code.append(text.slice(before.length));
  return true;
}

/** Highlights the code of an element that does not change any more. @param {HTMLElement} el */
function finish(el) {
  const blocks = el.matches(".code") ? [el] : [...el.querySelectorAll(".code")];
  for (const block of blocks) {
    const code = block.querySelector("code");
    const language = /** @type {HTMLElement} */ (block).dataset.language ?? "";
    if (!code || !language) continue;
    void loadHighlighter().then(() => {
      const nodes = highlighted(code.textContent ?? "", language);
      if (nodes) code.replaceChildren(...nodes);
    }, () => {}); // without the highlighter, code stays plain
  }
}

/** @param {Token} token */
function languageOf(token) {
  return (token.lang ?? "").trim().split(/\s+/)[0].toLowerCase().slice(0, 30);
}

/**
 * @param {Token} token
 * @returns {HTMLElement}
 */
function elementOf(token) {
  switch (token.type) {
    case "code":
      return codeOf(languageOf(token), token.text ?? "");
    case "heading": // the page's title is an h1 and each message has an h2, so the headings of an answer begin at h3
      return make(/** @type {"h3"} */ (`h${Math.min((token.depth ?? 1) + 2, 6)}`), {}, ...spansOf(token.tokens));
    case "list": {
      const items = (token.items ?? []).map((item) => make("li", {}, ...(item.tokens ?? []).flatMap(itemNodes)));
      return token.ordered ? make("ol", { start: Number(token.start) || (token.start === 0 ? 0 : 1) }, ...items) : make("ul", {}, ...items);
    }
    case "blockquote":
      return make("blockquote", {}, ...(token.tokens ?? []).filter((each) => each.type !== "space").map(elementOf));
    case "table":
      return tableOf(token);
    case "hr":
      return make("hr");
    default:
      return make("p", {}, ...(token.tokens ? spansOf(token.tokens) : [(token.text ?? token.raw).trim()]));
  }
}

/**
 * @param {Token} token in an item of a list; the items of a tight list have text without a paragraph
 * @returns {(Node | string)[]}
 */
function itemNodes(token) {
  if (token.type === "text") return spansOf(token.tokens ?? [token]);
  if (token.type === "checkbox") return [checkbox(token)];
  return token.type === "space" ? [] : [elementOf(token)];
}

/**
 * @param {Token[]} [tokens]
 * @returns {(Node | string)[]}
 */
function spansOf(tokens = []) {
  return tokens.map(spanOf);
}

/**
 * @param {Token} token
 * @returns {Node | string}
 */
function spanOf(token) {
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return make(token.type, {}, ...spansOf(token.tokens));
    case "codespan":
      return make("code", {}, token.text ?? "");
    case "br":
      return make("br");
    case "html": // shown as text, except <br>, which is common in tables
      return /^<br\s*\/?>$/i.test(token.raw.trim()) ? make("br") : token.raw;
    case "link":
      return linkOf(token);
    case "image":
      return imageOf(token);
    case "checkbox":
      return checkbox(token);
    default:
      return token.tokens ? make("span", {}, ...spansOf(token.tokens)) : plainText(token.text ?? token.raw);
  }
}

/** @param {Token} token */
function checkbox(token) {
  const box = make("input", { type: "checkbox", checked: token.checked === true, disabled: true });
  box.setAttribute("aria-label", token.checked ? "done" : "to do");
  return box;
}

/** @param {Token} token */
function linkOf(token) {
  const href = safeLink(token.href);
  if (!href) return make("span", {}, ...spansOf(token.tokens));
  return make("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, ...spansOf(token.tokens));
}

/** @param {Token} token a remote image becomes a link: a request would tell its host who reads, and could leak text in the URL */
function imageOf(token) {
  const src = safeImage(token.href);
  if (src) return make("img", { src, alt: plainText(token.text ?? "") });
  const href = safeLink(token.href);
  const label = `Image: ${plainText(token.text ?? "") || "without a description"}`;
  return href ? make("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, label) : label;
}

/** @param {Token} token */
function tableOf(token) {
  /** @param {"th" | "td"} tag @param {any} cell */
  const cellOf = (tag, cell) => make(tag, { className: cell.align ? `to-${cell.align}` : "" }, ...spansOf(cell.tokens));
  const head = make("tr", {}, ...(token.header ?? []).map((cell) => cellOf("th", cell)));
  const rows = (token.rows ?? []).map((row) => make("tr", {}, ...row.map((cell) => cellOf("td", cell))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const frame = make("div", { className: "table", tabIndex: 0, ariaLabel: "Table" }, table);
  frame.setAttribute("role", "region");
  return frame;
}

/**
 * @param {string} language
 * @param {string} text
 */
function codeOf(language, text) {
  if (language) void loadHighlighter().catch(() => {});
  const nodes = text.length <= MAX_LIVE_HIGHLIGHT ? highlighted(text, language) : null;
  const code = make("code", {}, ...(nodes ?? [text]));
  const copy = make("button", { type: "button", className: "quiet", textContent: "Copy", ariaLabel: `Copy ${language || "the"} code` });
  copy.addEventListener("click", async () => {
    const isCopied = await copyText(code.textContent ?? "");
    copy.textContent = isCopied ? "Copied" : "Press Ctrl+C";
    if (!isCopied) getSelection()?.selectAllChildren(code);
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  const head = make("div", { className: "code-head" }, make("span", {}, language || "text"), copy);
  const pre = make("pre", { tabIndex: 0, ariaLabel: `${language || "plain"} code` }, code);
  pre.setAttribute("role", "region");
  const block = make("div", { className: "code" }, head, pre);
  block.dataset.language = language;
  return block;
}
