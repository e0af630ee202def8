// @ts-check
// Reads page.json, and the endpoint of the API: the gateway of this page, another one, or any OpenAI-compatible server. Pure.

import { readUseCases, USE_CASES } from "./parameters.mjs";

/**
 * @typedef {object} Endpoint
 * @property {"gateway" | "openai"} api
 * @property {string} base URL without a slash at its end; empty: relative to this page
 */

/**
 * page.json, from the gateway or from a file beside the page.
 * @typedef {object} PageConfig
 * @property {Endpoint | null} endpoint null: the user enters it
 * @property {boolean} isFixed the configuration sets the endpoint, so the page's URL cannot
 * @property {string} name
 * @property {string[]} auth the gateway's modes of authentication
 * @property {string | null} policyUrl
 * @property {string | null} tokenUrl
 * @property {number | null} ownKeysS lifetime of the keys that users create for themselves; null: they create none
 * @property {string | null} reportUrl
 * @property {string | null} docsUrl
 * @property {string} defaultModel
 * @property {import("./parameters.mjs").UseCase[]} useCases
 */

/**
 * @param {any} json page.json, or null without one
 * @returns {PageConfig}
 */
export function readPageConfig(json) {
  const endpoint = typeof json?.gateway === "string" ? parseEndpoint(json.gateway, json.api) : null;
  const useCases = readUseCases(json?.use_cases);
  return {
    endpoint,
    isFixed: endpoint !== null,
    name: typeof json?.name === "string" && json.name !== "" ? json.name : "LLM gateway",
    auth: Array.isArray(json?.auth) ? json.auth.filter((/** @type {unknown} */ each) => typeof each === "string") : [],
    policyUrl: webUrl(json?.policy_url),
    tokenUrl: webUrl(json?.token_url),
    ownKeysS: typeof json?.own_keys_s === "number" && json.own_keys_s > 0 ? json.own_keys_s : null,
    reportUrl: relativePath(json?.report_url),
    docsUrl: relativePath(json?.docs_url),
    defaultModel: typeof json?.default_model === "string" ? json.default_model : "",
    useCases: useCases.length > 0 ? useCases : USE_CASES,
  };
}

/**
 * Without `api`, an address that ends in a version such as /v1 is the base URL of an OpenAI-compatible server.
 * @param {string} address
 * @param {unknown} [api]
 * @returns {Endpoint | null} null: not a web address
 */
export function parseEndpoint(address, api) {
  const base = address.trim().replace(/\/+$/, "");
  const isRelative = base === "" || base === ".";
  if (!isRelative && /^[a-z][a-z\d+.-]*:/i.test(base) && (!/^https?:\/\//i.test(base) || !URL.canParse(base))) return null;
  if (!isRelative && base.startsWith("//")) return null;
  const isOpenAI = api === "openai" || (api === undefined && /\/v\d+$/.test(base));
  return { api: isOpenAI ? "openai" : "gateway", base: isRelative ? "" : base };
}

/**
 * Adds the scheme to an address that a user has typed.
 * @param {string} text
 * @returns {string} the URL; empty: not a web address
 */
export function normalizeAddress(text) {
  const address = text.trim();
  if (address === "") return "";
  const isLocal = /^(localhost|127\.|\[::1\])/.test(address);
  const url = /^https?:\/\//i.test(address) ? address : `${isLocal ? "http" : "https"}://${address}`;
  return URL.canParse(url) && /^https?:\/\/[^/?#@]+([/][^?#]*)?$/i.test(url) ? url.replace(/\/+$/, "") : "";
}

/**
 * @param {Endpoint} endpoint
 * @param {string} path
 */
export function urlOf(endpoint, path) {
  return endpoint.base === "" ? path : `${endpoint.base}/${path}`;
}

/**
 * The `base_url` of OpenAI's SDKs.
 * @param {Endpoint} endpoint
 * @param {string} pageUrl
 */
export function sdkBaseUrl(endpoint, pageUrl) {
  return new URL(urlOf(endpoint, "v1"), pageUrl || undefined).href;
}

/** @param {unknown} value */
function webUrl(value) {
  return typeof value === "string" && /^https?:\/\//i.test(value) && URL.canParse(value) ? value : null;
}

/** @param {unknown} value a page of the same gateway */
function relativePath(value) {
  return typeof value === "string" && /^[a-z][\w/.-]*$/i.test(value) ? value : null;
}
