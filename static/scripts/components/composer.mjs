// @ts-check
// Where a message is written: Enter sends, Shift+Enter makes a new line, Esc stops an answer.

import { focusComposer, make } from "../dom.mjs";
import { canSend, isStreaming } from "../state.mjs";

/** @typedef {import("../state.mjs").State} State */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions) {
  const text = make("textarea", { id: "composer-text", rows: 1, placeholder: "Write a message", ariaLabel: "Message" });
  const send = make("button", { type: "submit", className: "send", textContent: "Send" });
  const stop = make("button", { type: "button", className: "send stop", textContent: "Stop" });
  const form = make("form", {}, text, send, stop);
  const hint = make("p", { className: "hint" });
  el.append(form, hint);

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.send(text.value);
  });
  text.addEventListener("input", () => actions.changeDraft(text.value));
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    actions.send(text.value);
  });
  stop.addEventListener("click", () => {
    actions.stop();
    focusComposer();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") actions.stop();
  });

  return {
    update(state) {
      const streams = isStreaming(state);
      if (text.value !== state.draft) {
        text.value = state.draft;
        text.setSelectionRange(text.value.length, text.value.length);
      }
      fit(text);
      send.hidden = streams;
      send.disabled = !canSend(state, state.draft);
      stop.hidden = !streams;
      hint.textContent = streams ? "Esc stops the answer" : "Enter sends · Shift+Enter makes a new line";
    },
  };
}

/** @param {HTMLTextAreaElement} text as high as its lines; the style sheet sets the most */
function fit(text) {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}
