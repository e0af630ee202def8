// @ts-check
// The form of the filters, which are also in the page's URL.

import { make } from "../../shared/dom.mjs";
import { OUTCOMES, POLICY_OUTCOMES } from "../../shared/outcomes.mjs";
import { FILTER_NAMES } from "../address.mjs";

const KINDS = /** @type {const} */ ([["chat", "Chats"], ["image", "Images"], ["api", "Other calls"]]);
const SEARCH_DELAY_MS = 350; // after the last key

/**
 * @param {HTMLElement} el the form
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, actions) {
  const search = make("input", { type: "search", name: "q", placeholder: "Words in chats", maxLength: 200, spellcheck: false });
  const user = make("input", { name: "user", placeholder: "Anybody", autocomplete: "off", spellcheck: false, maxLength: 512 });
  const model = make("input", { name: "model", placeholder: "Any", autocomplete: "off", spellcheck: false, maxLength: 512 });
  const outcome = choice("outcome", "Any", OUTCOMES);
  const policy = choice("policy", "Any or none", [["any", "Anything"], ...POLICY_OUTCOMES]);
  const kind = choice("kind", "All", KINDS);
  const from = make("input", { type: "date", name: "from" });
  const users = make("datalist", { id: "user-names" });
  const models = make("datalist", { id: "model-names" });
  user.setAttribute("list", users.id);
  model.setAttribute("list", models.id);
  const clear = make("button", { type: "button", className: "quiet", textContent: "Clear" });
  const toggle = make("button", { type: "button", className: "quiet toggle", textContent: "Filters" });
  toggle.setAttribute("aria-expanded", "false");
  toggle.addEventListener("click", () => toggle.setAttribute("aria-expanded", String(el.classList.toggle("is-open"))));
  const fields = { q: search, user, model, outcome, policy, kind, from };
  el.append(
    labelled("Search", search, "wide"), toggle, labelled("User", user), labelled("Model", model), labelled("Outcome", outcome),
    labelled("Policy", policy), labelled("Kind", kind), labelled("Since", from), clear, users, models,
  );

  const apply = () => actions.filter(Object.fromEntries(FILTER_NAMES.map((name) => [name, fields[name].value.trim()]).filter(([, value]) => value !== "")));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, SEARCH_DELAY_MS);
  });
  for (const field of [user, model, outcome, policy, kind, from]) field.addEventListener("change", apply);
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    apply();
  });
  clear.addEventListener("click", () => {
    actions.filter({});
    search.focus();
  });
  /** @type {unknown} */
  let shown = null;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.status === "signed_out";
      clear.disabled = Object.keys(state.filters).length === 0;
      fillOptions(users, state.interactions.map((each) => each.user));
      fillOptions(models, state.interactions.map((each) => each.model));
      if (shown === state.filters) return;
      shown = state.filters;
      for (const name of FILTER_NAMES) {
        if (document.activeElement !== fields[name] || !state.filters[name]) fields[name].value = state.filters[name] ?? "";
      }
    },
  };
}

/** @param {HTMLDataListElement} list @param {string[]} names */
function fillOptions(list, names) {
  const unique = [...new Set(names)].filter(Boolean).sort();
  if (unique.join("\n") === list.dataset.names) return;
  list.dataset.names = unique.join("\n");
  list.replaceChildren(...unique.map((name) => make("option", { value: name })));
}

/** @param {string} name @param {string} all @param {readonly (readonly [string, string])[]} choices */
function choice(name, all, choices) {
  return make("select", { name }, new Option(all, ""), ...choices.map(([value, text]) => new Option(text, value)));
}

/** @param {string} text @param {HTMLElement} field @param {string} [className] */
function labelled(text, field, className = "") {
  return make("label", { className }, text, field);
}
