// @ts-check
// The status of the event stream, a pause button, and announcements for screen readers.

import { make } from "../../shared/dom.mjs";
import { statusText } from "../state.mjs";

const ANNOUNCE_EVERY_MS = 15_000; // at most one announcement of new interactions in this time

/**
 * @param {HTMLElement} el
 * @param {HTMLElement} announcements a polite live region
 * @param {import("../controller.mjs").Actions} actions
 */
export function mount(el, announcements, actions) {
  const status = make("span", { className: "status" });
  const pause = make("button", { type: "button", className: "quiet pause" });
  pause.addEventListener("click", () => actions.pause(!actions.state().isPaused));
  el.append(status, pause);
  let announced = "";
  let announcedAt = 0;
  let unannounced = 0;
  let lastCount = 0;

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      const text = statusText(state);
      status.textContent = text;
      el.className = `connection ${state.isPaused && state.status === "live" ? "paused" : state.status}`;
      pause.textContent = state.isPaused ? "Go on" : "Pause";
      pause.hidden = state.status === "signed_out" || state.status === "searching";
      const count = state.interactions.filter((each) => each.isNew).length + state.waiting.length;
      unannounced += Math.max(0, count - lastCount);
      lastCount = count;
      const now = Date.now();
      if (text !== announced) {
        announcements.textContent = text;
        announced = text;
      } else if (unannounced > 0 && now - announcedAt > ANNOUNCE_EVERY_MS) {
        announcements.textContent = `${unannounced} new`;
        unannounced = 0;
        announcedAt = now;
      }
    },
  };
}
