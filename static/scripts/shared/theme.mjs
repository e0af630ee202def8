// @ts-check
// Light theme, dark theme, or the system's. The style sheets' colours follow `color-scheme`.

import { localStore } from "./storage.mjs";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @returns {Theme} */
export function theme() {
  const stored = localStore.read("theme");
  return stored === "light" || stored === "dark" ? stored : "system";
}

/** @param {Theme} chosen */
function apply(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

/** Goes from the system's theme to the opposite one, then to the third, and back. */
export function nextTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  /** @type {Theme[]} */
  const order = ["system", isDark ? "light" : "dark", isDark ? "dark" : "light"];
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  localStore.write("theme", next === "system" ? null : next);
  apply(next);
}

apply(theme());
