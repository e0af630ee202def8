// @ts-check
// Starts the live page: mounts the components, which show the state and call the controller's actions.

import "../shared/theme.mjs";
import { elementById, oncePerFrame } from "../shared/dom.mjs";
import { sessionStore, tokenKey } from "../shared/storage.mjs";
import { createLiveClient } from "./client.mjs";
import { mount as mountConnection } from "./components/connection.mjs";
import { mount as mountConversation } from "./components/conversation.mjs";
import { mount as mountFilters } from "./components/filters.mjs";
import { mount as mountInFlight } from "./components/in_flight.mjs";
import { mount as mountInteractions } from "./components/interactions.mjs";
import { mount as mountSignIn } from "./components/sign_in.mjs";
import { createController } from "./controller.mjs";

const show = oncePerFrame(() => {
  const state = controller.state();
  document.body.classList.toggle("is-reading", state.open !== null);
  for (const component of components) component.update(state);
});

const client = createLiveClient(() => String(sessionStore.read(tokenKey("")) ?? "")); // the key of the chat page in this tab
const address = {
  read: () => location.search,
  write: (/** @type {string} */ query) => history.replaceState(null, "", query || location.pathname),
};
const controller = createController(show, { client, address });
const components = [
  mountConnection(elementById("connection"), elementById("announcements"), controller),
  mountSignIn(elementById("sign-in"), (key) => {
    sessionStore.write(tokenKey(""), key);
    controller.signIn();
  }),
  mountFilters(elementById("filters"), controller),
  mountInFlight(elementById("in-flight")),
  mountInteractions(elementById("interactions"), controller),
  mountConversation(elementById("conversation"), controller),
];

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && controller.state().open) controller.open(null);
});
// On a wide page the list scrolls, on a narrow one the page.
addEventListener("scroll", () => controller.scroll(Math.max(scrollY, elementById("interactions").scrollTop) > 120), { capture: true, passive: true });
controller.start();
show();
