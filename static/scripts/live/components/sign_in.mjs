// @ts-check
// The sign-in for users who are unknown or not auditors. They see nothing else of the page.

import { make } from "../../shared/dom.mjs";

/**
 * @param {HTMLElement} el the form
 * @param {(key: string) => void} signIn
 */
export function mount(el, signIn) {
  const reason = make("p", { className: "reason", id: "sign-in-reason" });
  const key = make("input", { type: "password", name: "token", autocomplete: "off", required: true, spellcheck: false });
  key.setAttribute("aria-describedby", "sign-in-reason");
  const command = make("pre", {}, make("code", { textContent: "llm-gateway open" }));
  const keyFields = [make("label", {}, "Key or token ", key), make("button", { type: "submit", className: "filled", textContent: "Sign in" })];
  el.append(reason, command, ...keyFields);
  el.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(key.value.trim());
    key.value = "";
  });

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.status !== "signed_out";
      command.hidden = !state.isLinkNeeded;
      for (const each of keyFields) each.hidden = state.isLinkNeeded;
      if (state.isLinkNeeded) {
        reason.textContent = "This page shows what everybody said. Open the link that the gateway printed when it started, or a new one, which this command prints on its machine:";
        return;
      }
      const refused = state.error ? "This key or token is not an auditor’s. Sign in with one that is." : "";
      reason.textContent = refused || "This page is for auditors. Sign in with an auditor’s key or token; it stays in this tab.";
    },
  };
}
