// @ts-check
// From the gateway's figures to tables, series of pictures, and CSV. Pure.

/** @typedef {string | number | null} Cell */
/** @typedef {{ columns: string[], rows: Cell[][] }} Table */
/** @typedef {{ label: string, values: (number | null)[] }} Series */

export const OUTCOMES = /** @type {const} */ ([
  ["complete", "Complete"], ["truncated", "Broken off by the model"], ["upstream_error", "Failed by the model"],
  ["client_cancelled", "Stopped by the user"], ["policy_blocked", "Refused by policy"], ["interrupted", "Gateway ended"],
  ["refused", "Refused by the gateway"],
]);

export const POLICY = /** @type {const} */ ([["masked", "Masked"], ["redirected", "Redirected"], ["rejected", "Refused"]]);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** @param {string} outcome what the policy did, in a word for people */
export const policyText = (outcome) => POLICY.find(([name]) => name === outcome)?.[1] ?? outcome;

/** @param {Cell} value */
export function numberText(value) {
  return typeof value === "number" ? whole.format(value) : "–";
}

/** @param {number} value */
export function shortText(value) {
  return short.format(value);
}

/** @param {Cell} value */
export function dollarText(value) {
  if (typeof value !== "number") return "not known";
  const digits = value !== 0 && Math.abs(value) < 1 ? 4 : 2;
  return `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
}

/** @param {Cell} value milliseconds */
export function timeText(value) {
  if (typeof value !== "number") return "–";
  return value < 1000 ? `${whole.format(value)} ms` : `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
}

/** @param {number} part @param {number} all */
export function shareText(part, all) {
  return all > 0 ? `${((100 * part) / all).toFixed(1)} %` : "–";
}

/** @param {string | null} name */
export function nameText(name) {
  return name === null ? "Others" : name === "" ? "not known" : name;
}

/**
 * All days from the first to the last, so that a day without a call is a gap in no picture.
 * @param {string} first @param {string} last
 */
export function daysBetween(first, last) {
  const days = [];
  for (let at = Date.parse(first); at <= Date.parse(last); at += 86_400_000) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

/**
 * What the pictures' axis spans, in seconds: all of the first day and of the last, with the bars in the middle of theirs.
 * uPlot's own range for a single day is a thousand days.
 * @param {string[]} days
 * @returns {[number, number]}
 */
export function spanOf(days) {
  return [Date.parse(days[0]) / 1000 - 43_200, Date.parse(days[days.length - 1]) / 1000 + 43_200];
}

/**
 * The days that are drawn: from the first one that has anything.
 * @param {any} report
 * @returns {string[]}
 */
export function drawnDays(report) {
  const first = report.days[0]?.day ?? report.to;
  return daysBetween(first > report.from ? first : report.from, report.to);
}

/**
 * @param {any[]} rows each with a `day`
 * @param {string[]} days
 * @param {string} name
 * @param {number | null} absent
 * @returns {(number | null)[]}
 */
export function valuesOf(rows, days, name, absent = 0) {
  const found = new Map(rows.map((row) => [row.day, row[name]]));
  return days.map((day) => found.get(day) ?? absent);
}

/**
 * Conversations of each day, a series for each user, those with the most of them first, others last.
 * @param {any} report
 * @param {string[]} days
 * @returns {Series[]}
 */
export function conversationSeries(report, days) {
  /** @type {Map<string | null, any[]>} */
  const users = new Map();
  for (const row of report.conversations_by_day) users.set(row.user_name, [...(users.get(row.user_name) ?? []), row]);
  const sum = (/** @type {any[]} */ rows) => rows.reduce((all, row) => all + row.conversations, 0);
  return [...users]
    .sort(([one, a], [other, b]) => Number(one === null) - Number(other === null) || sum(b) - sum(a))
    .map(([user, rows]) => ({ label: nameText(user), values: valuesOf(rows, days, "conversations") }));
}

/**
 * Each series on top of those before it.
 * @param {Series[]} series
 */
export function stacked(series) {
  /** @type {number[]} */
  let below = [];
  return series.map(({ values }) => (below = values.map((value, at) => (value ?? 0) + (below[at] ?? 0))));
}

/**
 * @param {string[]} days
 * @param {Series[]} series
 * @returns {Table}
 */
export function tableOfDays(days, series) {
  return { columns: ["Day", ...series.map(({ label }) => label)], rows: days.map((day, at) => [day, ...series.map(({ values }) => values[at])]) };
}

/**
 * A table as a file for spreadsheets, which must take none of its texts for a formula.
 * @param {Table} table
 */
export function csvOf({ columns, rows }) {
  return [columns, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** @param {Cell} value */
function csvCell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[\s]*[=+\-@\t\r\n|%]/.test(value) ? `'${value}` : value;
  return /[",\r\n']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * The query by which the page is found again, and the figures are asked for.
 * @param {Record<string, string>} filters
 */
export function queryOf(filters) {
  return new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "")).toString();
}
