// @ts-check
// Where the page asks: the gateway that served it, another one, or any server that speaks OpenAI's API. Pure.

import { readUseCases, USE_CASES } from "./parameters.mjs";

/**
 * @typedef {object} Place
 * @property {"gateway" | "openai"} api
 * @property {string} base without a slash at its end; empty: beside this page
 */

/**
 * What page.json says: the gateway's configuration of this page, or a file that somebody put beside it.
 * @typedef {object} PageConfig
 * @property {Place | null} place null: it does not say, and the reader has to
 * @property {boolean} isFixed it says so for good: an address in the URL counts nothing
 * @property {string} name
 * @property {string[]} auth how the gateway knows its callers
 * @property {string | null} policyUrl
 * @property {string | null} tokenUrl
 * @property {number | null} ownKeysS how long a key lasts that people make for themselves; null: they make none
 * @property {string | null} reportUrl
 * @property {string | null} docsUrl
 * @property {string} defaultModel
 * @property {import("./parameters.mjs").UseCase[]} useCases
 */

/**
 * @param {any} said page.json, or null when there is none
 * @returns {PageConfig}
 */
export function readPageConfig(said) {
  const place = typeof said?.gateway === "string" ? placeOf(said.gateway, said.api) : null;
  const useCases = readUseCases(said?.use_cases);
  return {
    place,
    isFixed: place !== null,
    name: typeof said?.name === "string" && said.name !== "" ? said.name : "LLM gateway",
    auth: Array.isArray(said?.auth) ? said.auth.filter((/** @type {unknown} */ each) => typeof each === "string") : [],
    policyUrl: linkOf(said?.policy_url),
    tokenUrl: linkOf(said?.token_url),
    ownKeysS: typeof said?.own_keys_s === "number" && said.own_keys_s > 0 ? said.own_keys_s : null,
    reportUrl: pathOf(said?.report_url),
    docsUrl: pathOf(said?.docs_url),
    defaultModel: typeof said?.default_model === "string" ? said.default_model : "",
    useCases: useCases.length > 0 ? useCases : USE_CASES,
  };
}

/**
 * An address as a person or a file gives it. One that ends in /v1 is an OpenAI-compatible base URL, unless said otherwise.
 * @param {string} address
 * @param {unknown} [api]
 * @returns {Place | null} null for what is no address
 */
export function placeOf(address, api) {
  const base = address.trim().replace(/\/+$/, "");
  const isHere = base === "" || base === ".";
  if (!isHere && /^[a-z][a-z\d+.-]*:/i.test(base) && (!/^https?:\/\//i.test(base) || !URL.canParse(base))) return null;
  if (!isHere && base.startsWith("//")) return null;
  const isCompatible = api === "openai" || (api === undefined && /\/v\d+$/.test(base));
  return { api: isCompatible ? "openai" : "gateway", base: isHere ? "" : base };
}

/**
 * The full URL of what a person typed in; a bare host gets its scheme. Empty when it is none.
 * @param {string} text
 */
export function typedAddress(text) {
  const typed = text.trim();
  if (typed === "") return "";
  const isLocal = /^(localhost|127\.|\[::1\])/.test(typed);
  const url = /^https?:\/\//i.test(typed) ? typed : `${isLocal ? "http" : "https"}://${typed}`;
  return URL.canParse(url) && /^https?:\/\/[^/?#@]+([/][^?#]*)?$/i.test(url) ? url.replace(/\/+$/, "") : "";
}

/**
 * @param {Place} place
 * @param {string} path
 */
export function urlOf(place, path) {
  return place.base === "" ? path : `${place.base}/${path}`;
}

/**
 * What programs of OpenAI's SDKs call the base URL.
 * @param {Place} place
 * @param {string} here the page's own URL
 */
export function programsUrl(place, here) {
  return new URL(urlOf(place, "v1"), here || undefined).href;
}

/**
 * A link to elsewhere that the configuration gives.
 * @param {unknown} text
 */
function linkOf(text) {
  return typeof text === "string" && /^https?:\/\//i.test(text) && URL.canParse(text) ? text : null;
}

/**
 * A page of the same gateway.
 * @param {unknown} text
 */
function pathOf(text) {
  return typeof text === "string" && /^[a-z][\w/.-]*$/i.test(text) ? text : null;
}
