// @ts-check
// How new interactions come: a word, a way to stop them for a while, and now and then a sentence for those who listen.

import { make } from "../../shared/dom.mjs";
import { standingText } from "../state.mjs";

const SPEAK_EVERY_MS = 15_000; // a screen reader is told of new lines no more often than that

/**
 * @param {HTMLElement} el
 * @param {HTMLElement} told the polite live region
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, told, actions) {
  const word = make("span", { className: "standing" });
  const stop = make("button", { type: "button", className: "quiet pause" });
  stop.addEventListener("click", () => actions.pause(!actions.state().isPaused));
  el.append(word, stop);
  let spoken = "";
  let counted = 0;
  let spokenAt = 0;
  let known = 0;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      const text = standingText(state);
      word.textContent = text;
      el.className = `pulse ${state.isPaused && state.standing === "live" ? "paused" : state.standing}`;
      stop.textContent = state.isPaused ? "Go on" : "Pause";
      stop.hidden = ["signed_out", "searching", "ended"].includes(state.standing);
      const count = state.lines.filter((line) => line.isNew).length + state.waiting.length;
      counted += Math.max(0, count - known);
      known = count;
      const now = Date.now();
      if (text !== spoken) {
        told.textContent = text;
        spoken = text;
      } else if (counted > 0 && now - spokenAt > SPEAK_EVERY_MS) {
        told.textContent = `${counted} new`;
        counted = 0;
        spokenAt = now;
      }
    },
  };
}
