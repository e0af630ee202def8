// @ts-check
// Parses Markdown into blocks. For a growing answer, only the unfinished end is parsed again. Pure.
// No HTML is ever made from an answer: `blocks.mjs` creates nodes, and HTML in the text stays text.

import { Marked } from "../../vendor/marked/marked.mjs";

/**
 * The fields of marked's tokens that the page uses.
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
 * Parses an answer as it grows. `closed` has the blocks that later text cannot change, each once; `open` has the rest, in each
 * call anew. The `closed` blocks of all calls and the last `open` ones are the whole answer.
 * @returns {{ parse: (text: string) => { closed: Token[], open: Token[] } }}
 */
export function createMarkdownParser() {
  let parsed = ""; // the text of the closed blocks
  return {
    parse(text) {
      if (!text.startsWith(parsed)) throw new RangeError("the text does not continue the text of the last call");
      const tokens = /** @type {Token[]} */ (marked.lexer(text.slice(parsed.length)));
      let last = tokens.length - 1;
      while (last > 0 && tokens[last].type === "space") last -= 1;
      while (last > 0 && mayJoin(tokens[last], tokens[lastBlock(tokens, last)])) last = lastBlock(tokens, last);
      const closed = tokens.slice(0, Math.max(last, 0));
      parsed += closed.map((token) => token.raw).join("");
      return { closed: closed.filter(isBlock), open: tokens.slice(Math.max(last, 0)).filter(isBlock) };
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
 * Whether the last block may become part of the one before it: the marker of another item, a line of a quote.
 * @param {Token} token
 * @param {Token} before
 */
function mayJoin(token, before) {
  if (before === token) return false;
  return /^(list|blockquote|table|html)$/.test(before.type) && !/\S.*\n|^.{12}/.test(token.raw.trimStart());
}

const ENTITIES = new Map(
  Object.entries({ amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", hellip: "…",
    ndash: "–", mdash: "—", times: "×", rarr: "→", larr: "←", le: "≤", ge: "≥", ne: "≠", deg: "°", euro: "€", bull: "•" }),
);

/**
 * Replaces character references. Unknown ones stay as they are.
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
 * @param {string | undefined} href
 * @returns {string | null} the URL of a web page or mail address; null: anything else
 */
export function safeLink(href) {
  const text = plainText(href ?? "").trim();
  if (!/^(https?:\/\/|mailto:)/i.test(text) || /[\u0000-\u0020\u007f]/.test(text)) return null;
  return URL.canParse(text) ? text : null;
}

/**
 * @param {string | undefined} href
 * @returns {string | null} the data URL of a bitmap; null: anything else. The host of a remote image would learn who reads it
 */
export function safeImage(href) {
  return /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/.test(href ?? "") ? (href ?? null) : null;
}

/**
 * Separates the reasoning in <think> tags, with which some models begin their text.
 * @param {string} text
 * @returns {{ reasoning: string, text: string }}
 */
export function splitReasoning(text) {
  const start = /^\s*<think(?:ing)?>\n?/.exec(text);
  if (!start) return { reasoning: "", text };
  const end = /\n?<\/think(?:ing)?>\s*/.exec(text);
  if (!end) return { reasoning: text.slice(start[0].length), text: "" };
  return { reasoning: text.slice(start[0].length, end.index), text: text.slice(end.index + end[0].length) };
}
