// @ts-check
// The conversations of the past, with search; and below them what belongs to the page as a whole.

import { titleOf } from "../chats.mjs";
import { focusComposer, icon, iconButton, make } from "../../shared/dom.mjs";
import { periodOf } from "../history.mjs";
import { canMakeKeys } from "../state.mjs";
import { nextTheme, theme } from "../../shared/theme.mjs";

/** @typedef {import("../state.mjs").State} State */

const PAUSE = 250; // ms of silence before what was typed is looked for

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} close on a narrow page
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions, close) {
  const name = make("span", {});
  const brand = make("h1", { className: "brand" }, make("span", { className: "mark" }), name);
  const fresh = make("button", { type: "button", className: "fresh-chat" }, icon("plus"), "New chat");
  fresh.addEventListener("click", () => {
    actions.reset();
    close();
    focusComposer();
  });
  const search = make("input", { type: "search", id: "search", placeholder: "Search conversations", ariaLabel: "Search conversations", maxLength: 200 });
  /** @type {number | undefined} */
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void actions.search(search.value.trim()), PAUSE);
  });
  const list = make("div", { className: "list" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Show more" });
  more.addEventListener("click", () => void actions.showMore());
  const empty = make("p", { className: "empty" });
  const nav = make("nav", { className: "past", ariaLabel: "Conversations" }, list, empty, more);
  const foot = mountFoot(actions);
  const shut = iconButton("close", "Close", close);
  shut.classList.add("shut");
  el.append(make("div", { className: "side-head" }, brand, shut), fresh, search, nav, foot.el);
  /** @type {unknown[]} */
  let listed = [];

  /** @param {State} state */
  function updateList(state) {
    const key = [state.history.list, state.chat.root, state.parked];
    if (key.every((part, at) => part === listed[at])) return;
    listed = key;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.root;
    list.replaceChildren(...partsOf(state, actions, close));
    if (focused) list.querySelector(`button[data-root="${CSS.escape(focused)}"]`)?.focus();
  }

  return {
    update(state) {
      if (name.textContent !== state.page.name) name.textContent = state.page.name;
      const { history } = state;
      const isThere = history.status !== "absent";
      search.hidden = !isThere;
      nav.hidden = !isThere;
      updateList(state);
      more.hidden = history.next === null || history.status === "asking";
      empty.textContent = emptyWords(history, state.models);
      empty.hidden = empty.textContent === "";
      foot.update(state);
    },
  };
}

/**
 * @param {import("../state.mjs").History} history
 * @param {State["models"]} models
 */
function emptyWords(history, models) {
  if (models === "refused") return "Sign in to see your conversations.";
  if (history.status === "failed") return `${history.problem?.title ?? ""} ${history.problem?.advice ?? ""}`;
  if (history.status !== "known" || history.list.length > 0) return "";
  return history.query ? "Nothing was found." : "Your conversations will be listed here.";
}

/**
 * @param {State} state
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} close
 */
function partsOf(state, actions, close) {
  const now = Date.now();
  const listed = new Set(state.history.list.map((each) => each.root));
  /** @type {Map<string, HTMLElement[]>} */
  const parts = new Map();
  /** @param {string} period @param {string} root @param {string} title @param {boolean} hasMenu */
  const add = (period, root, title, hasMenu) => {
    const isShown = root === state.chat.root;
    const open = make("button", { type: "button", className: "open", textContent: title, title });
    open.dataset.root = root;
    if (isShown) open.setAttribute("aria-current", "page");
    if (state.parked[root]) open.prepend(make("span", { className: "dot", title: "being answered" }));
    open.addEventListener("click", () => {
      void actions.open(root);
      close();
      focusComposer();
    });
    const menu = iconButton("more", `Rename or hide “${title}”`, () => actions.showDialog({ kind: "conversation", root }));
    parts.set(period, [...(parts.get(period) ?? []), make("li", {}, open, ...(hasMenu ? [menu] : []))]);
  };
  for (const chat of Object.values(state.parked)) {
    if (chat.root && !listed.has(chat.root)) add("Being answered", chat.root, titleOf(chat), false);
  }
  for (const each of state.history.list) add(periodOf(each.at, now), each.root, each.title, true);
  return [...parts].map(([period, items]) => make("section", {}, make("h2", {}, period), make("ul", {}, ...items)));
}

/** @param {import("../controller.mjs").Actions} actions */
function mountFoot(actions) {
  /** @param {string} words */
  const link = (words) => make("a", { textContent: words });
  const report = link("Usage report");
  const docs = link("API");
  const key = make("button", { type: "button", className: "plain" }, icon("key"), make("span"));
  key.addEventListener("click", () => actions.showDialog({ kind: "sign_in" }));
  const generate = make("button", { type: "button", className: "plain" }, icon("plus"), "Generate a token");
  generate.addEventListener("click", () => void actions.showKeys());
  const label = make("span");
  const colours = make("button", { type: "button", className: "plain" }, icon("theme"), label);
  const tell = () => (label.textContent = { system: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[theme()]);
  colours.addEventListener("click", () => {
    nextTheme();
    tell();
  });
  tell();
  const el = make("div", { className: "side-foot" }, key, generate, colours, make("p", { className: "links" }, report, docs));
  return {
    el,
    /** @param {State} state */
    update(state) {
      const { page } = state;
      report.hidden = page.reportUrl === null;
      if (page.reportUrl) report.href = page.reportUrl;
      docs.hidden = page.docsUrl === null;
      if (page.docsUrl) docs.href = page.docsUrl;
      const isOpen = page.isFixed && page.auth.length === 1 && page.auth[0] === "open";
      key.hidden = isOpen || (canMakeKeys(state) && !state.hasToken); // a proxy has signed them in
      generate.hidden = !canMakeKeys(state);
      const words = state.hasToken ? "Signed in with a key" : page.isFixed ? "Sign in" : "Connection";
      if (key.lastChild && key.lastChild.textContent !== words) key.lastChild.textContent = words;
    },
  };
}
