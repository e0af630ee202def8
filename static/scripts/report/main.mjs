// @ts-check
// The report: asks the gateway for the figures of the filters, which stand in the address, and shows them.

import { queryOf } from "./numbers.mjs";
import { sectionsOf } from "./sections.mjs";

const KEPT = "gateway:token:"; // where the chat page keeps it, for this tab
const filters = /** @type {HTMLFormElement} */ (document.getElementById("filters"));
const signin = /** @type {HTMLFormElement} */ (document.getElementById("signin"));
const status = /** @type {HTMLElement} */ (document.getElementById("status"));
const place = /** @type {HTMLElement} */ (document.getElementById("report"));
const OPENS = " Everybody's use is shown by the link that the gateway printed when it started, or by a new one: llm-gateway open.";
const NAMES = ["from", "to", "user", "model", "title"];
const CHOICES = /** @type {const} */ ([["user", "user_name"], ["model", "model"], ["title", "title"]]);

/** @type {(() => void)[]} */
let redraws = [];
/** @type {AbortController | null} */
let asking = null;

/** @param {string} name @returns {HTMLInputElement} */
const field = (name) => /** @type {HTMLInputElement} */ (filters.elements.namedItem(name));

function token() {
  try {
    return String(JSON.parse(sessionStorage.getItem(KEPT) ?? "null") ?? "");
  } catch {
    return "";
  }
}

/** @param {string} query */
async function ask(query) {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  status.textContent = "Reading the figures …";
  status.classList.remove("bad");
  try {
    const answer = await fetch(`report/figures?${query}`, { signal, cache: "no-store", headers: token() ? { Authorization: `Bearer ${token()}` } : {} });
    const said = await answer.json();
    signin.hidden = answer.status !== 401;
    if (answer.ok) return show(said);
    complain(answer.status === 401 ? "Who are you? Paste a key or token of this gateway." : (said?.error?.message ?? "The figures cannot be had now."));
  } catch {
    if (!signal.aborted) complain("The gateway does not answer. Try again in a moment.");
  }
}

/** @param {string} text */
function complain(text) {
  status.textContent = text;
  status.classList.add("bad");
}

/** @param {any} report */
function show(report) {
  field("from").value = report.from;
  field("to").value = report.to;
  for (const [name, choice] of CHOICES) {
    const chosen = field(name).value || (new URLSearchParams(location.search).get(name) ?? "");
    const names = new Set([...report.choices[choice], ...(chosen ? [chosen] : [])]);
    field(name).replaceChildren(new Option("All", ""), ...[...names].map((each) => new Option(each, each)));
    field(name).value = chosen;
  }
  const { elements, pictures } = sectionsOf(report);
  place.replaceChildren(...elements);
  redraws = pictures.map((start) => start());
  /** @type {HTMLElement} */ (document.getElementById("live")).hidden = !report.is_of_everybody; // for auditors, as well
  status.textContent = `${report.is_of_everybody ? "Everybody's use" : "Your own use"}, ${report.from} to ${report.to} (UTC). ${freshness(report.freshness)}${report.needs_link ? OPENS : ""}`;
}

/** @param {any} fresh */
function freshness(fresh) {
  const newest = fresh.newest_row ? `Newest call: ${fresh.newest_row.slice(0, 19).replace("T", " ")}.` : "No calls.";
  const behind = fresh.is_behind ? " More is being added up; look again soon." : "";
  const waiting = fresh.waiting > 0 ? ` ${fresh.waiting} calls are not stored yet, the oldest for ${Math.round(fresh.waiting_s)} s.` : "";
  return `${newest}${behind}${waiting}`;
}

function chosen() {
  return queryOf(Object.fromEntries(NAMES.map((name) => [name, field(name).value])));
}

function changed() {
  const query = chosen();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  void ask(query);
}

filters.addEventListener("change", changed);
filters.addEventListener("submit", (event) => event.preventDefault());
for (const button of filters.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    const today = new Date();
    field("to").value = today.toISOString().slice(0, 10);
    field("from").value = new Date(today.getTime() - (Number(button.dataset.days) - 1) * 86_400_000).toISOString().slice(0, 10);
    changed();
  });
}
signin.addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = /** @type {HTMLInputElement} */ (signin.elements.namedItem("token"));
  sessionStorage.setItem(KEPT, JSON.stringify(typed.value.trim()));
  typed.value = "";
  void ask(location.search.slice(1));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
let width = innerWidth;
addEventListener("resize", () => {
  if (width !== innerWidth) redraws.forEach((redraw) => redraw());
  width = innerWidth;
});
void ask(location.search.slice(1));
