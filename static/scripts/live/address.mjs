// @ts-check
// The filters and the open conversation as the query of the page's URL, and the filters as queries of the gateway. Pure.

/** @typedef {Record<string, string>} Filters by the names in FILTER_NAMES */

export const FILTER_NAMES = /** @type {const} */ (["q", "user", "model", "outcome", "policy", "kind", "from"]);

/** @param {string} search the query of the page's URL @returns {{ filters: Filters, open: string | null }} */
export function readAddress(search) {
  const params = new URLSearchParams(search);
  const filters = Object.fromEntries(FILTER_NAMES.map((name) => [name, params.get(name)?.trim() ?? ""]).filter(([, value]) => value !== ""));
  return { filters, open: params.get("open") || null };
}

/** @param {Filters} filters @param {string | null} open @returns {string} with its question mark, or empty */
export function addressOf(filters, open) {
  const params = new URLSearchParams(FILTER_NAMES.filter((name) => filters[name]).map((name) => [name, filters[name]]));
  if (open) params.set("open", open);
  return params.size > 0 ? `?${params}` : "";
}

/**
 * The query of a search or of the event stream. `from` is a day in the browser's time zone.
 * @param {Filters} filters @param {Record<string, string>} [more]
 */
export function queryOf(filters, more = {}) {
  const { from, ...rest } = filters;
  const start = from ? new Date(`${from}T00:00`) : null;
  /** @type {Record<string, string>} */
  const since = start && !Number.isNaN(start.getTime()) ? { from: start.toISOString() } : {};
  return new URLSearchParams({ ...rest, ...since, ...more }).toString();
}
