// @ts-check
// Markdown as plain data, block by block. A reader of a growing answer reads only its unfinished end again. Pure.
// No HTML is ever made from an answer: what `blocks.mjs` builds are nodes, and HTML in the text stays text.

import { Marked } from "../../vendor/marked/marked.mjs";

/**
 * A token of marked, as far as the page looks at it.
 * @typedef {object} Token
 * @property {string} type
 * @property {string} raw
 * @property {string} [text]
 * @property {Token[]} [tokens]
 * @property {number} [depth] of a heading
 * @property {string} [lang] of a code block
 * @property {string} [href]
 * @property {string | null} [title]
 * @property {boolean} [ordered]
 * @property {number | ""} [start]
 * @property {boolean} [checked]
 * @property {any[]} [items]
 * @property {any[]} [header]
 * @property {any[][]} [rows]
 */

const marked = new Marked({ gfm: true, breaks: true });

/**
 * @param {string} text
 * @returns {Token[]} blocks
 */
export function parseMarkdown(text) {
  return marked.lexer(text).filter((/** @type {Token} */ token) => token.type !== "space" && token.type !== "def");
}

/**
 * Reads an answer as it grows. Blocks that nothing can change any more are given once, as `fresh`; the rest is `open`
 * and comes anew each time. The frozen blocks of all calls and the last `open` together are the whole answer.
 * @returns {{ read: (text: string) => { fresh: Token[], open: Token[] } }}
 */
export function createMarkdownReader() {
  let begun = ""; // what the frozen blocks were made of
  return {
    read(text) {
      if (!text.startsWith(begun)) throw new RangeError("the answer does not go on from what was read");
      const tokens = /** @type {Token[]} */ (marked.lexer(text.slice(begun.length)));
      let last = tokens.length - 1;
      while (last > 0 && tokens[last].type === "space") last -= 1;
      while (last > 0 && isUnsettled(tokens[last], tokens[lastBlock(tokens, last)])) last = lastBlock(tokens, last);
      const fresh = tokens.slice(0, Math.max(last, 0));
      begun += fresh.map((token) => token.raw).join("");
      return { fresh: fresh.filter(isBlock), open: tokens.slice(Math.max(last, 0)).filter(isBlock) };
    },
  };
}

/** @param {Token} token */
function isBlock(token) {
  return token.type !== "space" && token.type !== "def";
}

/**
 * @param {Token[]} tokens
 * @param {number} before
 */
function lastBlock(tokens, before) {
  let at = before - 1;
  while (at > 0 && tokens[at].type === "space") at -= 1;
  return Math.max(at, 0);
}

/**
 * Whether the last block may turn out to belong to the one before it: the marker of one more item, a line of a quote.
 * @param {Token} token
 * @param {Token} before
 */
function isUnsettled(token, before) {
  if (before === token) return false;
  return /^(list|blockquote|table|html)$/.test(before.type) && !/\S.*\n|^.{12}/.test(token.raw.trimStart());
}

const ENTITIES = new Map(
  Object.entries({ amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", hellip: "…",
    ndash: "–", mdash: "—", times: "×", rarr: "→", larr: "←", le: "≤", ge: "≥", ne: "≠", deg: "°", euro: "€", bull: "•" }),
);

/**
 * Character references as their characters; unknown ones stay as they are.
 * @param {string} text
 */
export function plainText(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{2,8}));/g, (whole, decimal, hex, name) => {
    if (name) return ENTITIES.get(name) ?? whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 31 && code < 0x110000 && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : whole;
  });
}

/**
 * The address of a link that may be followed, or null.
 * @param {string | undefined} href
 * @returns {string | null}
 */
export function safeLink(href) {
  const text = plainText(href ?? "").trim();
  if (!/^(https?:\/\/|mailto:)/i.test(text) || /[\u0000-\u0020\u007f]/.test(text)) return null;
  return URL.canParse(text) ? text : null;
}

/**
 * An image that is in the text itself, or null: one that lies elsewhere would tell its host who reads this.
 * @param {string | undefined} href
 */
export function safeImage(href) {
  return /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/.test(href ?? "") ? (href ?? null) : null;
}

/**
 * What a model thought before it spoke, where it says so in the text itself.
 * @param {string} text
 * @returns {{ thought: string, text: string }}
 */
export function splitThought(text) {
  const begun = /^\s*<think(?:ing)?>\n?/.exec(text);
  if (!begun) return { thought: "", text };
  const end = /\n?<\/think(?:ing)?>\s*/.exec(text);
  if (!end) return { thought: text.slice(begun[0].length), text: "" };
  return { thought: text.slice(begun[0].length, end.index), text: text.slice(end.index + end[0].length) };
}
