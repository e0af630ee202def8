// @ts-check
// The list of interactions, newest first. Each is a link that opens its conversation.

import { icon, make } from "../../shared/dom.mjs";
import { outcomeText, policyText } from "../../shared/outcomes.mjs";
import { addressOf } from "../address.mjs";
import { timeText } from "../format.mjs";

/** @typedef {import("../interactions.mjs").Interaction} Interaction */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, actions) {
  const reveal = make("button", { type: "button", className: "reveal filled" });
  const list = make("ol", { className: "list" });
  const empty = make("p", { className: "empty" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Show older ones" });
  el.append(make("div", { className: "reveal-place" }, reveal), list, empty, more);
  reveal.addEventListener("click", () => {
    scrollTo({ top: 0 });
    el.scrollTop = 0;
    actions.reveal();
    el.focus({ preventScroll: true });
  });
  more.addEventListener("click", () => actions.showMore());
  list.addEventListener("click", (event) => {
    const link = /** @type {Element} */ (event.target).closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens another tab
    event.preventDefault();
    actions.open(String(link.dataset.id));
  });
  /** @type {Map<string, HTMLLIElement>} */
  let items = new Map();
  /** @type {Interaction[]} */
  let shown = [];

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.status === "signed_out";
      reveal.hidden = state.waiting.length === 0;
      reveal.textContent = `${state.waiting.length} new`;
      more.hidden = state.next === null;
      empty.hidden = state.interactions.length > 0;
      empty.textContent = emptyText(state);
      if (shown !== state.interactions) {
        shown = state.interactions;
        const now = Date.now();
        items = new Map(shown.map((each) => [each.id, items.get(each.id) ?? itemOf(each, now)]));
        arrange(list, [...items.values()]);
      }
      for (const [id, item] of items) {
        const link = /** @type {HTMLAnchorElement} */ (item.firstElementChild);
        if (id === state.open) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        link.href = addressOf(state.filters, id);
      }
    },
  };
}

/** @param {import("../state.mjs").State} state */
function emptyText(state) {
  if (state.search === "failed") return state.error;
  if (state.search === "loading") return "Looking…";
  return Object.keys(state.filters).length > 0 ? "Nothing like this in the log." : "Nothing has been said yet.";
}

/** Inserts and removes items, without moving those in place: a focused one keeps the focus. @param {HTMLElement} list @param {HTMLElement[]} items */
function arrange(list, items) {
  const kept = new Set(items);
  for (const item of [...list.children]) if (!kept.has(/** @type {HTMLElement} */ (item))) item.remove();
  items.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
}

/** @param {Interaction} interaction @param {number} now */
function itemOf(interaction, now) {
  const when = make("time", { className: "when", textContent: timeText(interaction.at, now), dateTime: new Date(interaction.at).toISOString() });
  when.title = new Date(interaction.at).toLocaleString("en-GB");
  const user = make("span", { className: "user", textContent: interaction.user || "not known", title: interaction.title });
  const model = make("span", { className: "model", textContent: interaction.model || interaction.kind });
  const badges = make("span", { className: "badges" }, ...badgesOf(interaction));
  const question = make("span", { className: "question", textContent: interaction.question || `(${kindText(interaction)})` });
  const answer = make("span", { className: "answer", textContent: interaction.outcome === "complete" ? interaction.answer : interaction.error || interaction.answer });
  const link = make("a", { href: "" }, when, user, model, badges, question, answer);
  link.dataset.id = interaction.id;
  return make("li", { className: `${interaction.isNew ? "new " : ""}${interaction.outcome === "complete" ? "" : "bad"}` }, link);
}

/** @param {Interaction} interaction */
function badgesOf(interaction) {
  const badges = [];
  if (interaction.policy) badges.push(make("span", { className: `verdict ${interaction.policy.verdict}`, title: interaction.policy.detail }, icon("shield"), policyText(interaction.policy.verdict)));
  const isImplied = interaction.outcome === "complete" || (interaction.outcome === "policy_blocked" && interaction.policy);
  if (!isImplied) badges.push(make("span", { className: "outcome", textContent: outcomeText(interaction.outcome) }));
  if (interaction.isLate) badges.push(make("span", { className: "late", textContent: "came late", title: "It ended earlier, and was stored only now." }));
  return badges;
}

/** @param {Interaction} interaction */
function kindText(interaction) {
  if (interaction.source === "image") return "an image";
  return interaction.source === "api" ? "another call" : "no text";
}
