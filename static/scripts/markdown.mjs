// @ts-check
// A small part of Markdown as plain data: fences, headings, lists, quotes, paragraphs; code and emphasis within a line.
// Pure; what it does not know stays text. No HTML is ever made from an answer.

/** @typedef {{ type: "text" | "code" | "strong" | "em", text: string }} Span */
/**
 * @typedef {{ type: "code", language: string, text: string }
 *   | { type: "heading", level: number, spans: Span[] }
 *   | { type: "list", ordered: boolean, start: number, items: Span[][] }
 *   | { type: "quote", spans: Span[] }
 *   | { type: "rule" }
 *   | { type: "paragraph", spans: Span[] }} Block
 */

const FENCE = /^ {0,3}(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const BULLET = /^ {0,6}[-*+]\s+(.*)$/;
const NUMBER = /^ {0,6}(\d{1,9})[.)]\s+(.*)$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const LONGEST_LINE = 5000; // beyond it spans stay text, for SPAN may look at a line once for each of its marks
const SPAN = /(`+)(?!`)([^\n]*?[^`])\1(?!`)|\*\*(?=\S)([^\n]*?\S)\*\*|\*(?=[^\s*])([^\n*]*?[^\s*])\*(?!\*)/g;

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function parseMarkdown(text) {
  const lines = text.split(/\r\n|\r|\n/);
  /** @type {Block[]} */
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [block, next] = readBlock(lines, at);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

/**
 * @param {string[]} lines
 * @param {number} at a line that is not blank
 * @returns {[Block, number]} the block that begins there, and the line after it
 */
function readBlock(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence[1] ?? fence[3], (fence[2] ?? fence[4]).trim());
  const heading = HEADING.exec(line);
  if (heading) return [{ type: "heading", level: heading[1].length, spans: parseSpans(heading[2]) }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (BULLET.test(line)) return readList(lines, at, BULLET, 1);
  if (NUMBER.test(line)) return readList(lines, at, NUMBER, 2);
  if (QUOTE.test(line)) {
    const [inside, next] = readWhile(lines, at, (each) => QUOTE.exec(each)?.[1]);
    return [{ type: "quote", spans: parseSpans(inside.join("\n")) }, next];
  }
  const [inside, next] = readWhile(lines, at, (each, index) => (index > at && beginsBlock(each) ? undefined : each));
  return [{ type: "paragraph", spans: parseSpans(inside.join("\n")) }, next];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {string} mark
 * @param {string} language
 * @returns {[Block, number]} an unclosed fence, as while an answer streams, goes to the end
 */
function readCode(lines, at, mark, language) {
  const isEnd = (/** @type {string} */ line) => {
    const bare = line.trim();
    return bare.startsWith(mark) && bare.replaceAll(mark[0], "") === "";
  };
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  return [{ type: "code", language, text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {RegExp} mark of the list's own kind
 * @param {number} group where the item's text stands in `mark`
 * @returns {[Block, number]}
 */
function readList(lines, at, mark, group) {
  /** @type {string[]} */
  const items = [];
  let next = at;
  for (; next < lines.length; next += 1) {
    const item = mark.exec(lines[next]);
    if (item && !RULE.test(lines[next])) items.push(item[group]);
    else if (lines[next].trim() === "" && mark.test(lines[next + 1] ?? "")) continue; // a loose list
    else if (/^\s{2,}\S/.test(lines[next])) items.push(`${items.pop()}\n${lines[next].trim()}`);
    else break;
  }
  const ordered = group === 2;
  const start = ordered ? Number(/** @type {RegExpExecArray} */ (NUMBER.exec(lines[at]))[1]) : 1;
  return [{ type: "list", ordered, start, items: items.map(parseSpans) }, next];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {(line: string, index: number) => string | undefined} read undefined ends the block
 * @returns {[string[], number]}
 */
function readWhile(lines, at, read) {
  const inside = [];
  let next = at;
  for (; next < lines.length && lines[next].trim() !== ""; next += 1) {
    const text = read(lines[next], next);
    if (text === undefined) break;
    inside.push(text);
  }
  return [inside, next];
}

/** @param {string} line */
function beginsBlock(line) {
  return [FENCE, HEADING, BULLET, NUMBER, QUOTE, RULE].some((mark) => mark.test(line));
}

/**
 * @param {string} text
 * @returns {Span[]}
 */
export function parseSpans(text) {
  if (text.split("\n").some((line) => line.length > LONGEST_LINE)) return [{ type: "text", text }];
  /** @type {Span[]} */
  const spans = [];
  let end = 0;
  for (const match of text.matchAll(SPAN)) {
    if (match.index > end) spans.push({ type: "text", text: text.slice(end, match.index) });
    if (match[2] !== undefined) spans.push({ type: "code", text: match[2].replace(/^ (.*\S.*) $/, "$1") });
    else if (match[3] !== undefined) spans.push({ type: "strong", text: match[3] });
    else spans.push({ type: "em", text: match[4] });
    end = match.index + match[0].length;
  }
  if (end < text.length) spans.push({ type: "text", text: text.slice(end) });
  return spans;
}
