// @ts-check
// An answer's blocks as elements. Blocks that did not change keep their elements, so a growing answer costs its last block.

import { make } from "../dom.mjs";
import { parseMarkdown } from "../markdown.mjs";

/** @typedef {import("../markdown.mjs").Block} Block */
/** @typedef {import("../markdown.mjs").Span} Span */

/**
 * @param {HTMLElement} el
 * @returns {{ update: (text: string) => void }}
 */
export function mount(el) {
  /** @type {string[]} what stands in each child */
  let shown = [];
  return {
    update(text) {
      const blocks = parseMarkdown(text);
      const keys = blocks.map((block) => JSON.stringify(block));
      keys.forEach((key, index) => {
        if (shown[index] === key) return;
        const current = el.children[index];
        if (current && growCode(current, shown[index], blocks[index])) return;
        const element = elementOf(blocks[index]);
        if (current) current.replaceWith(element);
        else el.append(element);
      });
      while (el.children.length > keys.length) el.lastElementChild?.remove();
      shown = keys;
    },
  };
}

/**
 * A code block that only grew keeps its element: so its scroll position, the selection and the focus stay.
 * @param {Element} current
 * @param {string} before
 * @param {Block} block
 */
function growCode(current, before, block) {
  if (block.type !== "code") return false;
  const old = /** @type {Block} */ (JSON.parse(before));
  if (old.type !== "code" || old.language !== block.language || !block.text.startsWith(old.text)) return false;
  current.querySelector("code")?.append(block.text.slice(old.text.length));
  return true;
}

/**
 * @param {Block} block
 * @returns {HTMLElement}
 */
function elementOf(block) {
  switch (block.type) {
    case "code":
      return codeOf(block.language, block.text);
    case "heading": // the page's title is h1 and each message has an h2, so an answer's headings begin at h3
      return make(/** @type {"h3"} */ (`h${Math.min(block.level + 2, 6)}`), {}, ...spansOf(block.spans));
    case "list": {
      const items = block.items.map((spans) => make("li", {}, ...spansOf(spans)));
      return block.ordered ? make("ol", { start: block.start }, ...items) : make("ul", {}, ...items);
    }
    case "quote":
      return make("blockquote", {}, make("p", {}, ...spansOf(block.spans)));
    case "rule":
      return make("hr");
    case "paragraph":
      return make("p", {}, ...spansOf(block.spans));
  }
}

/**
 * @param {string} language
 * @param {string} text
 */
function codeOf(language, text) {
  const code = make("code", {}, text);
  const copy = make("button", { type: "button", className: "quiet", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    const isCopied = await copyText(code.textContent ?? "");
    copy.textContent = isCopied ? "Copied" : "Press Ctrl+C";
    if (!isCopied) getSelection()?.selectAllChildren(code);
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  const head = make("div", { className: "code-head" }, make("span", {}, language || "text"), copy);
  return make("div", { className: "code" }, head, make("pre", { tabIndex: 0 }, code));
}

/** @param {string} text */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // the clipboard is closed to pages that came by plain HTTP from another machine
  }
}

/** @param {Span[]} spans */
function spansOf(spans) {
  return spans.map((span) => (span.type === "text" ? span.text : make(span.type, {}, span.text)));
}
