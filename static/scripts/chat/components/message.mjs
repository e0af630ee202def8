// @ts-check
// One message: its text, policy result, problem, and buttons.

import { copyText, icon, iconButton, make } from "../../shared/dom.mjs";
import { splitReasoning } from "../markdown.mjs";
import { mount as mountBlocks } from "./blocks.mjs";
import { focusComposer } from "./composer.mjs";

/** @typedef {import("../chats.mjs").Message} Message */
/** @typedef {import("../controller.mjs").Actions} Actions */
/** @typedef {{ isLast: boolean, isBusy: boolean, variants: number[] }} Context of a message in the conversation */

/**
 * @param {HTMLElement} el
 * @param {Actions} actions
 * @returns {{ update: (message: Message, context: Context) => void }}
 */
export function mount(el, actions) {
  const author = make("h2", { className: "author" });
  const reasoning = mountReasoning();
  const body = make("div", { className: "content" });
  const waiting = make("p", { className: "waiting" }, make("span"), make("span"), make("span"));
  const search = make("p", { className: "searching", textContent: "The connection was cut. Looking for the rest of the answer…" });
  const policy = make("p", { className: "policy" });
  const problem = make("div", { className: "problem" });
  const bar = make("div", { className: "bar" });
  el.append(author, policy, reasoning.el, body, waiting, search, problem, bar);
  const blocks = mountBlocks(body);
  /** @type {Message} */
  let shown;
  const tools = mountTools(bar, actions, () => shown, edit);

  function edit() {
    const text = make("textarea", { className: "edit-text", value: shown.text, rows: Math.min(shown.text.split("\n").length + 1, 12), ariaLabel: "Edit your message" });
    const close = () => {
      form.remove();
      body.hidden = false;
      bar.hidden = false;
    };
    const cancel = make("button", { type: "button", className: "quiet", textContent: "Cancel" });
    const send = make("button", { type: "submit", className: "filled", textContent: "Send" });
    const form = make("form", { className: "edit" }, text, make("div", { className: "edit-tools" }, cancel, send));
    cancel.addEventListener("click", () => {
      close();
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
      close();
      actions.edit(shown.id, text.value);
      focusComposer();
    });
    body.hidden = true;
    bar.hidden = true;
    el.append(form);
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  return {
    update(message, context) {
      shown = message;
      const isAnswer = message.role !== "user";
      const isComplete = message.status !== "streaming";
      const split = isAnswer && !isComplete ? splitReasoning(message.text) : { reasoning: "", text: message.text };
      el.className = `message ${message.role} ${message.status}`;
      author.textContent = message.role === "user" ? "You" : message.role === "other" ? "Tool" : message.model || "Assistant";
      reasoning.update((message.reasoning ?? "") + split.reasoning, !isComplete && split.text === "");
      if (isAnswer) blocks.update(split.text, isComplete);
      else if (body.textContent !== message.text) body.textContent = message.text;
      if (!el.querySelector(".edit")) body.hidden = split.text === "";
      waiting.hidden = isComplete || split.text !== "" || message.phase === "recovering";
      search.hidden = message.phase !== "recovering" || isComplete;
      showPolicy(policy, message);
      showProblem(problem, message, actions);
      tools.update(message, context);
    },
  };
}

/** The model's reasoning, collapsed. */
function mountReasoning() {
  const label = make("summary");
  const text = make("div", { className: "reasoning-text" });
  const el = make("details", { className: "reasoning" }, label, text);
  return {
    el,
    /** @param {string} reasoning @param {boolean} isRunning */
    update(reasoning, isRunning) {
      el.hidden = reasoning === "";
      label.textContent = isRunning ? "Thinking…" : "Reasoning";
      if (text.textContent !== reasoning) text.textContent = reasoning;
    },
  };
}

/**
 * @param {HTMLElement} bar
 * @param {Actions} actions
 * @param {() => Message} shown
 * @param {() => void} edit
 */
function mountTools(bar, actions, shown, edit) {
  const position = make("span", { className: "position" });
  /** @type {number[]} */
  let variants = [];
  const select = (/** @type {number} */ step) => actions.selectBranch(variants[variants.indexOf(shown().id) + step]);
  const back = iconButton("left", "Previous version", () => select(-1));
  const forth = iconButton("right", "Next version", () => select(1));
  const pager = make("span", { className: "pager" }, back, position, forth);
  const copy = iconButton("copy", "Copy message", async () => {
    const isCopied = await copyText(shown().text);
    copy.replaceChildren(icon(isCopied ? "check" : "close"));
    actions.showNotice(isCopied ? "Copied" : "The browser does not allow copying here: select the text and press Ctrl+C.");
    setTimeout(() => copy.replaceChildren(icon("copy")), 2000);
  });
  const change = iconButton("edit", "Edit and send again", edit);
  change.classList.add("edit-button");
  const again = iconButton("retry", "Another answer", () => {
    actions.retry(shown().id);
    focusComposer();
  });
  const meta = make("span", { className: "meta" });
  bar.append(pager, copy, change, again, meta);

  return {
    focusEdit: () => change.focus(),
    /** @param {Message} message @param {Context} context */
    update(message, context) {
      variants = context.variants;
      const at = variants.indexOf(message.id);
      bar.hidden = message.status === "streaming" || Boolean(bar.parentElement?.querySelector(".edit"));
      pager.hidden = variants.length < 2;
      position.textContent = `${at + 1} / ${variants.length}`;
      back.disabled = at <= 0 || context.isBusy;
      forth.disabled = at >= variants.length - 1 || context.isBusy;
      copy.hidden = message.text === "";
      change.hidden = message.role !== "user" || message.content !== undefined;
      change.disabled = context.isBusy;
      again.hidden = message.role !== "assistant" || !context.isLast || message.problem !== undefined;
      again.disabled = context.isBusy;
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
  const hasDetail = problem.detail !== "" && problem.detail !== problem.title;
  /** @type {[string, () => void][]} */
  const choices = [["Try again", () => actions.retry(message.id)]];
  if (problem.action === "sign_in") choices.unshift(["Sign in", () => actions.showDialog({ kind: "sign_in" })]);
  if (problem.action === "new_chat") choices.unshift(["New chat", () => actions.newChat()]);
  if (problem.action === "edit") choices.splice(0, 1, ["Edit the message", () => questionBefore(el)?.click()]);
  const buttons = choices.map(([label, act]) => {
    const button = make("button", { type: "button", className: "quiet again", textContent: label });
    button.addEventListener("click", () => {
      act();
      if (problem.action !== "edit" && problem.action !== "sign_in") focusComposer();
    });
    return button;
  });
  el.replaceChildren(
    make("p", {}, make("strong", {}, problem.title), ` ${problem.advice}`),
    ...(hasDetail ? [make("p", { className: "detail" }, problem.detail)] : []),
    make("div", { className: "choices" }, ...buttons),
  );
}

/**
 * @param {HTMLElement} el in an answer
 * @returns {HTMLButtonElement | null | undefined} the edit button of its question
 */
function questionBefore(el) {
  return el.closest(".message")?.previousElementSibling?.querySelector(".edit-button");
}

/** @param {Message} message */
function metaOf(message) {
  if (message.role === "user" || message.status === "streaming") return "";
  const parts = [];
  if (message.status === "stopped") parts.push("Stopped");
  if (message.finishReason === "length") parts.push("Ended at the token limit");
  if (message.finishReason === "content_filter") parts.push("Ended by the model’s content filter");
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
