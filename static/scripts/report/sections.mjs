// @ts-check
// The sections of the report: a chart with its table, or a table alone; each can be downloaded as CSV.

import { make } from "../shared/dom.mjs";
import { OUTCOMES, POLICY_OUTCOMES, policyText } from "../shared/outcomes.mjs";
import { draw } from "./charts.mjs";
import * as numbers from "./numbers.mjs";

/** @typedef {import("./numbers.mjs").Table} Table */
/** @typedef {import("./numbers.mjs").Cell} Cell */
/** @typedef {(value: Cell) => string} Text */

/**
 * @param {any} report
 * @returns {{ elements: HTMLElement[], charts: (() => () => void)[] }} each chart draws itself, once its element is on the page, and returns its redraw
 */
export function sectionsOf(report) {
  /** @type {(() => () => void)[]} */
  const charts = [];
  const days = numbers.chartDays(report);
  const { totals } = report;

  /**
   * @param {string} title @param {string} lead
   * @param {import("./numbers.mjs").Series[]} series
   * @param {{ isStacked: boolean, text?: (value: number) => string, cell?: Text }} options
   */
  function byDay(title, lead, series, { isStacked, text, cell = numbers.numberText }) {
    const chart = make("div", { className: "picture", role: "img", ariaLabel: `${title}, by day; the table below has the numbers` });
    if (series.length > 0) charts.push(() => draw(chart, { days, series, isStacked, text }).redraw);
    const legend = make("ul", { className: "keys" }, ...series.map(({ label }, at) => make("li", {}, make("span", { className: `key tone-${at % 9}` }), label)));
    const table = numbers.tableByDay(days, series);
    const details = make("details", {}, make("summary", { textContent: `Numbers: ${title.toLowerCase()}` }), scrolled(title, tableOf(title, table, cell)));
    return section(title, lead, table, series.length > 0 ? [legend, chart, details] : [make("p", { className: "empty", textContent: "Nothing in these days." })]);
  }

  const { prompt_tokens: prompt, completion_tokens: completion } = totals;
  const tokens = prompt + completion;
  const of = (/** @type {string} */ name, /** @type {string} */ label) => ({ label, values: numbers.valuesOf(report.days, days, name) });
  const times = (/** @type {string} */ measure, /** @type {string} */ name, /** @type {string} */ label) => ({
    label, values: numbers.valuesOf(report.times.filter((/** @type {any} */ row) => row.measure === measure && row.day !== null), days, name, null),
  });
  const hasTimes = report.times.length > 0;
  const elements = [
    tiles(report),
    byDay("Conversations a day", `${numbers.numberText(totals.conversations)} conversations, by the users with the most of them.`, numbers.conversationSeries(report, days), { isStacked: true }),
    byDay(
      "Tokens",
      `Prompts ${numbers.numberText(prompt)} (${numbers.shareText(prompt, tokens)}), answers ${numbers.numberText(completion)} (${numbers.shareText(completion, tokens)}).`,
      report.days.length > 0 ? [of("prompt_tokens", "Prompt tokens"), of("completion_tokens", "Completion tokens")] : [], { isStacked: true },
    ),
    byDay("Cost", costLead(totals), report.days.length > 0 && totals.cost_usd !== null ? [{ label: "Cost in USD", values: numbers.valuesOf(report.days, days, "cost_usd", null) }] : [],
      { isStacked: true, text: numbers.dollarText, cell: numbers.dollarText }),
    byDay("Outcomes", `${numbers.numberText(totals.complete)} of ${numbers.numberText(totals.calls)} calls were answered to the end; policy refused ${numbers.numberText(totals.policy_blocked)}.`,
      report.days.length > 0 ? OUTCOMES.filter(([name]) => totals[name] > 0).map(([name, label]) => of(name, label)) : [], { isStacked: true }),
    byDay("Policy", policyLead(report), POLICY_OUTCOMES.filter(([name]) => report.policy_by_day.some((/** @type {any} */ row) => row.outcome === name))
      .map(([name, label]) => ({ label, values: numbers.valuesOf(report.policy_by_day.filter((/** @type {any} */ row) => row.outcome === name), days, "requests") })), { isStacked: true }),
    tableSection("Policy rules", "What each rule did; a request that several rules changed counts for each.", ["Rule", "What it did", "Requests", "Users"],
      report.policy_rules.map((/** @type {any} */ row) => [row.rule, policyText(row.outcome), row.requests, row.users]), 2, { isWide: false }),
    tableSection("Tokens by user", "Who uses most.", ["User", "Calls", "Prompt tokens", "Completion tokens", "Tokens", "Share", "Cost in USD"],
      report.users.map((/** @type {any} */ row) => [numbers.nameText(row.user_name), row.calls, row.prompt_tokens, row.completion_tokens, row.total_tokens, numbers.shareText(row.total_tokens, totals.total_tokens), row.cost_usd]), 4),
    tableSection("Tokens by conversation", "The largest ones.", ["Conversation", "User", "Chats", "Prompt tokens", "Completion tokens", "Tokens"],
      report.largest_conversations.map((/** @type {any} */ row) => [row.convo_title || row.conversation, numbers.nameText(row.user_name), row.chats, row.prompt_tokens, row.completion_tokens, row.total_tokens]), 5),
    tableSection("Models", "What was asked, and how quickly it answered: half of the answers, and 95 of 100, came within these times.",
      ["Model", "Calls", "Tokens", "Cost in USD", "First token p50, ms", "First token p95, ms", "Answer p50, ms", "Answer p95, ms"], report.models.map((/** @type {any} */ row) => modelRow(report, row)), 2),
    byDay("Time to first token", timeLead(report, "first_token"), hasTimes ? [times("first_token", "p50_ms", "p50"), times("first_token", "p95_ms", "p95")] : [], { isStacked: false, text: numbers.timeText, cell: numbers.timeText }),
    byDay("Time of an answer", timeLead(report, "duration"), hasTimes ? [times("duration", "p50_ms", "p50"), times("duration", "p95_ms", "p95")] : [], { isStacked: false, text: numbers.timeText, cell: numbers.timeText }),
  ];
  return { elements, charts };
}

