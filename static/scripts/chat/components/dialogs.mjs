// @ts-check
// The dialogs: parameters, sign-in, a conversation's title, and the user's keys.

import { make } from "../../shared/dom.mjs";
import { PARAMETERS, parseValue } from "../parameters.mjs";
import { canCreateKeys, instructionsOf } from "../state.mjs";
import { keysSheet } from "./keys.mjs";
import { field, sheetOf } from "./sheets.mjs";

/** @typedef {import("../state.mjs").State} State */
/** @typedef {import("../controller.mjs").Actions} Actions */
/** @typedef {import("./sheets.mjs").Sheet} Sheet */

/**
 * @param {HTMLElement} el
 * @param {Actions} actions
 * @returns {{ update: (state: State) => void }}
 */
export function mount(el, actions) {
  /** @type {Record<string, Sheet>} */
  const sheets = { parameters: parameterSheet(actions), sign_in: signInSheet(actions), conversation: conversationSheet(actions), keys: keysSheet(actions) };
  /** @type {Set<string>} closed by an update; the `close` event comes later, when a dialog may already be open again */
  const closed = new Set();
  for (const [kind, sheet] of Object.entries(sheets)) {
    sheet.el.addEventListener("close", () => {
      if (!closed.delete(kind)) actions.showDialog(null); // closed by the user
    });
    sheet.el.addEventListener("click", (event) => {
      if (event.target === sheet.el) sheet.el.close(); // a click on the backdrop
    });
    el.append(sheet.el);
  }
  let last = "";
  return {
    update(state) {
      for (const [kind, sheet] of Object.entries(sheets)) {
        const isWanted = state.dialog?.kind === kind;
        const isOpening = isWanted && !sheet.el.open;
        if (isWanted || sheet.el.open || kind === last) sheet.update(state, isOpening); // also when it closes, to clear its fields
        if (isOpening) sheet.el.showModal();
        else if (!isWanted && sheet.el.open) {
          closed.add(kind);
          sheet.el.close();
        }
      }
      last = state.dialog?.kind ?? "";
    },
  };
}

/** @param {Actions} actions @returns {Sheet} */
function parameterSheet(actions) {
  const instructions = make("textarea", { id: "instructions", rows: 4 });
  instructions.addEventListener("input", () => actions.changeInstructions(instructions.value));
  const controls = PARAMETERS.map((parameter) => {
    const { name, label, min, max, step, initial, help } = parameter;
    const hasSlider = max <= 2;
    const number = make("input", { type: "number", id: `${name}-number`, min: String(min), max: String(max), step: String(step), placeholder: "default", ariaLabel: label });
    const range = make("input", { type: "range", id: `${name}-range`, min: String(min), max: String(max), step: String(step), ariaLabel: `${label}, slider` });
    /** @param {HTMLInputElement} from */
    const change = (from) => actions.changeParameter(name, parseValue(name, from.value));
    number.addEventListener("input", () => change(number));
    range.addEventListener("input", () => change(range));
    const line = make("p", { className: "help", id: `${name}-help`, textContent: help });
    number.setAttribute("aria-describedby", line.id);
    const el = make("div", { className: "field parameter" }, make("label", { htmlFor: number.id, textContent: label }), ...(hasSlider ? [range] : []), number, line);
    /** @param {State} state */
    const update = (state) => {
      const value = state.choices.values[name];
      if (document.activeElement !== number || parseValue(name, number.value) !== (value ?? null)) number.value = value === undefined ? "" : String(value);
      range.value = String(value ?? initial ?? min);
      el.classList.toggle("is-set", value !== undefined);
    };
    return { el, update };
  });
  const reset = make("button", { type: "button", className: "quiet", textContent: "Back to the model’s defaults" });
  reset.addEventListener("click", () => actions.resetParameters());
  const el = sheetOf("parameters", "Parameters",
    field("Instructions", instructions, "What the model is told before the conversation; the use case brings its own."),
    ...controls.map((control) => control.el), make("div", { className: "sheet-tools" }, reset));
  return {
    el,
    update(state) {
      if (instructions.value !== instructionsOf(state)) instructions.value = instructionsOf(state);
      for (const control of controls) control.update(state);
      reset.disabled = Object.keys(state.choices.values).length === 0;
    },
  };
}

