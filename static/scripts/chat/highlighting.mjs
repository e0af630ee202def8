// @ts-check
// Syntax highlighting. The first code block loads highlight.js, whose tree of scopes becomes nodes, never HTML.

/** @typedef {string | { scope?: string, children: Scope[] }} Scope */

/** @type {Promise<any> | null} */
let loading = null;
/** @type {any} */
let highlighter = null;

const MAX_LENGTH = 200_000; // characters; longer code would block the page

/** Loads highlight.js. */
export function loadHighlighter() {
  loading ??= import("../../vendor/highlight/highlight.mjs").then((module) => (highlighter = module.default));
  return loading;
}

/**
 * @param {string} code
 * @param {string} language
 * @returns {Node[] | null} null: the language is unknown, the code too long, or the highlighter not loaded yet
 */
export function highlighted(code, language) {
  if (!highlighter || code.length > MAX_LENGTH || !highlighter.getLanguage(language)) return null;
  return highlighter.highlight(code, { language, ignoreIllegals: true })._emitter.rootNode.children.map(nodeOf);
}

/** @param {Scope} scope */
function nodeOf(scope) {
  if (typeof scope === "string") return document.createTextNode(scope);
  const span = document.createElement("span");
  if (scope.scope) span.className = scope.scope.split(".").map((part, depth) => (depth ? part + "_".repeat(depth) : `hl-${part}`)).join(" ");
  span.append(...scope.children.map(nodeOf));
  return span;
}
