// @ts-check
// The report page: requests the figures for the filters, which are in the page's URL, and shows them.

import { elementById } from "../shared/dom.mjs";
import { sessionStore, tokenKey } from "../shared/storage.mjs";
import { queryOf } from "./numbers.mjs";
import { sectionsOf } from "./sections.mjs";

const filters = /** @type {HTMLFormElement} */ (elementById("filters"));
const signin = /** @type {HTMLFormElement} */ (elementById("sign-in"));
const status = elementById("status");
const content = elementById("report");
const LINK_HINT = " Everybody's use is shown by the link that the gateway printed when it started, or by a new one: llm-gateway open.";
const NAMES = ["from", "to", "user", "model", "title"];
const FILTER_CHOICES = /** @type {const} */ ([["user", "user_name"], ["model", "model"], ["title", "title"]]);

/** @type {(() => void)[]} */
let redraws = [];
/** @type {AbortController | null} */
let loading = null;

/** @param {string} name @returns {HTMLInputElement} */
const field = (name) => /** @type {HTMLInputElement} */ (filters.elements.namedItem(name));

/** The key of the chat page in this tab. */
const token = () => String(sessionStore.read(tokenKey("")) ?? "");

/** @param {string} query */
async function load(query) {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  status.textContent = "Reading the figures …";
  status.classList.remove("bad");
  try {
    const response = await fetch(`report/figures?${query}`, { signal, cache: "no-store", headers: token() ? { Authorization: `Bearer ${token()}` } : {} });
    const body = await response.json();
    signin.hidden = response.status !== 401;
    if (response.ok) return show(body);
    showError(response.status === 401 ? "Who are you? Paste a key or token of this gateway." : (body?.error?.message ?? "The figures cannot be had now."));
  } catch {
    if (!signal.aborted) showError("The gateway does not answer. Try again in a moment.");
  }
}

/** @param {string} text */
function showError(text) {
  status.textContent = text;
  status.classList.add("bad");
}

/** @param {any} report */
function show(report) {
  field("from").value = report.from;
  field("to").value = report.to;
  for (const [name, choice] of FILTER_CHOICES) {
    const selected = field(name).value || (new URLSearchParams(location.search).get(name) ?? "");
    const names = new Set([...report.choices[choice], ...(selected ? [selected] : [])]);
    field(name).replaceChildren(new Option("All", ""), ...[...names].map((each) => new Option(each, each)));
    field(name).value = selected;
  }
  const { elements, charts } = sectionsOf(report);
  content.replaceChildren(...elements);
  redraws = charts.map((draw) => draw());
  elementById("live").hidden = !report.is_of_everybody; // both are for auditors
  status.textContent = `${report.is_of_everybody ? "Everybody's use" : "Your own use"}, ${report.from} to ${report.to} (UTC). ${freshnessText(report.freshness)}${report.needs_link ? LINK_HINT : ""}`;
}

/** @param {any} fresh */
function freshnessText(fresh) {
  const newest = fresh.newest_row ? `Newest call: ${fresh.newest_row.slice(0, 19).replace("T", " ")}.` : "No calls.";
  const behind = fresh.is_behind ? " More is being added up; look again soon." : "";
  const waiting = fresh.waiting > 0 ? ` ${fresh.waiting} calls are not stored yet, the oldest for ${Math.round(fresh.waiting_s)} s.` : "";
  return `${newest}${behind}${waiting}`;
}

function currentQuery() {
  return queryOf(Object.fromEntries(NAMES.map((name) => [name, field(name).value])));
}

function applyFilters() {
  const query = currentQuery();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  void load(query);
}

filters.addEventListener("change", applyFilters);
filters.addEventListener("submit", (event) => event.preventDefault());
for (const button of filters.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const today = new Date();
    field("to").value = today.toISOString().slice(0, 10);
    field("from").value = new Date(today.getTime() - (Number(button.dataset.days) - 1) * 86_400_000).toISOString().slice(0, 10);
    applyFilters();
  });
}
signin.addEventListener("submit", (event) => {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (signin.elements.namedItem("token"));
  sessionStore.write(tokenKey(""), input.value.trim());
  input.value = "";
  void load(location.search.slice(1));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
let width = innerWidth;
addEventListener("resize", () => {
  if (width !== innerWidth) redraws.forEach((redraw) => redraw());
  width = innerWidth;
});
void load(location.search.slice(1));
