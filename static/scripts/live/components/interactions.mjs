// @ts-check
// The interactions, newest first: a line each, which opens its conversation.

import { icon, make } from "../../shared/dom.mjs";
import { addressOf, outcomeText, timeOf } from "../state.mjs";

/** @typedef {import("../state.mjs").Line} Line */

const VERDICTS = { masked: "Masked", redirected: "Redirected", rejected: "Refused", changed: "Changed" };

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, actions) {
  const fresh = make("button", { type: "button", className: "fresh filled" });
  const list = make("ol", { className: "list" });
  const none = make("p", { className: "none" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Show older ones" });
  el.append(make("div", { className: "fresh-place" }, fresh), list, none, more);
  fresh.addEventListener("click", () => {
    scrollTo({ top: 0 });
    el.scrollTop = 0;
    actions.reveal();
    el.focus({ preventScroll: true });
  });
  more.addEventListener("click", () => actions.showMore());
  list.addEventListener("click", (event) => {
    const link = /** @type {Element} */ (event.target).closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser's own: in another tab
    event.preventDefault();
    actions.open(String(link.dataset.id));
  });
  /** @type {Map<string, HTMLLIElement>} */
  let items = new Map();
  /** @type {Line[]} */
  let shown = [];

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.standing === "signed_out";
      fresh.hidden = state.waiting.length === 0;
      fresh.textContent = `${state.waiting.length} new`;
      more.hidden = state.next === null;
      none.hidden = state.lines.length > 0;
      none.textContent = emptyText(state);
      if (shown !== state.lines) {
        shown = state.lines;
        const now = Date.now();
        items = new Map(shown.map((line) => [line.id, items.get(line.id) ?? itemOf(line, now)]));
        place(list, [...items.values()]);
      }
      for (const [id, item] of items) {
        const link = /** @type {HTMLAnchorElement} */ (item.firstElementChild);
        if (id === state.open) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        link.href = addressOf(state.wanted, id);
      }
    },
  };
}

/** @param {import("../state.mjs").State} state */
function emptyText(state) {
  if (state.search === "failed") return state.fault;
  if (state.search === "reading") return "Looking…";
  return Object.keys(state.wanted).length > 0 ? "Nothing like this in the log." : "Nothing has been said yet.";
}

/** Puts the items in order, without moving those that stand right: a focused one keeps the focus. @param {HTMLElement} list @param {HTMLElement[]} wanted */
function place(list, wanted) {
  const kept = new Set(wanted);
  for (const item of [...list.children]) if (!kept.has(/** @type {HTMLElement} */ (item))) item.remove();
  wanted.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
}

/** @param {Line} line @param {number} now */
function itemOf(line, now) {
  const when = make("time", { className: "when", textContent: timeOf(line.at, now), dateTime: new Date(line.at).toISOString() });
  when.title = new Date(line.at).toLocaleString("en-GB");
  const who = make("span", { className: "who", textContent: line.user || "not known", title: line.title });
  const model = make("span", { className: "model", textContent: line.model || line.kind });
  const badges = make("span", { className: "badges" }, ...badgesOf(line));
  const asked = make("span", { className: "asked", textContent: line.asked || `(${kindText(line)})` });
  const said = make("span", { className: "said", textContent: line.outcome === "complete" ? line.said : line.error || line.said });
  const link = make("a", { href: "" }, when, who, model, badges, asked, said);
  link.dataset.id = line.id;
  return make("li", { className: `${line.isNew ? "new " : ""}${line.outcome === "complete" ? "" : "bad"}` }, link);
}

/** @param {Line} line */
function badgesOf(line) {
  const badges = [];
  if (line.policy) badges.push(make("span", { className: `verdict ${line.policy.verdict}`, title: line.policy.detail }, icon("shield"), VERDICTS[line.policy.verdict]));
  const isSaid = line.outcome === "complete" || (line.outcome === "policy_blocked" && line.policy);
  if (!isSaid) badges.push(make("span", { className: "outcome", textContent: outcomeText(line.outcome) }));
  if (line.isLate) badges.push(make("span", { className: "late", textContent: "came late", title: "It ended earlier, and was stored only now." }));
  return badges;
}

/** @param {Line} line */
function kindText(line) {
  if (line.source === "image") return "an image";
  return line.source === "api" ? "another call" : "no text";
}
