// @ts-check
// The actions of the chat page. Components call them and show the state; modules beside this one carry them out.

import { createAnswering } from "./answering.mjs";
import { createConnection } from "./connection.mjs";
import { createConversations } from "./conversations.mjs";
import { createOwnKeys } from "./own_keys.mjs";
import { noEndpointProblem } from "./problems.mjs";
import { sleep as sleepFor } from "./recovery.mjs";
import { draftOf } from "./state.mjs";
import { createStore } from "./store.mjs";

/** @typedef {ReturnType<typeof createController>} Actions */

/**
 * The browser as the controller uses it. Tests replace it.
 * @typedef {object} Environment
 * @property {import("./client.mjs").Fetch} [send]
 * @property {() => number} [now] milliseconds
 * @property {import("../shared/storage.mjs").JsonStorage} localStore
 * @property {import("../shared/storage.mjs").JsonStorage} sessionStore
 * @property {string} [address] of an endpoint, from the page's URL
 * @property {string} [pageUrl]
 * @property {import("./recovery.mjs").Sleep} [sleep]
 */

/**
 * @param {(state: import("./state.mjs").State) => void} show called after each change of the state
 * @param {Environment} environment
 */
export function createController(show, environment) {
  const { send, now = () => performance.now(), localStore, sessionStore, address = "", pageUrl = "", sleep = sleepFor } = environment;
  let isSendPending = false; // the user has sent a message before the models are listed

  const store = createStore(show, { localStore, sessionStore });
  const { state, dispatch, dispatchAndSave } = store;
  const connection = createConnection({ store, localStore, sessionStore, send, address, onConnect });
  const { client } = connection;
  const answering = createAnswering({ store, client, now, sleep, onEnd: () => void conversations.refreshUntilListed() });
  const conversations = createConversations({ store, client, sleep, answering });
  const ownKeys = createOwnKeys({ store, client, pageUrl });

  async function onConnect() {
    answering.recoverIfStreaming();
    if (isSendPending) answering.ask({ type: "sent", text: draftOf(state()) });
    isSendPending = false;
    await conversations.refresh();
  }

  return {
    state,
    start: connection.start,
    signIn: connection.signIn,
    save: store.save,
    showNotice: store.showNotice,
    /** @param {import("./state.mjs").Dialog | null} dialog null closes it */
    showDialog: (dialog) => dispatch({ type: "dialog_shown", dialog }),

    /** @param {string} text */
    send(text) {
      const { endpoint, models } = state();
      if (endpoint === null && models !== "loading") return store.showNotice(`${noEndpointProblem().title} ${noEndpointProblem().advice}`);
      if (models === "loading") isSendPending = true;
      else answering.ask({ type: "sent", text });
    },
    /** @param {number} [id] of the answer; the last one by default */
    retry: (id) => answering.ask({ type: "retried", id }),
    /** @param {number} id @param {string} text */
    edit: (id, text) => answering.ask({ type: "edited", id, text }),
    stop: answering.stop,
    /** @param {number} id of a message in it */
    selectBranch: (id) => dispatchAndSave({ type: "branch_selected", id }),
    /** @param {string} text */
    changeDraft(text) {
      dispatch({ type: "draft_changed", text });
      sessionStore.write("drafts", state().drafts);
    },

    /** @param {string} model */
    chooseModel: (model) => dispatchAndSave({ type: "model_chosen", model }),
    /** @param {string} id */
    chooseUseCase: (id) => dispatchAndSave({ type: "use_case_chosen", id }),
    /** @param {string} text */
    changeInstructions: (text) => dispatchAndSave({ type: "instructions_changed", text }),
    /** @param {string} name @param {number | null} value null: the model's default */
    changeParameter: (name, value) => dispatchAndSave({ type: "parameter_changed", name, value }),
    resetParameters: () => dispatchAndSave({ type: "parameters_reset" }),

    newChat: conversations.newChat,
    open: conversations.open,
    rename: conversations.rename,
    suggestTitle: conversations.suggestTitle,
    hide: conversations.hide,
    /** @param {string} query */
    search: (query) => conversations.refresh({ query }),
    showMore: () => conversations.refresh({ isMore: true }),

    showKeys: ownKeys.show,
    createKey: ownKeys.create,
    revokeKey: ownKeys.revoke,
  };
}
