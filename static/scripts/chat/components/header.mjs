// @ts-check
// The header: the conversation's title, use case, model, parameters; on narrow pages also the button of the sidebar.

import { iconButton, make } from "../../shared/dom.mjs";
import { titleOf } from "../chats.mjs";
import { useCaseOf } from "../state.mjs";
import { focusComposer } from "./composer.mjs";

/** @typedef {import("../state.mjs").State} State */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} openSidebar
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions, openSidebar) {
  const menu = iconButton("menu", "Conversations", openSidebar);
  menu.classList.add("menu");
  const title = make("p", { className: "title" });
  const badge = make("span", { className: "badge", textContent: "Demo model" });
  badge.title = "Answers are templates. Set OPENAI_API_KEY or LLM_ENDPOINT to connect a real model.";
  const useCase = make("select", { id: "use-case", ariaLabel: "Use case" });
  const select = make("select", { id: "model-select", ariaLabel: "Model" });
  const modelName = make("input", { id: "model-name", ariaLabel: "Model", placeholder: "Model name", spellcheck: false });
  const parameters = iconButton("sliders", "Parameters", () => actions.showDialog({ kind: "parameters" }));
  const newChat = iconButton("plus", "New chat", () => {
    actions.newChat();
    focusComposer();
  });
  newChat.classList.add("new-chat-icon");
  useCase.addEventListener("change", () => actions.chooseUseCase(useCase.value));
  select.addEventListener("change", () => actions.chooseModel(select.value));
  modelName.addEventListener("input", () => actions.chooseModel(modelName.value.trim()));
  el.append(menu, title, make("div", { className: "tools" }, badge, useCase, select, modelName, parameters, newChat));
  /** @type {unknown} */
  let shownModels = null;
  /** @type {unknown} */
  let shownUseCases = null;

  return {
    update(state) {
      if (shownModels !== state.modelIds) {
        shownModels = state.modelIds;
        select.replaceChildren(...state.modelIds.map((id) => new Option(id, id)));
      }
      if (shownUseCases !== state.page.useCases) {
        shownUseCases = state.page.useCases;
        useCase.replaceChildren(...state.page.useCases.map((each) => new Option(each.name, each.id)));
      }
      useCase.value = useCaseOf(state).id;
      useCase.classList.toggle("changed", state.choices.instructions !== null || state.chat.instructions !== null);
      title.textContent = titleOf(state.chat);
      badge.hidden = !state.isDemo;
      select.hidden = state.modelIds.length < 2;
      modelName.hidden = state.models !== "unlisted";
      parameters.classList.toggle("marked", Object.keys(state.choices.values).length > 0);
      if (select.value !== state.model) select.value = state.model;
      if (modelName.value.trim() !== state.model) modelName.value = state.model;
      newChat.hidden = state.chat.messages.length === 0;
    },
  };
}
