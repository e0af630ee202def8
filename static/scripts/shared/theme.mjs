// @ts-check
// Light, dark, or as the system has it. The style sheet's colours follow `color-scheme`.

import { lasting } from "./storage.mjs";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @returns {Theme} */
export function theme() {
  const kept = lasting.read("theme");
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** @param {Theme} chosen */
function apply(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

/** From the system's to the other one, to the one that is left, and back. */
export function nextTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  /** @type {Theme[]} */
  const order = ["system", isDark ? "light" : "dark", isDark ? "dark" : "light"];
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  lasting.write("theme", next === "system" ? null : next);
  apply(next);
}

apply(theme());
