// @ts-check
// The running answers: user, model, duration. One line, or all of them; not a live region, because it changes every second.

import { make } from "../../shared/dom.mjs";
import { durationText } from "../format.mjs";

/** @typedef {import("../interactions.mjs").RunningAnswer} RunningAnswer */

const MAX_COLLAPSED = 12; // the style sheet clips those that do not fit into the line
const MAX_SENT = 200; // the gateway sends no more

/** @param {HTMLElement} el */
export function mount(el) {
  const count = make("button", { type: "button", className: "count" });
  const list = make("ul", { className: "chips" });
  el.append(count, list);
  /** @type {RunningAnswer[] | null} */
  let shown = null;
  /** @type {{ clock: HTMLElement, startedAt: number }[]} */
  let clocks = [];
  let isOpen = false;

  function tick() {
    const now = Date.now();
    for (const { clock, startedAt } of clocks) clock.textContent = durationText(now - startedAt);
  }

  /** @param {RunningAnswer[]} running */
  function show(running) {
    shown = running;
    clocks = [];
    const chips = running.slice(0, isOpen ? Infinity : MAX_COLLAPSED).map((answer) => {
      const clock = make("span", { className: "clock" });
      clocks.push({ clock, startedAt: answer.startedAt });
      return chipOf(answer, clock);
    });
    count.textContent = running.length > 0 ? `${running.length}${running.length < MAX_SENT ? "" : " or more"} being answered` : "Nothing is being answered at the moment";
    count.disabled = running.length === 0;
    count.setAttribute("aria-expanded", String(isOpen));
    el.classList.toggle("is-open", isOpen);
    list.replaceChildren(...chips);
    tick();
  }

  count.addEventListener("click", () => {
    isOpen = !isOpen;
    show(shown ?? []);
  });
  setInterval(tick, 1000);

  return {
    /** @param {import("../state.mjs").State} state */
    update(state) {
      el.hidden = state.status !== "live" && state.status !== "database_down"; // an empty one stays, so that the list does not jump
      if (shown !== state.running) show(state.running);
    },
  };
}

/** @param {RunningAnswer} answer @param {HTMLElement} clock */
function chipOf({ user, title, model }, clock) {
  const name = make("span", { className: "user", textContent: user || "not known", title });
  return make("li", {}, name, make("span", { className: "model", textContent: model }), clock);
}
