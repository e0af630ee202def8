// @ts-check
// Puts the page together: components get the state, the controller gets what people do.

import "../shared/theme.mjs";
import { mount as mountComposer } from "./components/composer.mjs";
import { mount as mountDialogs } from "./components/dialogs.mjs";
import { mount as mountHeader } from "./components/header.mjs";
import { mount as mountSidebar } from "./components/sidebar.mjs";
import { mount as mountThread } from "./components/thread.mjs";
import { createController } from "./controller.mjs";
import { focusComposer } from "../shared/dom.mjs";
import { lasting, passing } from "../shared/storage.mjs";

/** @param {string} id */
function place(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`index.html has no #${id}`);
  return el;
}

let isDue = false;

/** Shows the newest state once a frame, however many chunks came in between. A hidden page has no frames, and waits. */
function show() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const component of components) component.update(controller.state());
  });
}

const sidebar = place("sidebar");
const narrow = matchMedia("(max-width: 56rem)");

/** On a narrow page the list lies over the conversation, which then cannot be reached. @param {boolean} isOpen */
function showSidebar(isOpen) {
  document.body.classList.toggle("with-sidebar", isOpen);
  const covers = isOpen && narrow.matches;
  for (const id of ["header", "thread", "composer"]) place(id).inert = covers;
  sidebar.inert = narrow.matches && !isOpen;
  if (covers) /** @type {HTMLElement | null} */ (sidebar.querySelector(".shut"))?.focus();
}

function closeSidebar() {
  if (!document.body.classList.contains("with-sidebar")) return;
  showSidebar(false);
  /** @type {HTMLElement | null} */ (document.querySelector(".menu"))?.focus();
}

const address = new URLSearchParams(location.search).get("gateway") ?? "";
const controller = createController(show, { lasting, passing, address, here: document.baseURI });
const components = [
  mountHeader(place("header"), controller, () => showSidebar(true)),
  mountSidebar(sidebar, controller, closeSidebar),
  mountThread(place("thread"), controller),
  mountComposer(place("composer"), controller),
  mountDialogs(place("dialogs"), controller),
];

narrow.addEventListener("change", () => showSidebar(false));
place("veil").addEventListener("click", closeSidebar);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeSidebar();
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (narrow.matches) showSidebar(true);
    document.getElementById("search")?.focus();
  } else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    controller.reset();
    focusComposer();
  }
});
addEventListener("pagehide", () => controller.keep());
showSidebar(false);
void controller.start();
focusComposer();
