// @ts-check
// One message: what was said, how it ended, what can be done with it, and what to do when it went wrong.

import { copyText, focusComposer, icon, iconButton, make } from "../../shared/dom.mjs";
import { splitThought } from "../markdown.mjs";
import { mount as mountBlocks } from "./blocks.mjs";

/** @typedef {import("../chats.mjs").Message} Message */
/** @typedef {import("../controller.mjs").Actions} Actions */
/** @typedef {{ isLast: boolean, isBusy: boolean, variants: number[] }} Standing */

/**
 * @param {HTMLElement} el
 * @param {Actions} actions
 * @returns {{ update: (message: Message, standing: Standing) => void }}
 */
export function mount(el, actions) {
  const who = make("h2", { className: "who" });
  const thought = mountThought();
  const body = make("div", { className: "said" });
  const waiting = make("p", { className: "waiting" }, make("span"), make("span"), make("span"));
  const search = make("p", { className: "searching", textContent: "The connection was cut. Looking for the rest of the answer…" });
  const policy = make("p", { className: "policy" });
  const problem = make("div", { className: "problem" });
  const bar = make("div", { className: "bar" });
  el.append(who, policy, thought.el, body, waiting, search, problem, bar);
  const blocks = mountBlocks(body);
  /** @type {Message} */
  let now;
  const tools = mountTools(bar, actions, () => now, edit);

  function edit() {
    const text = make("textarea", { className: "edit-text", value: now.text, rows: Math.min(now.text.split("\n").length + 1, 12), ariaLabel: "Edit your message" });
    const done = () => {
      form.remove();
      body.hidden = false;
      bar.hidden = false;
    };
    const cancel = make("button", { type: "button", className: "quiet", textContent: "Cancel" });
    const send = make("button", { type: "submit", className: "filled", textContent: "Send" });
    const form = make("form", { className: "edit" }, text, make("div", { className: "edit-tools" }, cancel, send));
    cancel.addEventListener("click", () => {
      done();
      tools.focusEdit();
    });
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        cancel.click();
      }
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (text.value.trim() === "") return;
      done();
      actions.edit(now.id, text.value);
      focusComposer();
    });
    body.hidden = true;
    bar.hidden = true;
    el.append(form);
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  return {
    update(message, standing) {
      now = message;
      const isAnswer = message.role !== "user";
      const isOver = message.status !== "streaming";
      const split = isAnswer && !isOver ? splitThought(message.text) : { thought: "", text: message.text };
      el.className = `message ${message.role} ${message.status}`;
      who.textContent = message.role === "user" ? "You" : message.role === "other" ? "Tool" : message.model || "Assistant";
      thought.update((message.thought ?? "") + split.thought, !isOver && split.text === "");
      if (isAnswer) blocks.update(split.text, isOver);
      else if (body.textContent !== message.text) body.textContent = message.text;
      if (!el.querySelector(".edit")) body.hidden = split.text === "";
      waiting.hidden = isOver || split.text !== "" || message.phase === "recovering";
      search.hidden = message.phase !== "recovering" || isOver;
      showPolicy(policy, message);
      showProblem(problem, message, actions);
      tools.update(message, standing);
    },
  };
}

/** What the model says of its reasoning, folded away. */
function mountThought() {
  const label = make("summary");
  const text = make("div", { className: "thought-text" });
  const el = make("details", { className: "thought" }, label, text);
  return {
    el,
    /** @param {string} thought @param {boolean} isThinking */
    update(thought, isThinking) {
      el.hidden = thought === "";
      label.textContent = isThinking ? "Thinking…" : "Reasoning";
      if (text.textContent !== thought) text.textContent = thought;
    },
  };
}

/**
 * @param {HTMLElement} bar
 * @param {Actions} actions
 * @param {() => Message} now
 * @param {() => void} edit
 */
