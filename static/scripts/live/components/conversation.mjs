// @ts-check
// The whole conversation of an interaction, with the policy result of each turn.

import { icon, iconButton, make } from "../../shared/dom.mjs";
import { outcomeText } from "../../shared/outcomes.mjs";
import { timeText } from "../format.mjs";

/** @typedef {import("../turns.mjs").Turn} Turn */

const POLICY_TEXTS = {
  masked: "The policy masked parts of this request; what stands here is what went on.",
  redirected: "The policy sent this request to another model.",
  rejected: "The policy refused this request; it did not go on.",
  changed: "The policy changed this request.",
};
const ROLES = new Map([["user", "User"], ["assistant", "Model"], ["system", "Instructions"], ["developer", "Instructions"], ["tool", "Tool"], ["reasoning", "Reasoning"]]);

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, actions) {
  const title = make("h2", { tabIndex: -1 });
  const owner = make("p", { className: "owner" });
  const close = iconButton("close", "Close the conversation", () => actions.open(null));
  const turns = make("ol", { className: "turns" });
  const note = make("p", { className: "empty" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Go on reading" });
  const onlyUser = make("button", { type: "button", className: "quiet only-user", textContent: "Only this user" });
  more.addEventListener("click", () => actions.showMoreTurns());
  onlyUser.addEventListener("click", () => {
    const { conversation } = actions.state();
    if (conversation) actions.filter({ user: conversation.user });
  });
  const head = make("div", { className: "conversation-head" }, make("div", {}, title, owner), close);
  el.append(head, onlyUser, turns, note, more);
  /** @type {string | null} */
  let open = null;
  /** @type {unknown} */
  let shown;
  let isScrollDue = false;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.open === null || state.status === "signed_out";
      const { conversation } = state;
      const hasChanged = state.open !== open;
      if (hasChanged) {
        const previous = open;
        open = state.open;
        isScrollDue = true;
        if (open === null) focusInteraction(previous);
        else title.focus({ preventScroll: true });
      }
      if (!hasChanged && shown === conversation) return;
      shown = conversation;
      title.textContent = conversation?.name || "Conversation";
      owner.textContent = conversation ? [conversation.user, conversation.title].filter(Boolean).join(" · ") : "";
      onlyUser.hidden = !conversation?.user || conversation.error !== "";
      turns.replaceChildren(...(conversation?.turns ?? []).map((turn) => turnOf(turn, state.open)));
      note.textContent = conversation === null ? "Reading…" : conversation.error;
      note.hidden = note.textContent === "";
      more.hidden = !conversation?.next;
      if (isScrollDue && conversation !== null) {
        isScrollDue = false;
        const selected = /** @type {HTMLElement | null} */ (turns.querySelector(".is-selected"));
        el.scrollTop = selected && selected !== turns.firstElementChild ? selected.offsetTop - head.offsetHeight : 0;
      }
    },
  };
}

/** Moves the focus back to the interaction whose conversation was open. @param {string | null} id */
function focusInteraction(id) {
  if (id === null) return;
  const link = /** @type {HTMLElement | null} */ (document.querySelector(`#interactions a[data-id="${CSS.escape(id)}"]`));
  (link ?? document.getElementById("interactions"))?.focus({ preventScroll: true });
}

/** @param {Turn} turn @param {string | null} selected the id of the open interaction */
function turnOf(turn, selected) {
  const el = make("li", { className: `turn${turn.id === selected ? " is-selected" : ""}` });
  const head = make("p", { className: "turn-head" }, make("time", { textContent: timeText(turn.at, Date.now()) }), make("span", { textContent: turn.model }));
  if (turn.isBranch) head.append(make("span", { className: "branch", textContent: "another branch" }));
  el.append(head);
  if (turn.policy) {
    const rules = turn.policy.detail ? ` Rules: ${turn.policy.detail}.` : "";
    el.append(make("p", { className: `policy ${turn.policy.verdict}` }, icon("shield"), make("span", { textContent: POLICY_TEXTS[turn.policy.verdict] + rules })));
  }
  for (const { role, text, isRaw } of turn.messages) {
    const author = make("h3", { textContent: ROLES.get(role) ?? role });
    el.append(make("div", { className: `message ${ROLES.has(role) ? role : "other"}` }, author, make(isRaw ? "pre" : "p", { textContent: text })));
  }
  if (turn.outcome !== "complete") {
    const label = outcomeText(turn.outcome);
    el.append(make("p", { className: "ending", textContent: turn.error ? `${label}: ${turn.error}` : label }));
  }
  const facts = turn.facts.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })));
  el.append(make("details", {}, make("summary", { textContent: "Details" }), make("dl", {}, ...facts)));
  return el;
}
