// @ts-check
// What is being answered at the moment: who asks which model, and for how long by now. In one line, or all of it; not told
// to ears by itself, for it changes all the time.

import { make } from "../../shared/dom.mjs";
import { secondsText } from "../state.mjs";

/** @typedef {import("../state.mjs").Underway} Underway */

const IN_A_LINE = 12; // what does not fit is cut: the count says how many there are
const MOST_TOLD = 200; // by the gateway

/** @param {HTMLElement} el */
export function mount(el) {
  const count = make("button", { type: "button", className: "count" });
  const list = make("ul", { className: "chips" });
  el.append(count, list);
  /** @type {Underway[] | null} */
  let shown = null;
  /** @type {{ clock: HTMLElement, since: number }[]} */
  let clocks = [];
  let isOpen = false;

  function tick() {
    const now = Date.now();
    for (const { clock, since } of clocks) clock.textContent = secondsText(now - since);
  }

  /** @param {Underway[]} underway */
  function place(underway) {
    shown = underway;
    clocks = [];
    const chips = underway.slice(0, isOpen ? Infinity : IN_A_LINE).map((one) => {
      const clock = make("span", { className: "clock" });
      clocks.push({ clock, since: one.since });
      return chipOf(one, clock);
    });
    count.textContent = underway.length > 0 ? `${underway.length}${underway.length < MOST_TOLD ? "" : " or more"} being answered` : "Nothing is being answered at the moment";
    count.disabled = underway.length === 0;
    count.setAttribute("aria-expanded", String(isOpen));
    el.classList.toggle("is-open", isOpen);
    list.replaceChildren(...chips);
    tick();
  }

  count.addEventListener("click", () => {
    isOpen = !isOpen;
    place(shown ?? []);
  });
  setInterval(tick, 1000);

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.standing !== "live" && state.standing !== "away"; // else it stays, so that the list does not jump
      if (shown !== state.underway) place(state.underway);
    },
  };
}

/** @param {Underway} one @param {HTMLElement} clock */
function chipOf({ user, title, model }, clock) {
  const who = make("span", { className: "who", textContent: user || "not known", title });
  return make("li", {}, who, make("span", { className: "model", textContent: model }), clock);
}
