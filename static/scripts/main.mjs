// @ts-check
// Puts the page together: components get the state, the controller gets what people do.

import { mount as mountComposer } from "./components/composer.mjs";
import { mount as mountHeader } from "./components/header.mjs";
import { mount as mountThread } from "./components/thread.mjs";
import { createController } from "./controller.mjs";
import { focusComposer } from "./dom.mjs";
import { createGateway } from "./gateway.mjs";

/** @param {string} id */
function place(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`index.html has no #${id}`);
  return el;
}

let isDue = false;

/** Shows the newest state once a frame, however many chunks came in between; a hidden page waits. */
function show() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const component of components) component.update(controller.state());
  });
}

const controller = createController(createGateway(), show);
const components = [
  mountHeader(place("header"), controller),
  mountThread(place("thread"), controller),
  mountComposer(place("composer"), controller),
];
void controller.start();
focusComposer();
