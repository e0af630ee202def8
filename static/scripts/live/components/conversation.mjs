// @ts-check
// The whole conversation of an interaction, with what the policy did in each turn.

import { icon, iconButton, make } from "../../shared/dom.mjs";
import { outcomeText, timeOf } from "../state.mjs";

/** @typedef {import("../turns.mjs").Turn} Turn */

const SENTENCES = {
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
  const whose = make("p", { className: "whose" });
  const shut = iconButton("close", "Close the conversation", () => actions.open(null));
  const turns = make("ol", { className: "turns" });
  const note = make("p", { className: "none" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Go on reading" });
  const narrow = make("button", { type: "button", className: "quiet only", textContent: "Only this user" });
  more.addEventListener("click", () => actions.readOn());
  narrow.addEventListener("click", () => {
    const { conversation } = actions.state();
    if (conversation) actions.want({ user: conversation.user });
  });
  const head = make("div", { className: "reader-head" }, make("div", {}, title, whose), shut);
  el.append(head, narrow, turns, note, more);
  /** @type {string | null} */
  let open = null;
  /** @type {unknown} */
  let shown;
  let isUnseen = false;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.open === null || state.standing === "signed_out";
      const { conversation } = state;
      const isOther = state.open !== open;
      if (isOther) {
        const left = open;
        open = state.open;
        isUnseen = true;
        if (open === null) backTo(left);
        else title.focus({ preventScroll: true });
      }
      if (!isOther && shown === conversation) return;
      shown = conversation;
      title.textContent = conversation?.name || "Conversation";
      whose.textContent = conversation ? [conversation.user, conversation.title].filter(Boolean).join(" · ") : "";
      narrow.hidden = !conversation?.user || conversation.fault !== "";
      turns.replaceChildren(...(conversation?.turns ?? []).map((turn) => turnOf(turn, state.open)));
      note.textContent = conversation === null ? "Reading…" : conversation.fault;
      note.hidden = note.textContent === "";
      more.hidden = !conversation?.next;
      if (isUnseen && conversation !== null) {
        isUnseen = false;
        const asked = /** @type {HTMLElement | null} */ (turns.querySelector(".is-asked"));
        el.scrollTop = asked && asked !== turns.firstElementChild ? asked.offsetTop - head.offsetHeight : 0;
      }
    },
  };
}

/** The keyboard goes back to where it came from. @param {string | null} id */
function backTo(id) {
  if (id === null) return;
  const link = /** @type {HTMLElement | null} */ (document.querySelector(`#lines a[data-id="${CSS.escape(id)}"]`));
  (link ?? document.getElementById("lines"))?.focus({ preventScroll: true });
}

/** @param {Turn} turn @param {string | null} asked the interaction that was clicked */
function turnOf(turn, asked) {
  const el = make("li", { className: `turn${turn.id === asked ? " is-asked" : ""}` });
  const head = make("p", { className: "turn-head" }, make("time", { textContent: timeOf(turn.at, Date.now()) }), make("span", { textContent: turn.model }));
  if (turn.isBranch) head.append(make("span", { className: "branch", textContent: "another branch" }));
  el.append(head);
  if (turn.policy) {
    const rules = turn.policy.detail ? ` Rules: ${turn.policy.detail}.` : "";
    el.append(make("p", { className: `ruling ${turn.policy.verdict}` }, icon("shield"), make("span", { textContent: SENTENCES[turn.policy.verdict] + rules })));
  }
  for (const { role, text, isRaw } of turn.said) {
    const who = make("h3", { textContent: ROLES.get(role) ?? role });
    el.append(make("div", { className: `words ${ROLES.has(role) ? role : "other"}` }, who, make(isRaw ? "pre" : "p", { textContent: text })));
  }
  if (turn.outcome !== "complete") {
    const word = outcomeText(turn.outcome);
    el.append(make("p", { className: "ending", textContent: turn.error ? `${word}: ${turn.error}` : word }));
  }
  const facts = turn.facts.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })));
  el.append(make("details", {}, make("summary", { textContent: "Details" }), make("dl", {}, ...facts)));
  return el;
}
