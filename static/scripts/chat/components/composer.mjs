// @ts-check
// The message field. Enter sends, Shift+Enter inserts a line break, Esc stops the answer, ↑ edits the last question.

import { icon, make } from "../../shared/dom.mjs";
import { canSend, draftOf, isStreaming } from "../state.mjs";

/** @typedef {import("../state.mjs").State} State */

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions) {
  const text = make("textarea", { id: "composer-text", rows: 1, placeholder: "Write a message", ariaLabel: "Message" });
  const send = make("button", { type: "submit", className: "send", title: "Send (Enter)", ariaLabel: "Send" }, icon("send"));
  const stop = make("button", { type: "button", className: "send stop", title: "Stop (Esc)", ariaLabel: "Stop" }, icon("stop"));
  const form = make("form", {}, text, send, stop);
  const notice = make("p", { className: "toast" });
  const hint = make("p", { className: "hint" });
  const usagePolicy = make("a", { target: "_blank", rel: "noopener noreferrer", textContent: "Usage policy" });
  el.append(notice, form, make("div", { className: "footnote" }, hint, usagePolicy));

  /** Empties the field at once, not with the next frame: the user may already type the next message. */
  const submit = () => {
    actions.send(text.value);
    text.value = draftOf(actions.state());
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  text.addEventListener("input", () => actions.changeDraft(text.value));
  text.addEventListener("keydown", (event) => {
    if (event.key === "ArrowUp" && text.value === "") return void editLast(event);
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  stop.addEventListener("click", () => {
    actions.stop();
    focusComposer();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) actions.stop();
  });

  let hadNotice = false;
  return {
    update(state) {
      const streams = isStreaming(state);
      const draft = draftOf(state);
      if (text.value !== draft) {
        text.value = draft;
        text.setSelectionRange(draft.length, draft.length);
      }
      fit(text);
      send.hidden = streams;
      send.disabled = !canSend(state, draft);
      stop.hidden = !streams;
      hint.textContent = streams ? "Esc stops the answer" : "Enter sends · Shift+Enter makes a new line";
      usagePolicy.hidden = state.page.policyUrl === null;
      if (state.page.policyUrl) usagePolicy.href = state.page.policyUrl;
      notice.textContent = state.notice;
      notice.hidden = state.notice === "";
      if (state.notice && !hadNotice) setTimeout(() => actions.showNotice(""), 6000);
      hadNotice = state.notice !== "";
    },
  };
}

/** Opens the last question for editing. @param {KeyboardEvent} event */
function editLast(event) {
  const edits = document.querySelectorAll(".edit-button:not([hidden], :disabled)");
  const last = /** @type {HTMLButtonElement | undefined} */ (edits[edits.length - 1]);
  if (!last) return;
  event.preventDefault();
  last.click();
}

/** Sets the height to that of the text. The style sheet limits it. @param {HTMLTextAreaElement} text */
function fit(text) {
  if (CSS.supports("field-sizing", "content")) return;
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

/** Moves the focus to the message field. Not on touch screens, where that opens the keyboard. */
export function focusComposer() {
  if (matchMedia("(hover: hover)").matches) document.getElementById("composer-text")?.focus({ preventScroll: true });
}
