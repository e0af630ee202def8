// @ts-check
// What is shown to one whom the gateway does not know, or who is no auditor: a way to say who they are, and nothing else.

import { make } from "../dom.mjs";

/**
 * @param {HTMLElement} el the form
 * @param {(key: string) => void} enter
 */
export function mount(el, enter) {
  const why = make("p", { className: "why", id: "why" });
  const key = make("input", { type: "password", name: "token", autocomplete: "off", required: true, spellcheck: false });
  key.setAttribute("aria-describedby", "why");
  el.append(why, make("label", {}, "Key or token ", key), make("button", { type: "submit", className: "filled", textContent: "Sign in" }));
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    enter(key.value.trim());
    key.value = "";
  });

  return {
    /** @param {import("./lines.mjs").State} state */
    update(state) {
      el.hidden = state.standing !== "signed_out";
      const refused = state.fault ? "This key or token is not an auditor’s. Sign in with one that is." : "";
      why.textContent = refused || "This page is for auditors. Sign in with an auditor’s key or token; it stays in this tab.";
    },
  };
}
