// @ts-check
// Turns the gateway's figures into text, series for charts, tables, and CSV. Pure.

/** @typedef {string | number | null} Cell */
/** @typedef {{ columns: string[], rows: Cell[][] }} Table */
/** @typedef {{ label: string, values: (number | null)[] }} Series */

const integers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** @param {Cell} value */
export function numberText(value) {
  return typeof value === "number" ? integers.format(value) : "–";
}

/** @param {number} value */
export function shortText(value) {
  return compact.format(value);
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
  return value < 1000 ? `${integers.format(value)} ms` : `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
}

/** @param {number} part @param {number} total */
export function shareText(part, total) {
  return total > 0 ? `${((100 * part) / total).toFixed(1)} %` : "–";
}

/** @param {string | null} name */
export function nameText(name) {
  return name === null ? "Others" : name === "" ? "not known" : name;
}

/**
 * All days from the first to the last, so that charts show also days without a call.
 * @param {string} first @param {string} last
 */
export function daysBetween(first, last) {
  const days = [];
  for (let at = Date.parse(first); at <= Date.parse(last); at += 86_400_000) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

/**
 * The range of a chart's time axis: half a day more on both sides, because bars are centred on midnight. uPlot's own range for
 * a single day is a thousand days.
 * @param {string[]} days
 * @returns {[number, number]} Unix time
 */
export function timeRange(days) {
  return [Date.parse(days[0]) / 1000 - 43_200, Date.parse(days[days.length - 1]) / 1000 + 43_200];
}

/**
 * The days of the charts, from the first one with a call.
 * @param {any} report
 * @returns {string[]}
 */
export function chartDays(report) {
  const first = report.days[0]?.day ?? report.to;
  return daysBetween(first > report.from ? first : report.from, report.to);
}

/**
 * @param {any[]} rows each with a `day`
 * @param {string[]} days
 * @param {string} name of the value
 * @param {number | null} missing for days without a row
 * @returns {(number | null)[]}
 */
export function valuesOf(rows, days, name, missing = 0) {
  const byDay = new Map(rows.map((row) => [row.day, row[name]]));
  return days.map((day) => byDay.get(day) ?? missing);
}

/**
 * Conversations by day: one series per user, in descending order of their sums; "Others" is the last one.
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
 * @param {Series[]} series
 * @returns {number[][]} the values of each series plus those of the series before it
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
export function tableByDay(days, series) {
  return { columns: ["Day", ...series.map(({ label }) => label)], rows: days.map((day, at) => [day, ...series.map(({ values }) => values[at])]) };
}

/**
 * CSV (RFC 4180). A quote before a text that a spreadsheet would run as a formula makes it plain text.
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
 * The query of the page's URL and of the request for figures.
 * @param {Record<string, string>} filters
 */
export function queryOf(filters) {
  return new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "")).toString();
}
