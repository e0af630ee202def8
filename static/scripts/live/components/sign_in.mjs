// @ts-check
// What is shown to one whom the gateway does not know, or who is no auditor: a way to say who they are, and nothing else.

import { make } from "../../shared/dom.mjs";

/**
 * @param {HTMLElement} el the form
 * @param {(key: string) => void} enter
 */
export function mount(el, enter) {
  const why = make("p", { className: "why", id: "why" });
  const key = make("input", { type: "password", name: "token", autocomplete: "off", required: true, spellcheck: false });
  key.setAttribute("aria-describedby", "why");
  const command = make("pre", {}, make("code", { textContent: "llm-gateway open" }));
  const byKey = [make("label", {}, "Key or token ", key), make("button", { type: "submit", className: "filled", textContent: "Sign in" })];
  el.append(why, command, ...byKey);
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    enter(key.value.trim());
    key.value = "";
  });

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.standing !== "signed_out";
      command.hidden = !state.isLinkNeeded;
      for (const each of byKey) each.hidden = state.isLinkNeeded;
      if (state.isLinkNeeded) {
        why.textContent = "This page shows what everybody said. Open the link that the gateway printed when it started, or a new one, which this command prints on its machine:";
        return;
      }
      const refused = state.fault ? "This key or token is not an auditor’s. Sign in with one that is." : "";
      why.textContent = refused || "This page is for auditors. Sign in with an auditor’s key or token; it stays in this tab.";
    },
  };
}
