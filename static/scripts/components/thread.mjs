// @ts-check
// The conversation, and before there is one a welcome. Follows the newest words as long as the reader is at the end.

import { focusComposer, make } from "../dom.mjs";
import { isStreaming } from "../state.mjs";
import { mount as mountMessage } from "./message.mjs";

/** @typedef {import("../state.mjs").State} State */

const NEAR_THE_END = 80; // px

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
  const log = make("div", { className: "log" });
  log.setAttribute("role", "log");
  log.setAttribute("aria-live", "off"); // read word by word an answer cannot be listened to; `status` tells the ends
  const status = make("p", { className: "for-ears" });
  status.setAttribute("role", "status");
  const newest = make("button", { type: "button", className: "newest", textContent: "↓ Newest" });
  newest.addEventListener("click", () => scrollToEnd("smooth"));
  el.append(welcome, log, status, newest);

  /** @type {Map<number, { el: HTMLElement, component: ReturnType<typeof mountMessage> }>} */
  const messages = new Map();
  let welcomed = "";
  let lastId = 0;
  let isFollowing = true;

  const page = document.scrollingElement ?? document.documentElement;
  const isAtEnd = () => page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_THE_END;
  /** @param {ScrollBehavior} behavior */
  const scrollToEnd = (behavior) => page.scrollTo({ top: page.scrollHeight, behavior });
  addEventListener("scroll", () => {
    isFollowing = isAtEnd();
    newest.hidden = isFollowing;
  });

  /** @param {State} state */
  function updateWelcome(state) {
    const key = state.messages.length > 0 ? "none" : state.models === "asking" ? "asking" : state.isDemo ? "demo" : "model";
    if (key === welcomed) return;
    welcomed = key;
    welcome.hidden = key === "none";
    if (key === "demo" || key === "model") welcome.replaceChildren(...welcomeOf(key, actions));
  }

  /** @param {State} state */
  function updateMessages(state) {
    const ids = new Set(state.messages.map((message) => message.id));
    for (const [id, { el: old }] of messages) {
      if (!ids.has(id)) {
        old.remove();
        messages.delete(id);
      }
    }
    state.messages.forEach((message, index) => {
      let shown = messages.get(message.id);
      if (!shown) {
        const article = make("article");
        shown = { el: article, component: mountMessage(article, actions) };
        messages.set(message.id, shown);
        log.append(article);
      }
      shown.component.update(message, index === state.messages.length - 1);
    });
  }

  return {
    update(state) {
      updateWelcome(state);
      updateMessages(state);
      status.textContent = statusOf(state);
      log.setAttribute("aria-busy", String(isStreaming(state)));
      const newestId = state.messages.at(-1)?.id ?? 0;
      if (newestId > lastId) isFollowing = true; // one's own question brings one back to the end
      lastId = newestId;
      if (isFollowing && newestId > 0) scrollToEnd("instant");
      newest.hidden = isFollowing || isAtEnd();
    },
  };
}

/** @param {State} state */
function statusOf(state) {
  const last = state.messages.at(-1);
  if (last?.role !== "assistant") return "";
  if (last.status === "streaming") return "Answering";
  if (last.status === "failed") return `${last.problem?.title ?? ""} ${last.problem?.advice ?? ""}`;
  return last.status === "stopped" ? "Stopped" : "The answer is complete";
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
