// @ts-check
// Reads values that other programs wrote: JSON, timestamps, texts. Pure.

/**
 * @param {string} text
 * @returns {any} the JSON object, or null for anything else
 */
export function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * @param {unknown} value
 * @returns {string} the value if it is a string, else an empty one
 */
export function stringOf(value) {
  return typeof value === "string" ? value : "";
}

/**
 * A timestamp of the database, which is in UTC and has no zone.
 * @param {unknown} text
 * @returns {number} milliseconds since 1970; 0 if the text is not a timestamp
 */
export function parseTimestamp(text) {
  if (typeof text !== "string") return 0;
  const time = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text.replace(" ", "T")}Z`);
  return Number.isNaN(time) ? 0 : time;
}

/**
 * @param {string} text
 * @returns {string} one line of at most 60 characters
 */
export function shorten(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}
