// @ts-check
// The conversation, and before there is one a welcome. Follows the newest words until the reader scrolls up.

import { lastOf, pathOf, variantsOf } from "../chats.mjs";
import { focusComposer, icon, make } from "../../shared/dom.mjs";
import { isStreaming } from "../state.mjs";
import { mount as mountMessage } from "./message.mjs";

/** @typedef {import("../state.mjs").State} State */

const AT_THE_END = 24; // px

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
  log.setAttribute("aria-live", "off"); // read word by word an answer cannot be listened to; `status` tells the ends
  const status = make("p", { className: "for-ears" });
  status.setAttribute("role", "status");
  const newest = make("button", { type: "button", className: "newest" }, icon("down"), "Newest");
  newest.addEventListener("click", () => {
    isFollowing = true;
    scrollToEnd("smooth");
  });
  el.append(welcome, log, status, newest);

  /** @type {Map<number, { el: HTMLElement, component: ReturnType<typeof mountMessage>, key: unknown[] }>} */
  const shown = new Map();
  let welcomed = "";
  let lastId = 0;
  let isFollowing = true;
  let top = 0;

  const page = document.scrollingElement ?? document.documentElement;
  const isAtEnd = () => page.scrollHeight - page.scrollTop - page.clientHeight < AT_THE_END;
  /** @param {ScrollBehavior} behavior */
  const scrollToEnd = (behavior) => page.scrollTo({ top: page.scrollHeight, behavior });
  addEventListener("scroll", () => {
    if (page.scrollTop < top - 1 && !isAtEnd()) isFollowing = false; // up, however little: the reader wants to stay there
    else if (isAtEnd()) isFollowing = true;
    top = page.scrollTop;
    newest.hidden = isFollowing || isAtEnd();
  }, { passive: true });

  /** @param {State} state */
  function updateWelcome(state) {
    const kind = state.isDemo ? "demo" : "model";
    const isKnown = state.models === "known" || state.models === "unknown";
    const key = state.chat.messages.length > 0 ? "none" : isKnown ? kind : `${state.models} ${state.place !== null}`;
    if (key === welcomed) return;
    welcomed = key;
    welcome.hidden = key === "none";
    if (isKnown) welcome.replaceChildren(...welcomeOf(kind, actions));
    else if (state.models === "refused") welcome.replaceChildren(...signInWelcome(actions, state.place !== null));
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
      let one = shown.get(message.id);
      if (!one) {
        const article = make("article");
        one = { el: article, component: mountMessage(article, actions), key: [] };
        shown.set(message.id, one);
      }
      if (log.children[index] !== one.el) log.insertBefore(one.el, log.children[index] ?? null);
      const variants = variantsOf(state.chat, message.id);
      const isLast = index === path.length - 1;
      const key = [message, isBusy, isLast, variants.length];
      if (key.every((part, at) => part === one.key[at])) return;
      one.key = key;
      one.component.update(message, { isLast, isBusy, variants });
    });
  }

  return {
    update(state) {
      updateWelcome(state);
      updateMessages(state);
      const words = statusOf(state);
      if (status.textContent !== words) status.textContent = words;
      log.setAttribute("aria-busy", String(isStreaming(state)));
      const newestId = state.chat.leaf ?? 0;
      if (newestId !== lastId) isFollowing = true; // one's own question brings one back to the end
      lastId = newestId;
      if (isFollowing && newestId > 0 && !isAtEnd()) scrollToEnd("instant");
      newest.hidden = isFollowing || isAtEnd();
    },
  };
}

/** @param {State} state what a screen reader says */
function statusOf(state) {
  if (state.notice) return state.notice;
  const last = lastOf(state.chat);
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
      else actions.changeDraft(text); // the beginning of a message, for the person to finish
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
 * @param {boolean} isPlaceKnown
 */
function signInWelcome(actions, isPlaceKnown) {
  const button = make("button", { type: "button", className: "filled", textContent: isPlaceKnown ? "Sign in" : "Enter an address" });
  button.addEventListener("click", () => actions.showDialog({ kind: "sign_in" }));
  const [title, lead] = isPlaceKnown
    ? ["Sign in to begin", "The gateway wants to know who you are: paste your key or token."]
    : ["Whom shall this page ask?", "It came without a gateway of its own: enter the address of one, or of a server that speaks OpenAI’s API."];
  return [make("h2", {}, title), make("p", {}, lead), button];
}
