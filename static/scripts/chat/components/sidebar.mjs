// @ts-check
// The list of conversations with search, and the links and settings of the page.

import { icon, iconButton, make } from "../../shared/dom.mjs";
import { nextTheme, theme } from "../../shared/theme.mjs";
import { titleOf } from "../chats.mjs";
import { periodOf } from "../history.mjs";
import { canCreateKeys } from "../state.mjs";
import { focusComposer } from "./composer.mjs";

/** @typedef {import("../state.mjs").State} State */

const SEARCH_DELAY_MS = 250; // after the last key

/**
 * @param {HTMLElement} el
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} close on a narrow page
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions, close) {
  const name = make("span", {});
  const brand = make("h1", { className: "brand" }, make("span", { className: "mark" }), name);
  const newChat = make("button", { type: "button", className: "new-chat" }, icon("plus"), "New chat");
  newChat.addEventListener("click", () => {
    actions.newChat();
    close();
    focusComposer();
  });
  const search = make("input", { type: "search", id: "search", placeholder: "Search conversations", ariaLabel: "Search conversations", maxLength: 200 });
  /** @type {number | undefined} */
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => void actions.search(search.value.trim()), SEARCH_DELAY_MS);
  });
  const list = make("div", { className: "list" });
  const more = make("button", { type: "button", className: "quiet more", textContent: "Show more" });
  more.addEventListener("click", () => void actions.showMore());
  const empty = make("p", { className: "empty" });
  const nav = make("nav", { className: "history", ariaLabel: "Conversations" }, list, empty, more);
  const foot = mountFoot(actions);
  const closeButton = iconButton("close", "Close", close);
  closeButton.classList.add("close-sidebar");
  el.append(make("div", { className: "side-head" }, brand, closeButton), newChat, search, nav, foot.el);
  /** @type {unknown[]} */
  let shown = [];

  /** @param {State} state */
  function updateList(state) {
    const key = [state.history.list, state.chat.root, state.parked];
    if (key.every((part, at) => part === shown[at])) return;
    shown = key;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.root;
    list.replaceChildren(...sectionsOf(state, actions, close));
    if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`button[data-root="${CSS.escape(focused)}"]`))?.focus();
  }

  return {
    update(state) {
      if (name.textContent !== state.page.name) name.textContent = state.page.name;
      const { history } = state;
      const hasHistory = history.status !== "absent";
      search.hidden = !hasHistory;
      nav.hidden = !hasHistory;
      updateList(state);
      more.hidden = history.next === null || history.status === "loading";
      empty.textContent = emptyText(history, state.models);
      empty.hidden = empty.textContent === "";
      foot.update(state);
    },
  };
}

/**
 * @param {import("../state.mjs").History} history
 * @param {State["models"]} models
 */
function emptyText(history, models) {
  if (models === "refused") return "Sign in to see your conversations.";
  if (history.status === "failed") return `${history.problem?.title ?? ""} ${history.problem?.advice ?? ""}`;
  if (history.status !== "loaded" || history.list.length > 0) return "";
  return history.query ? "Nothing was found." : "Your conversations will be listed here.";
}

/**
 * @param {State} state
 * @param {import("../controller.mjs").Actions} actions
 * @param {() => void} close
 */
function sectionsOf(state, actions, close) {
  const now = Date.now();
  const listed = new Set(state.history.list.map((each) => each.root));
  /** @type {Map<string, HTMLElement[]>} */
  const sections = new Map();
  /** @param {string} period @param {string} root @param {string} title @param {boolean} hasMenu */
  const add = (period, root, title, hasMenu) => {
    const isOpen = root === state.chat.root;
    const open = make("button", { type: "button", className: "open", textContent: title, title });
    open.dataset.root = root;
    if (isOpen) open.setAttribute("aria-current", "page");
    if (state.parked[root]) open.prepend(make("span", { className: "dot", title: "being answered" }));
    open.addEventListener("click", () => {
      void actions.open(root);
      close();
      focusComposer();
    });
    const menu = iconButton("more", `Rename or hide “${title}”`, () => actions.showDialog({ kind: "conversation", root }));
    sections.set(period, [...(sections.get(period) ?? []), make("li", {}, open, ...(hasMenu ? [menu] : []))]);
  };
  for (const chat of Object.values(state.parked)) {
    if (chat.root && !listed.has(chat.root)) add("Being answered", chat.root, titleOf(chat), false);
  }
  for (const each of state.history.list) add(periodOf(each.at, now), each.root, each.title, true);
  return [...sections].map(([period, items]) => make("section", {}, make("h2", {}, period), make("ul", {}, ...items)));
}

/** @param {import("../controller.mjs").Actions} actions */
function mountFoot(actions) {
  /** @param {string} text */
  const link = (text) => make("a", { textContent: text });
  const report = link("Usage report");
  const docs = link("API");
  const key = make("button", { type: "button", className: "plain" }, icon("key"), make("span"));
  key.addEventListener("click", () => actions.showDialog({ kind: "sign_in" }));
  const generate = make("button", { type: "button", className: "plain" }, icon("plus"), "Generate a token");
  generate.addEventListener("click", () => void actions.showKeys());
  const label = make("span");
  const themeButton = make("button", { type: "button", className: "plain" }, icon("theme"), label);
  const showTheme = () => (label.textContent = { system: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[theme()]);
  themeButton.addEventListener("click", () => {
    nextTheme();
    showTheme();
  });
  showTheme();
  const el = make("div", { className: "side-foot" }, key, generate, themeButton, make("p", { className: "links" }, report, docs));
  return {
    el,
    /** @param {State} state */
    update(state) {
      const { page } = state;
      report.hidden = page.reportUrl === null;
      if (page.reportUrl) report.href = page.reportUrl;
      docs.hidden = page.docsUrl === null;
      if (page.docsUrl) docs.href = page.docsUrl;
      const isPublic = page.isFixed && page.auth.length === 1 && page.auth[0] === "open";
      key.hidden = isPublic || (canCreateKeys(state) && !state.hasToken); // a proxy has signed the user in
      generate.hidden = !canCreateKeys(state);
      const text = state.hasToken ? "Signed in with a key" : page.isFixed ? "Sign in" : "Connection";
      if (key.lastChild && key.lastChild.textContent !== text) key.lastChild.textContent = text;
    },
  };
}
