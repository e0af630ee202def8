// @ts-check
// Which interactions are shown. What is chosen stands in the address, too.

import { make } from "../../shared/dom.mjs";
import { OUTCOMES } from "../../report/numbers.mjs";
import { FILTERS, KINDS, POLICIES } from "../state.mjs";

const TYPING_MS = 350;

/**
 * @param {HTMLElement} el the form
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, actions) {
  const search = make("input", { type: "search", name: "q", placeholder: "Words in chats", maxLength: 200, spellcheck: false });
  const user = make("input", { name: "user", placeholder: "Anybody", autocomplete: "off", spellcheck: false, maxLength: 512 });
  const model = make("input", { name: "model", placeholder: "Any", autocomplete: "off", spellcheck: false, maxLength: 512 });
  const outcome = choice("outcome", "Any", OUTCOMES);
  const policy = choice("policy", "Any or none", POLICIES);
  const kind = choice("kind", "All", KINDS);
  const from = make("input", { type: "date", name: "from" });
  const users = make("datalist", { id: "known-users" });
  const models = make("datalist", { id: "known-models" });
  user.setAttribute("list", users.id);
  model.setAttribute("list", models.id);
  const clear = make("button", { type: "button", className: "quiet", textContent: "Clear" });
  const rest = make("button", { type: "button", className: "quiet rest", textContent: "Filters" });
  rest.setAttribute("aria-expanded", "false");
  rest.addEventListener("click", () => rest.setAttribute("aria-expanded", String(el.classList.toggle("is-open"))));
  const fields = { q: search, user, model, outcome, policy, kind, from };
  el.append(
    labelled("Search", search, "wide"), rest, labelled("User", user), labelled("Model", model), labelled("Outcome", outcome),
    labelled("Policy", policy), labelled("Kind", kind), labelled("Since", from), clear, users, models,
  );

  const want = () => actions.want(Object.fromEntries(FILTERS.map((name) => [name, fields[name].value.trim()]).filter(([, value]) => value !== "")));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let typing;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(want, TYPING_MS);
  });
  for (const field of [user, model, outcome, policy, kind, from]) field.addEventListener("change", want);
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    want();
  });
  clear.addEventListener("click", () => {
    actions.want({});
    search.focus();
  });
  /** @type {unknown} */
  let shown = null;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.standing === "signed_out";
      clear.disabled = Object.keys(state.wanted).length === 0;
      offer(users, state.lines.map((line) => line.user));
      offer(models, state.lines.map((line) => line.model));
      if (shown === state.wanted) return;
      shown = state.wanted;
      for (const name of FILTERS) {
        if (document.activeElement !== fields[name] || !state.wanted[name]) fields[name].value = state.wanted[name] ?? "";
      }
    },
  };
}

/** @param {HTMLDataListElement} list @param {string[]} names */
function offer(list, names) {
  const known = [...new Set(names)].filter(Boolean).sort();
  if (known.join("\n") === list.dataset.known) return;
  list.dataset.known = known.join("\n");
  list.replaceChildren(...known.map((name) => make("option", { value: name })));
}

/** @param {string} name @param {string} all @param {readonly (readonly [string, string])[]} choices */
function choice(name, all, choices) {
  return make("select", { name }, new Option(all, ""), ...choices.map(([value, text]) => new Option(text, value)));
}

/** @param {string} text @param {HTMLElement} field @param {string} [className] */
function labelled(text, field, className = "") {
  return make("label", { className }, text, field);
}