/** @param {any} report */
function tiles({ totals, is_of_everybody: isAll }) {
  const tile = (/** @type {string} */ label, /** @type {string} */ value, note = "") =>
    make("div", { className: "tile" }, make("dt", { textContent: label }), make("dd", {}, value, ...(note ? [make("small", { textContent: note })] : [])));
  const failed = totals.calls - totals.complete;
  return make("dl", { className: "tiles" },
    ...(isAll ? [tile("Users", numbers.numberText(totals.users))] : []),
    tile("Conversations", numbers.numberText(totals.conversations)), tile("Calls", numbers.numberText(totals.calls)),
    tile("Tokens", numbers.shortText(totals.total_tokens)), tile("Cost", numbers.dollarText(totals.cost_usd), totals.unpriced_tokens > 0 && totals.cost_usd !== null ? "in part not known" : ""),
    tile("Not complete", numbers.shareText(failed, totals.calls)), tile("Policy refusals", numbers.numberText(totals.policy_blocked)));
}

/** @param {any} report */
function policyLead({ policy_by_day: rows }) {
  const counts = POLICY_OUTCOMES.map(([name, label]) => {
    const count = rows.filter((/** @type {any} */ row) => row.outcome === name).reduce((/** @type {number} */ sum, /** @type {any} */ row) => sum + row.requests, 0);
    return `${numbers.numberText(count)} ${label.toLowerCase()}`;
  });
  return `Of the chats that the company's policy did not let through as they stood: ${counts.join(", ")}.`;
}

/** @param {any} totals */
function costLead(totals) {
  const rest = totals.unpriced_tokens > 0 ? ` ${numbers.numberText(totals.unpriced_tokens)} tokens are of models whose price is not known; they are not in it.` : "";
  return `${totals.cost_usd === null ? "No price is known." : `${dollars(totals)} by the prices of the time, or by today's for calls that were stored without one.`}${rest}`;
}

