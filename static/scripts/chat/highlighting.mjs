// @ts-check
// Colours for code. The highlighter is fetched with the first code block, and gives a tree of scopes: no HTML is made.

/** @typedef {string | { scope?: string, children: Scope[] }} Scope */

/** @type {Promise<any> | null} */
let asked = null;
/** @type {any} */
let highlighter = null;

const MOST = 200_000; // characters; more would hold the page up

/** Begins to fetch the highlighter. */
export function prepareHighlighting() {
  asked ??= import("../../vendor/highlight/highlight.mjs").then((module) => (highlighter = module.default));
  return asked;
}

/**
 * @param {string} code
 * @param {string} language
 * @returns {Node[] | null} null: as it is, for the language is not known or the highlighter not there yet
 */
export function highlighted(code, language) {
  if (!highlighter || code.length > MOST || !highlighter.getLanguage(language)) return null;
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
