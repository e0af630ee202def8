// @ts-check
// The head of the page: what this is, which model answers, and a way to start afresh.

import { focusComposer, make } from "../dom.mjs";
import { isStreaming } from "../state.mjs";

/** @typedef {import("../state.mjs").State} State */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions) {
  const name = make("h1", { className: "brand" }, make("span", { className: "mark" }), make("span", {}, "LLM gateway"));
  const badge = make("span", { className: "badge", textContent: "Demo model" });
  badge.title = "Answers are templates. Set OPENAI_API_KEY or LLM_ENDPOINT to connect a real model.";
  const select = make("select", { id: "model-select", ariaLabel: "Model" });
  const typed = make("input", { id: "model-name", ariaLabel: "Model", placeholder: "Model name", spellcheck: false });
  const fresh = make("button", { type: "button", className: "quiet", textContent: "New chat" });
  select.addEventListener("change", () => actions.chooseModel(select.value));
  typed.addEventListener("input", () => actions.chooseModel(typed.value.trim()));
  fresh.addEventListener("click", () => {
    actions.reset();
    focusComposer();
  });
  el.append(name, make("div", { className: "tools" }, badge, select, typed, fresh));
  /** @type {string[]} */
  let listed = [];

  return {
    update(state) {
      if (listed !== state.modelIds) {
        listed = state.modelIds;
        select.replaceChildren(...listed.map((id) => new Option(id, id)));
      }
      badge.hidden = !state.isDemo;
      select.hidden = state.modelIds.length < 2;
      typed.hidden = state.models === "asking" || state.modelIds.length > 0;
      if (select.value !== state.model) select.value = state.model;
      if (typed.value.trim() !== state.model) typed.value = state.model;
      fresh.hidden = state.messages.length === 0;
      fresh.disabled = isStreaming(state);
    },
  };
}
