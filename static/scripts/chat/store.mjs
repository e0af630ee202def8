// @ts-check
// Holds the state of the chat page, and stores what survives a reload.

import { reduce } from "./reducer.mjs";
import { initialState } from "./state.mjs";

/** @typedef {import("./state.mjs").State} State */
/** @typedef {import("./reducer.mjs").Action} Action */
/** @typedef {import("../shared/storage.mjs").JsonStorage} JsonStorage */
/** @typedef {ReturnType<typeof createStore>} Store */

/**
 * @param {(state: State) => void} show called after each action
 * @param {{ localStore: JsonStorage, sessionStore: JsonStorage }} storage
 */
export function createStore(show, { localStore, sessionStore }) {
  let state = initialState();

  /** @param {Action} action */
  function dispatch(action) {
    state = reduce(state, action);
    show(state);
  }

  function save() {
    sessionStore.write("chat", state.chat.messages.length > 0 ? state.chat : null);
    sessionStore.write("parked", state.parked);
    sessionStore.write("drafts", state.drafts);
    localStore.write("choices", state.choices);
  }

  return {
    state: () => state,
    dispatch,
    save,
    /** @param {Action} action */
    dispatchAndSave(action) {
      dispatch(action);
      save();
    },
    /** @param {string} text */
    showNotice(text) {
      dispatch({ type: "notice_shown", text });
    },
  };
}
