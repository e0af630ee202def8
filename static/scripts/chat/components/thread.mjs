// @ts-check
// The messages of the conversation, or a welcome. Scrolls with the newest message until the user scrolls up.

import { icon, make } from "../../shared/dom.mjs";
import { lastMessage, pathOf, variantsOf } from "../chats.mjs";
import { isReady, isStreaming } from "../state.mjs";
import { focusComposer } from "./composer.mjs";
import { mount as mountMessage } from "./message.mjs";

/** @typedef {import("../state.mjs").State} State */

const END_TOLERANCE = 24; // px

const STARTERS = {
  demo: ["Where are my words kept?", "Show me some Python code", "How do I connect a real model?"],
  model: ["Explain this term in plain words: ", "Draft a short, friendly reply to this message: ", "Review this code: "],
};

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions) {
  const welcome = make("section", { className: "welcome" });
  const log = make("div", { className: "log", ariaLabel: "Conversation" });
  log.setAttribute("role", "log");
  log.setAttribute("aria-live", "off"); // a screen reader cannot follow an answer that grows; `status` announces its start and end
  const status = make("p", { className: "visually-hidden" });
  status.setAttribute("role", "status");
  const newest = make("button", { type: "button", className: "newest" }, icon("down"), "Newest");
  newest.addEventListener("click", () => {
    isFollowing = true;
    scrollToEnd("smooth");
  });
  el.append(welcome, log, status, newest);

  /** @type {Map<number, { el: HTMLElement, component: ReturnType<typeof mountMessage>, key: unknown[] }>} */
  const shown = new Map();
  let shownWelcome = "";
  let lastId = 0;
  let isFollowing = true;
  let top = 0;

  const page = document.scrollingElement ?? document.documentElement;
  const isAtEnd = () => page.scrollHeight - page.scrollTop - page.clientHeight < END_TOLERANCE;
  /** @param {ScrollBehavior} behavior */
  const scrollToEnd = (behavior) => page.scrollTo({ top: page.scrollHeight, behavior });
  addEventListener("scroll", () => {
    if (page.scrollTop < top - 1 && !isAtEnd()) isFollowing = false; // any scroll up means that the user reads there
    else if (isAtEnd()) isFollowing = true;
    top = page.scrollTop;
    newest.hidden = isFollowing || isAtEnd();
  }, { passive: true });

  /** @param {State} state */
  function updateWelcome(state) {
    const kind = state.isDemo ? "demo" : "model";
    const ready = isReady(state);
    const key = state.chat.messages.length > 0 ? "none" : ready ? kind : `${state.models} ${state.endpoint !== null}`;
    if (key === shownWelcome) return;
    shownWelcome = key;
    welcome.hidden = key === "none";
    if (ready) welcome.replaceChildren(...welcomeOf(kind, actions));
    else if (state.models === "refused") welcome.replaceChildren(...signInWelcome(actions, state.endpoint !== null));
  }

  /** @param {State} state */
  function updateMessages(state) {
    const path = pathOf(state.chat);
    const ids = new Set(path.map((message) => message.id));
    for (const [id, { el: old }] of shown) {
      if (ids.has(id)) continue;
      old.remove();
      shown.delete(id);
    }
    const isBusy = isStreaming(state);
    path.forEach((message, index) => {
      let item = shown.get(message.id);
      if (!item) {
        const article = make("article");
        item = { el: article, component: mountMessage(article, actions), key: [] };
        shown.set(message.id, item);
      }
      if (log.children[index] !== item.el) log.insertBefore(item.el, log.children[index] ?? null);
      const variants = variantsOf(state.chat, message.id);
      const isLast = index === path.length - 1;
      const key = [message, isBusy, isLast, variants.length];
      if (key.every((part, at) => part === item.key[at])) return;
      item.key = key;
      item.component.update(message, { isLast, isBusy, variants });
    });
  }

  return {
    update(state) {
      updateWelcome(state);
      updateMessages(state);
      const text = statusOf(state);
      if (status.textContent !== text) status.textContent = text;
      log.setAttribute("aria-busy", String(isStreaming(state)));
      const newestId = state.chat.leaf ?? 0;
      if (newestId !== lastId) isFollowing = true; // a new message scrolls to the end
      lastId = newestId;
      if (isFollowing && newestId > 0 && !isAtEnd()) scrollToEnd("instant");
      newest.hidden = isFollowing || isAtEnd();
    },
  };
}

/** @param {State} state @returns {string} the announcement for screen readers */
function statusOf(state) {
  if (state.notice) return state.notice;
  const last = lastMessage(state.chat);
  if (last?.role !== "assistant") return "";
  if (last.phase === "recovering") return "The connection was cut. Looking for the rest of the answer.";
  if (last.status === "streaming") return "Answering";
  if (last.status === "failed") return `${last.problem?.title ?? ""} ${last.problem?.advice ?? ""}`;
  const words = last.text.split(/\s+/).filter(Boolean).length;
  return last.status === "stopped" ? `Stopped after ${words} words` : `The answer is complete: ${words} words`;
}

/**
 * @param {"demo" | "model"} kind
 * @param {import("../controller.mjs").Actions} actions
 */
function welcomeOf(kind, actions) {
  const starters = STARTERS[kind].map((text) => {
    const button = make("button", { type: "button", textContent: text.replace(/: $/, " …") });
    button.addEventListener("click", () => {
      if (kind === "demo") actions.send(text);
      else actions.changeDraft(text); // the user completes the message
      focusComposer();
    });
    return make("li", {}, button);
  });
  const lead =
    kind === "demo"
      ? "This is the built-in demo model: no language model stands behind it. Everything around it is real, so look around."
      : "What you write goes through your company’s gateway to the model, and is kept in its own database.";
  return [make("h2", {}, "What is on your mind?"), make("p", {}, lead), make("ul", { className: "starters" }, ...starters)];
}

/**
 * @param {import("../controller.mjs").Actions} actions
 * @param {boolean} hasEndpoint
 */
function signInWelcome(actions, hasEndpoint) {
  const button = make("button", { type: "button", className: "filled", textContent: hasEndpoint ? "Sign in" : "Enter an address" });
  button.addEventListener("click", () => actions.showDialog({ kind: "sign_in" }));
  const [title, lead] = hasEndpoint
    ? ["Sign in to begin", "The gateway wants to know who you are: paste your key or token."]
    : ["Whom shall this page ask?", "It came without a gateway of its own: enter the address of one, or of a server that speaks OpenAI’s API."];
  return [make("h2", {}, title), make("p", {}, lead), button];
}
