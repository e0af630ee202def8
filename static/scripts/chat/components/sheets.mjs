// @ts-check
// What all sheets are made of: a title, a way out, fields with their explanations.

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
  const words = make("label", { htmlFor: control.id, textContent: label });
  const line = make("p", { className: "help", id: `${control.id}-help`, textContent: help });
  if (help) control.setAttribute("aria-describedby", line.id);
  return make("div", { className: "field" }, words, control, ...(help ? [line] : []));
}