function mountTools(bar, actions, now, edit) {
  const place = make("span", { className: "place" });
  /** @type {number[]} */
  let variants = [];
  const turn = (/** @type {number} */ step) => actions.turnTo(variants[variants.indexOf(now().id) + step]);
  const back = iconButton("left", "Previous version", () => turn(-1));
  const forth = iconButton("right", "Next version", () => turn(1));
  const pager = make("span", { className: "pager" }, back, place, forth);
  const copy = iconButton("copy", "Copy message", async () => {
    const isCopied = await copyText(now().text);
    copy.replaceChildren(icon(isCopied ? "check" : "close"));
    actions.notice(isCopied ? "Copied" : "The browser does not allow copying here: select the text and press Ctrl+C.");
    setTimeout(() => copy.replaceChildren(icon("copy")), 2000);
  });
  const change = iconButton("edit", "Edit and send again", edit);
  change.classList.add("edit-button");
  const again = iconButton("retry", "Another answer", () => {
    actions.retry(now().id);
    focusComposer();
  });
  const meta = make("span", { className: "meta" });
  bar.append(pager, copy, change, again, meta);

  return {
    focusEdit: () => change.focus(),
    /** @param {Message} message @param {Standing} standing */
    update(message, standing) {
      variants = standing.variants;
      const at = variants.indexOf(message.id);
      bar.hidden = message.status === "streaming" || Boolean(bar.parentElement?.querySelector(".edit"));
      pager.hidden = variants.length < 2;
      place.textContent = `${at + 1} / ${variants.length}`;
      back.disabled = at <= 0 || standing.isBusy;
      forth.disabled = at >= variants.length - 1 || standing.isBusy;
      copy.hidden = message.text === "";
      change.hidden = message.role !== "user" || message.content !== undefined;
      change.disabled = standing.isBusy;
      again.hidden = message.role !== "assistant" || !standing.isLast || message.problem !== undefined;
      again.disabled = standing.isBusy;
      meta.textContent = metaOf(message);
    },
  };
}

/**
 * @param {HTMLElement} el
 * @param {Message} message
 */
function showPolicy(el, message) {
  el.hidden = !message.policy;
  if (!message.policy) return;
  const words = {
    masked: "Your company’s policy masked sensitive parts of this exchange before they went on.",
    redirected: "Your company’s policy sent this exchange to another model.",
    rejected: "Your company’s policy refused this message; it did not go on.",
    changed: "Your company’s policy changed this exchange.",
  }[message.policy.verdict];
  el.replaceChildren(icon("shield"), make("span", {}, message.policy.detail ? `${words} (${message.policy.detail})` : words));
}

/**
 * @param {HTMLElement} el
 * @param {Message} message
 * @param {Actions} actions
 */
function showProblem(el, message, actions) {
  const { problem } = message;
  el.hidden = !problem;
  if (!problem) return el.replaceChildren();
  if (el.childElementCount > 0) return;
  const isTold = problem.detail !== "" && problem.detail !== problem.title;
  /** @type {[string, () => void][]} */
  const ways = [["Try again", () => actions.retry(message.id)]];
  if (problem.action === "sign_in") ways.unshift(["Sign in", () => actions.showDialog({ kind: "sign_in" })]);
  if (problem.action === "new_chat") ways.unshift(["New chat", () => actions.reset()]);
  if (problem.action === "edit") ways.splice(0, 1, ["Edit the message", () => questionBefore(el)?.click()]);
  const buttons = ways.map(([label, act]) => {
    const button = make("button", { type: "button", className: "quiet again", textContent: label });
    button.addEventListener("click", () => {
      act();
      if (problem.action !== "edit" && problem.action !== "sign_in") focusComposer();
    });
    return button;
  });
  el.replaceChildren(
    make("p", {}, make("strong", {}, problem.title), ` ${problem.advice}`),
    ...(isTold ? [make("p", { className: "detail" }, problem.detail)] : []),
    make("div", { className: "ways" }, ...buttons),
  );
}

/**
 * @param {HTMLElement} el within an answer
 * @returns {HTMLButtonElement | null | undefined} what opens the question before it for editing
 */
function questionBefore(el) {
  return el.closest(".message")?.previousElementSibling?.querySelector(".edit-button");
}

/** @param {Message} message */
export function metaOf(message) {
  if (message.role === "user" || message.status === "streaming") return "";
  const parts = [];
  if (message.status === "stopped") parts.push("Stopped");
  if (message.reason === "length") parts.push("Ended at the token limit");
  if (message.reason === "content_filter") parts.push("Ended by the model’s content filter");
  if (message.usage) parts.push(`${count(message.usage.prompt)} tokens in, ${count(message.usage.completion)} out`);
  if (message.firstSeconds !== undefined) parts.push(`first word after ${time(message.firstSeconds)}`);
  if (message.seconds !== undefined && message.status !== "failed") parts.push(time(message.seconds));
  return parts.join(" · ");
}

/** @param {number} tokens */
function count(tokens) {
  return tokens.toLocaleString("en");
}

/** @param {number} seconds */
function time(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}