/** @param {Actions} actions @returns {Sheet} */
function signInSheet(actions) {
  const address = make("input", { id: "address", type: "url", placeholder: "https://gateway.example", autocomplete: "off", spellcheck: false });
  const addressField = field("Address", address, "A gateway, or the base URL of a server that speaks OpenAI’s API, which ends in /v1.");
  const token = make("input", { id: "token", autofocus: true, type: "password", placeholder: "sk-…", autocomplete: "off", spellcheck: false });
  const error = make("p", { className: "error" });
  error.setAttribute("role", "alert");
  const link = make("a", { className: "quiet", target: "_blank", rel: "noopener noreferrer", textContent: "Generate a token" });
  const create = make("button", { type: "button", className: "quiet", textContent: "Generate a token" });
  create.addEventListener("click", () => void actions.showKeys());
  const signOut = make("button", { type: "button", className: "quiet", textContent: "Sign out" });
  const submit = make("button", { type: "submit", className: "filled", textContent: "Use it" });
  const form = make("form", {}, addressField,
    field("Key or token", token, "It stays in this tab and is forgotten when the tab is closed. It is sent to this address only."),
    error, make("div", { className: "sheet-tools" }, link, create, signOut, submit));
  form.noValidate = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wasRefused = false;
    error.textContent = actions.signIn(address.value, token.value);
    if (!error.textContent) token.value = "";
  });
  signOut.addEventListener("click", () => actions.signIn(address.value, ""));
  const el = sheetOf("sign-in", "Sign in", form);
  let wasRefused = false;
  return {
    el,
    update(state, isOpening) {
      addressField.hidden = state.page.isFixed;
      create.hidden = !canCreateKeys(state);
      link.hidden = !create.hidden || state.page.tokenUrl === null;
      if (state.page.tokenUrl) link.href = state.page.tokenUrl;
      signOut.hidden = !state.hasToken;
      const isRefused = state.models === "refused" && state.hasToken;
      if (isRefused !== wasRefused || isOpening) { // a refusal may come before the dialog has closed
        error.textContent = isRefused ? "This key or token was not accepted: it may be wrong, expired or revoked." : "";
        wasRefused = isRefused;
      }
      if (!isOpening) return;
      address.value = state.endpoint?.base ?? "";
      token.value = "";
    },
  };
}

/** @param {Actions} actions @returns {Sheet} */
function conversationSheet(actions) {
  const title = make("input", { id: "conversation-name", autofocus: true, maxLength: 200, required: true });
  const suggest = make("button", { type: "button", className: "quiet", textContent: "Let the model name it" });
  const hide = make("button", { type: "button", className: "quiet danger", textContent: "Hide from history" });
  const save = make("button", { type: "submit", className: "filled", textContent: "Rename" });
  const form = make("form", {}, field("Title", title), make("div", { className: "sheet-tools" }, hide, suggest, save));
  const el = sheetOf("conversation", "Conversation", form);
  let root = "";
  let known = "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (title.value.trim() === "") return;
    void actions.rename(root, title.value.trim());
    el.close();
  });
  suggest.addEventListener("click", async () => {
    suggest.disabled = true;
    suggest.textContent = "Asking the model…";
    await actions.suggestTitle(root);
    suggest.disabled = false;
    suggest.textContent = "Let the model name it";
  });
  hide.addEventListener("click", () => {
    void actions.hide(root);
    el.close();
  });
  return {
    el,
    update(state, isOpening) {
      if (state.dialog?.kind !== "conversation") return;
      root = state.dialog.root;
      const now = state.history.list.find((each) => each.root === root)?.title ?? "";
      if (isOpening || now !== known) title.value = now;
      known = now;
    },
  };
}
