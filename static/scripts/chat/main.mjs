// @ts-check
// Starts the chat page: mounts the components, which show the state and call the controller's actions.

import "../shared/theme.mjs";
import { elementById, oncePerFrame } from "../shared/dom.mjs";
import { localStore, sessionStore } from "../shared/storage.mjs";
import { focusComposer, mount as mountComposer } from "./components/composer.mjs";
import { mount as mountDialogs } from "./components/dialogs.mjs";
import { mount as mountHeader } from "./components/header.mjs";
import { mount as mountSidebar } from "./components/sidebar.mjs";
import { mount as mountThread } from "./components/thread.mjs";
import { createController } from "./controller.mjs";

const sidebar = elementById("sidebar");
const narrow = matchMedia("(max-width: 56rem)");

/** On a narrow page the open sidebar covers the conversation, which is then inert. @param {boolean} isOpen */
function showSidebar(isOpen) {
  document.body.classList.toggle("with-sidebar", isOpen);
  const covers = isOpen && narrow.matches;
  for (const id of ["header", "thread", "composer"]) elementById(id).inert = covers;
  sidebar.inert = narrow.matches && !isOpen;
  if (covers) /** @type {HTMLElement | null} */ (sidebar.querySelector(".close-sidebar"))?.focus();
}

function closeSidebar() {
  if (!document.body.classList.contains("with-sidebar")) return;
  showSidebar(false);
  /** @type {HTMLElement | null} */ (document.querySelector(".menu"))?.focus();
}

const address = new URLSearchParams(location.search).get("gateway") ?? "";
const show = oncePerFrame(() => {
  for (const component of components) component.update(controller.state());
});
const controller = createController(show, { localStore, sessionStore, address, pageUrl: document.baseURI });
const components = [
  mountHeader(elementById("header"), controller, () => showSidebar(true)),
  mountSidebar(sidebar, controller, closeSidebar),
  mountThread(elementById("thread"), controller),
  mountComposer(elementById("composer"), controller),
  mountDialogs(elementById("dialogs"), controller),
];

narrow.addEventListener("change", () => showSidebar(false));
elementById("backdrop").addEventListener("click", closeSidebar);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeSidebar();
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (narrow.matches) showSidebar(true);
    document.getElementById("search")?.focus();
  } else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    controller.newChat();
    focusComposer();
  }
});
addEventListener("pagehide", () => controller.save());
showSidebar(false);
void controller.start();
focusComposer();
