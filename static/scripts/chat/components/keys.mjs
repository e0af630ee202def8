// @ts-check
// The user's own API keys: create one, which is shown only once, and revoke others.

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
    void actions.createKey(name.value.trim() || "chat page");
  });
  const created = mountCreatedKey();
  const error = make("p", { className: "error" });
  error.setAttribute("role", "alert");
  const list = make("ul", { className: "own-keys" });
  const listed = make("section", {}, make("h3", { textContent: "Your keys" }), list);
  const el = sheetOf("keys", "Generate a token", lead, form, created.el, error, listed);
  /** @type {OwnKey[] | null} */
  let shown = null;
  let hadKey = false;

  return {
    el,
    update(state, isOpening) {
      const { keys } = state;
      lead.textContent = `A key for your programs: it speaks for you, and lasts ${durationText(state.page.ownKeysS ?? 0)} at most.`;
      form.hidden = keys.created !== null;
      create.disabled = keys.isBusy;
      created.update(keys.created);
      const problem = keys.problem ? `${keys.problem.title} ${keys.problem.detail || keys.problem.advice}` : "";
      if (error.textContent !== problem) error.textContent = problem;
      listed.hidden = keys.list.length === 0;
      if (shown !== keys.list) {
        shown = keys.list;
        list.replaceChildren(...keys.list.map((key) => rowOf(key, actions)));
      }
      if (isOpening) name.value = "";
      if (keys.created && !hadKey) created.focus();
      hadKey = keys.created !== null;
    },
  };
}

/** The new key, with the lines that set it in a shell. */
function mountCreatedKey() {
  const value = make("input", { id: "key-value", readOnly: true, spellcheck: false });
  const copyKey = copyButton("Copy the key", () => value.value);
  const usage = make("pre", { tabIndex: 0, ariaLabel: "How to use it" });
  const copyUsage = copyButton("Copy the lines", () => usage.textContent ?? "");
  const ends = make("p", { className: "help" });
  value.addEventListener("focus", () => value.select());
  const el = make("div", { className: "created-key" },
    make("div", { className: "field" }, make("label", { htmlFor: value.id, textContent: "Your key, shown this once" }), make("div", { className: "with-button" }, value, copyKey), ends),
    make("div", { className: "field" }, make("p", { className: "label", textContent: "OpenAI’s SDKs take it from the environment" }), usage, make("div", { className: "sheet-tools" }, copyUsage)));
  value.setAttribute("aria-describedby", "key-ends");
  ends.id = "key-ends";
  return {
    el,
    focus: () => value.focus(),
    /** @param {import("../state.mjs").CreatedKey | null} created */
    update(created) {
      el.hidden = created === null;
      if (value.value !== (created?.value ?? "")) value.value = created?.value ?? "";
      ends.textContent = created ? `It ends ${timeText(created.expiresAt)}. The gateway keeps no copy: store it where your program finds it.` : "";
      usage.textContent = created ? `export OPENAI_BASE_URL=${created.baseUrl}\nexport OPENAI_API_KEY=${created.value}` : "";
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
  return make("li", {}, make("span", { className: "key-name", textContent: key.name }), make("code", { textContent: key.hint }), make("span", { className: "help", textContent: `ends ${timeText(key.expiresAt)}` }), revoke);
}

/** @param {number} seconds Unix time */
function timeText(seconds) {
  return new Date(seconds * 1000).toLocaleString("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** @param {number} seconds */
function durationText(seconds) {
  for (const [length, unit] of /** @type {[number, string][]} */ ([[86_400, "day"], [3600, "hour"], [60, "minute"]])) {
    const count = Math.round(seconds / length);
    if (seconds >= length) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return `${Math.round(seconds)} seconds`;
}
