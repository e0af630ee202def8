// @ts-check
// One message: what was said, how it ended, and what to do when that was not well.

import { focusComposer, make } from "../dom.mjs";
import { mount as mountBlocks } from "./blocks.mjs";

/** @typedef {import("../state.mjs").Message} Message */

/**
 * @param {HTMLElement} el
 * @param {{ retry: () => void }} actions
 * @returns {{ update: (message: Message, isLast: boolean) => void }}
 */
export function mount(el, actions) {
  const who = make("h2", { className: "who" });
  const body = make("div", { className: "said" });
  const waiting = make("p", { className: "waiting" }, make("span"), make("span"), make("span"));
  waiting.setAttribute("aria-label", "Waiting for the first word");
  const problem = make("div", { className: "problem" });
  const meta = make("p", { className: "meta" });
  const again = make("button", { type: "button", className: "quiet again", textContent: "Try again" });
  again.addEventListener("click", () => {
    actions.retry();
    focusComposer();
  });
  el.append(who, body, waiting, problem, meta, again);
  const blocks = mountBlocks(body);

  return {
    update(message, isLast) {
      el.className = `message ${message.role} ${message.status}`;
      who.textContent = message.role === "user" ? "You" : message.model || "Assistant";
      if (message.role === "user") body.textContent = message.text;
      else blocks.update(message.text);
      body.hidden = message.text === "";
      waiting.hidden = message.status !== "streaming" || message.text !== "";
      showProblem(problem, message);
      meta.textContent = metaOf(message);
      meta.hidden = meta.textContent === "";
      again.hidden = !isLast || (message.status !== "failed" && message.status !== "stopped");
    },
  };
}

/**
 * @param {HTMLElement} el
 * @param {Message} message
 */
function showProblem(el, message) {
  const { problem } = message;
  el.hidden = !problem;
  if (!problem) return;
  const detail = problem.detail && problem.detail !== problem.title ? [make("p", { className: "detail" }, problem.detail)] : [];
  el.replaceChildren(make("p", {}, make("strong", {}, problem.title), ` ${problem.advice}`), ...detail);
}

/** @param {Message} message */
function metaOf(message) {
  if (message.role === "user" || message.status === "streaming") return "";
  const parts = [];
  if (message.status === "stopped") parts.push("Stopped");
  if (message.reason === "length") parts.push("Ended at the token limit");
  if (message.reason === "content_filter") parts.push("Ended by the model’s content filter");
  if (message.usage) parts.push(`${message.usage.prompt} tokens in, ${message.usage.completion} out`);
  if (message.seconds !== undefined && message.status !== "failed") parts.push(`${message.seconds.toFixed(1)} s`);
  return parts.join(" · ");
}
