// @ts-check
// Puts the live page together: components get the state, the controller gets what people do.

import "../shared/theme.mjs";
import { passing, tokenName } from "../shared/storage.mjs";
import { createController } from "./controller.mjs";
import { mount as mountFilters } from "./components/filters.mjs";
import { mount as mountList } from "./components/interactions.mjs";
import { createLog } from "./client.mjs";
import { mount as mountPulse } from "./components/connection.mjs";
import { mount as mountReader } from "./components/conversation.mjs";
import { mount as mountSignIn } from "./components/sign_in.mjs";
import { mount as mountUnderway } from "./components/in_flight.mjs";

/** @param {string} id */
function place(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`live.html has no #${id}`);
  return el;
}

let isDue = false;

/** Shows the newest state once a frame, however many lines came in between. A hidden page has no frames, and waits. */
function show() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    const state = controller.state();
    document.body.classList.toggle("is-reading", state.open !== null);
    for (const component of components) component.update(state);
  });
}

const log = createLog(() => String(passing.read(tokenName("")) ?? "")); // the chat page's key, for this tab
const address = {
  read: () => location.search,
  write: (/** @type {string} */ query) => history.replaceState(null, "", query || location.pathname),
};
const controller = createController(show, { log, address });
const components = [
  mountPulse(place("pulse"), place("told"), controller),
  mountSignIn(place("signin"), (key) => {
    passing.write(tokenName(""), key);
    controller.signIn();
  }),
  mountFilters(place("filters"), controller),
  mountUnderway(place("underway")),
  mountList(place("lines"), controller),
  mountReader(place("conversation"), controller),
];

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && controller.state().open) controller.open(null);
});
// On a wide page the list scrolls by itself, on a narrow one the page does.
addEventListener("scroll", () => controller.scroll(Math.max(scrollY, place("lines").scrollTop) > 120), { capture: true, passive: true });
controller.start();
show();
