// @ts-check
// The head of the conversation: its title, who answers it and how, and the way to the list on a narrow page.

import { titleOf } from "../chats.mjs";
import { focusComposer, iconButton, make } from "../../shared/dom.mjs";
import { useCaseOf } from "../state.mjs";

/** @typedef {import("../state.mjs").State} State */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} toggleSidebar
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions, toggleSidebar) {
  const menu = iconButton("menu", "Conversations", toggleSidebar);
  menu.classList.add("menu");
  const title = make("p", { className: "title" });
  const badge = make("span", { className: "badge", textContent: "Demo model" });
  badge.title = "Answers are templates. Set OPENAI_API_KEY or LLM_ENDPOINT to connect a real model.";
  const useCase = make("select", { id: "use-case", ariaLabel: "Use case" });
  const select = make("select", { id: "model-select", ariaLabel: "Model" });
  const typed = make("input", { id: "model-name", ariaLabel: "Model", placeholder: "Model name", spellcheck: false });
  const tune = iconButton("sliders", "Parameters", () => actions.showDialog({ kind: "parameters" }));
  const fresh = iconButton("plus", "New chat", () => {
    actions.reset();
    focusComposer();
  });
  fresh.classList.add("fresh");
  useCase.addEventListener("change", () => actions.chooseUseCase(useCase.value));
  select.addEventListener("change", () => actions.chooseModel(select.value));
  typed.addEventListener("input", () => actions.chooseModel(typed.value.trim()));
  el.append(menu, title, make("div", { className: "tools" }, badge, useCase, select, typed, tune, fresh));
  /** @type {unknown} */
  let listed = null;
  /** @type {unknown} */
  let offered = null;

  return {
    update(state) {
      if (listed !== state.modelIds) {
        listed = state.modelIds;
        select.replaceChildren(...state.modelIds.map((id) => new Option(id, id)));
      }
      if (offered !== state.page.useCases) {
        offered = state.page.useCases;
        useCase.replaceChildren(...state.page.useCases.map((each) => new Option(each.name, each.id)));
      }
      useCase.value = useCaseOf(state).id;
      useCase.classList.toggle("changed", state.choices.instructions !== null || state.chat.instructions !== null);
      title.textContent = titleOf(state.chat);
      badge.hidden = !state.isDemo;
      select.hidden = state.modelIds.length < 2;
      typed.hidden = state.models !== "unknown";
      tune.classList.toggle("marked", Object.keys(state.choices.values).length > 0);
      if (select.value !== state.model) select.value = state.model;
      if (typed.value.trim() !== state.model) typed.value = state.model;
      fresh.hidden = state.chat.messages.length === 0;
    },
  };
}