/** @param {any} totals */
const dollars = (totals) => numbers.dollarText(totals.cost_usd);

/** @param {any} report @param {string} measure */
function timeLead(report, measure) {
  const row = report.times.find((/** @type {any} */ each) => each.measure === measure && each.day === null && each.model === null);
  return row ? `Half of them within ${numbers.timeText(row.p50_ms)}, 95 of 100 within ${numbers.timeText(row.p95_ms)}.` : "No times are known.";
}

/** @param {any} report @param {any} row @returns {Cell[]} */
function modelRow(report, row) {
  const time = (/** @type {string} */ measure, /** @type {string} */ name) => report.times.find((/** @type {any} */ each) => each.measure === measure && each.model === row.model && each.day === null)?.[name] ?? null;
  return [numbers.nameText(row.model), row.calls, row.total_tokens, row.cost_usd, time("first_token", "p50_ms"), time("first_token", "p95_ms"), time("duration", "p50_ms"), time("duration", "p95_ms")];
}

/**
 * @param {string} title @param {string} lead @param {string[]} columns @param {Cell[][]} rows
 * @param {number} measured the column that also has bars
 * @param {{ isWide: boolean }} options
 */
function tableSection(title, lead, columns, rows, measured, { isWide } = { isWide: true }) {
  const table = { columns, rows };
  const cell = (/** @type {Cell} */ value, /** @type {string} */ column) => (column.includes("USD") ? numbers.dollarText(value) : numbers.numberText(value));
  const body = rows.length > 0 ? scrolled(title, tableOf(title, table, cell, measured)) : make("p", { className: "empty", textContent: "Nothing in these days." });
  const element = section(title, lead, table, [body]);
  element.classList.toggle("wide", isWide);
  return element;
}

/** @param {string} title @param {string} lead @param {Table} table @param {Node[]} body */
function section(title, lead, table, body) {
  const id = `section-${title.toLowerCase().replaceAll(/\W+/g, "-")}`;
  const save = make("button", { type: "button", className: "save", textContent: "CSV", ariaLabel: `Download as CSV: ${title}` });
  save.disabled = table.rows.length === 0;
  save.addEventListener("click", () => download(`${id.replace("section-", "")}.csv`, numbers.csvOf(table)));
  const element = make("section", { id, className: "figure" }, make("div", { className: "figure-head" }, make("h2", { id: `${id}-title`, textContent: title }), save), make("p", { className: "lead", textContent: lead }), ...body);
  element.setAttribute("aria-labelledby", `${id}-title`);
  return element;
}

/** Makes a wide table scroll on its own, also by keyboard. @param {string} title @param {HTMLElement} table */
function scrolled(title, table) {
  return make("div", { className: "scrolled", tabIndex: 0, role: "region", ariaLabel: `Table: ${title}` }, table);
}

/**
 * @param {string} title @param {Table} table
 * @param {(value: Cell, column: string) => string} cell
 * @param {number} [measured]
 */
function tableOf(title, { columns, rows }, cell, measured) {
  const max = measured === undefined ? 0 : Math.max(1, ...rows.map((row) => Number(row[measured])));
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col", textContent: name })));
  const body = rows.map((row) =>
    make("tr", {}, ...row.map((value, at) => {
      if (at === 0) return make("th", { scope: "row", textContent: String(value) });
      const element = make("td", { className: typeof value === "string" ? "words" : "", textContent: typeof value === "string" ? value : cell(value, columns[at]) });
      if (at === measured) {
        element.classList.add("measured");
        element.style.setProperty("--part", `${(100 * Number(value)) / max}%`);
      }
      return element;
    })));
  return make("table", {}, make("caption", { className: "visually-hidden", textContent: title }), make("thead", {}, head), make("tbody", {}, ...body));
}

/** @param {string} name @param {string} text */
function download(name, text) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
