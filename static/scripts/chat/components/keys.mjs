// @ts-check
// Keys of one's own, for programs: making one, which is shown this once, and revoking those that one has made.

import { copyText, icon, make } from "../../shared/dom.mjs";
import { field, sheetOf } from "./sheets.mjs";

/** @typedef {import("../controller.mjs").Actions} Actions */
/** @typedef {import("../state.mjs").State} State */
/** @typedef {import("../client.mjs").OwnKey} OwnKey */

/** @param {Actions} actions @returns {import("./sheets.mjs").Sheet} */
export function keysSheet(actions) {
  const lead = make("p", { className: "sheet-lead" });
  const name = make("input", { id: "key-name", autofocus: true, maxLength: 256, autocomplete: "off", spellcheck: false });
  const create = make("button", { type: "submit", className: "filled", textContent: "Generate" });
  const form = make("form", {}, field("Name", name, "What it is for, to tell it from others."), make("div", { className: "sheet-tools" }, create));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void actions.makeKey(name.value.trim() || "chat page");
  });
  const made = mountMade();
  const fault = make("p", { className: "fault" });
  fault.setAttribute("role", "alert");
  const list = make("ul", { className: "own-keys" });
  const listed = make("section", {}, make("h3", { textContent: "Your keys" }), list);
  const el = sheetOf("keys", "Generate a token", lead, form, made.el, fault, listed);
  /** @type {OwnKey[] | null} */
  let shown = null;
  let wasMade = false;

  return {
    el,
    update(state, isOpening) {
      const { keys } = state;
      lead.textContent = `A key for your programs: it speaks for you, and lasts ${lifeText(state.page.ownKeysS ?? 0)} at most.`;
      form.hidden = keys.made !== null;
      create.disabled = keys.isBusy;
      made.update(keys.made);
      const problem = keys.problem ? `${keys.problem.title} ${keys.problem.detail || keys.problem.advice}` : "";
      if (fault.textContent !== problem) fault.textContent = problem;
      listed.hidden = keys.list.length === 0;
      if (shown !== keys.list) {
        shown = keys.list;
        list.replaceChildren(...keys.list.map((key) => rowOf(key, actions)));
      }
      if (isOpening) name.value = "";
      if (keys.made && !wasMade) made.focus();
      wasMade = keys.made !== null;
    },
  };
}

/** The key that has just been made, and how it is used. */
function mountMade() {
  const value = make("input", { id: "key-value", readOnly: true, spellcheck: false });
  const copyKey = copyButton("Copy the key", () => value.value);
  const usage = make("pre", { tabIndex: 0, ariaLabel: "How to use it" });
  const copyUsage = copyButton("Copy the lines", () => usage.textContent ?? "");
  const ends = make("p", { className: "help" });
  value.addEventListener("focus", () => value.select());
  const el = make("div", { className: "made-key" },
    make("div", { className: "field" }, make("label", { htmlFor: value.id, textContent: "Your key, shown this once" }), make("div", { className: "with-button" }, value, copyKey), ends),
    make("div", { className: "field" }, make("p", { className: "label", textContent: "OpenAI’s SDKs take it from the environment" }), usage, make("div", { className: "sheet-tools" }, copyUsage)));
  value.setAttribute("aria-describedby", "key-ends");
  ends.id = "key-ends";
  return {
    el,
    focus: () => value.focus(),
    /** @param {import("../state.mjs").MadeKey | null} made */
    update(made) {
      el.hidden = made === null;
      if (value.value !== (made?.value ?? "")) value.value = made?.value ?? "";
      ends.textContent = made ? `It ends ${momentText(made.expiresAt)}. The gateway keeps no copy: store it where your program finds it.` : "";
      usage.textContent = made ? `export OPENAI_BASE_URL=${made.baseUrl}\nexport OPENAI_API_KEY=${made.value}` : "";
    },
  };
}

/** @param {string} label @param {() => string} text */
function copyButton(label, text) {
  const words = make("span", { textContent: label });
  words.setAttribute("aria-live", "polite");
  const button = make("button", { type: "button", className: "quiet" }, icon("copy"), words);
  button.addEventListener("click", async () => {
    words.textContent = (await copyText(text())) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (words.textContent = label), 2000);
  });
  return button;
}

/** @param {OwnKey} key @param {Actions} actions */
function rowOf(key, actions) {
  const revoke = make("button", { type: "button", className: "quiet danger", textContent: "Revoke", ariaLabel: `Revoke “${key.name}” ${key.hint}` });
  revoke.addEventListener("click", () => void actions.revokeKey(key.id));
  return make("li", {}, make("span", { className: "key-name", textContent: key.name }), make("code", { textContent: key.hint }), make("span", { className: "help", textContent: `ends ${momentText(key.expiresAt)}` }), revoke);
}

/** @param {number} seconds Unix time */
function momentText(seconds) {
  return new Date(seconds * 1000).toLocaleString("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** @param {number} seconds */
export function lifeText(seconds) {
  for (const [length, unit] of /** @type {[number, string][]} */ ([[86_400, "day"], [3600, "hour"], [60, "minute"]])) {
    const count = Math.round(seconds / length);
    if (seconds >= length) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return `${Math.round(seconds)} seconds`;
}
