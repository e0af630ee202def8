// @ts-check
// Parts of all dialogs: the frame with a title and a close button, fields with their help.

import { iconButton, make } from "../../shared/dom.mjs";

/** @typedef {import("../state.mjs").State} State */
/** @typedef {{ el: HTMLDialogElement, update: (state: State, isOpening: boolean) => void }} Sheet */

/**
 * @param {string} id
 * @param {string} title
 * @param {...Node} children
 */
export function sheetOf(id, title, ...children) {
  const heading = make("h2", { id: `${id}-title`, textContent: title });
  const el = make("dialog", { id, className: "sheet" });
  const head = make("div", { className: "sheet-head" }, heading, iconButton("close", "Close", () => el.close()));
  el.setAttribute("aria-labelledby", heading.id);
  el.append(make("div", { className: "sheet-body" }, head, ...children));
  return el;
}

/**
 * @param {string} label
 * @param {HTMLElement} control
 * @param {string} [help]
 */
export function field(label, control, help = "") {
  const caption = make("label", { htmlFor: control.id, textContent: label });
  const note = make("p", { className: "help", id: `${control.id}-help`, textContent: help });
  if (help) control.setAttribute("aria-describedby", note.id);
  return make("div", { className: "field" }, caption, control, ...(help ? [note] : []));
}
