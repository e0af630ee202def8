// @ts-check
// The actions of the live page: search, follow the event stream, open conversations.

import { addressOf, queryOf, readAddress } from "./address.mjs";
import { LiveApiError, isRefused } from "./client.mjs";
import { createEventStream } from "./event_stream.mjs";
import { pageOf } from "./interactions.mjs";
import { initialState, reduce } from "./state.mjs";
import { conversationOf, failedConversation } from "./turns.mjs";

/** @typedef {import("./state.mjs").Action} Action */
/** @typedef {ReturnType<typeof createController>} Actions */

/**
 * @param {() => void} show called after each change of the state
 * @param {{
 *   client: import("./client.mjs").LiveClient,
 *   address: { read: () => string, write: (query: string) => void },
 *   sleep?: (seconds: number) => Promise<void>,
 * }} environment `address` is the query of the page's URL
 */
export function createController(show, { client, address, sleep = sleepFor }) {
  const initial = readAddress(address.read());
  let state = initialState(initial.filters, initial.open);
  let searching = new AbortController();
  let opening = new AbortController();
  const stream = createEventStream({ client, state: () => state, dispatch, sleep, onGap: () => void search(), onRefused: signOut });

  /** @param {Action} action */
  function dispatch(action) {
    state = reduce(state, action);
    show();
  }

  function saveAddress() {
    address.write(addressOf(state.filters, state.open));
  }

  /** Shows the sign-in: the key is missing, wrong, or not an auditor's. @param {LiveApiError} error */
  function signOut(error) {
    stream.stop();
    dispatch({ type: "status", status: "signed_out", error: error.status === 403 ? error.message : "", isLinkNeeded: error.code === "link_needed" });
  }

  async function search(isMore = false) {
    searching.abort();
    searching = new AbortController();
    const { signal } = searching;
    try {
      const page = pageOf(await client.search(queryOf(state.filters, isMore && state.next ? { before: state.next } : {}), signal));
      if (!signal.aborted) dispatch({ type: "search_loaded", page, isMore });
    } catch (error) {
      if (signal.aborted) return;
      if (isRefused(error)) signOut(error);
      else dispatch({ type: "search_failed", error: messageOf(error) });
    }
  }

  /** Loads anew. A search for words is not live: the event stream cannot search in texts. */
  function load() {
    stream.stop();
    if (!state.filters.q) return stream.start(); // its first event starts the search, so that no interaction is missed
    dispatch({ type: "status", status: "searching" });
    void search();
  }

  /** @param {string} id @param {string | null} after the cursor of the next page */
  async function loadConversation(id, after) {
    opening.abort();
    opening = new AbortController();
    const { signal } = opening;
    try {
      const previous = after === null ? null : state.conversation;
      dispatch({ type: "conversation", id, conversation: conversationOf(await client.conversation(id, after, signal), previous) });
    } catch (error) {
      if (signal.aborted) return;
      if (isRefused(error)) return signOut(error);
      dispatch({ type: "conversation", id, conversation: failedConversation(messageOf(error)) });
    }
  }

  return {
    state: () => state,

    start() {
      load();
      if (state.open) void loadConversation(state.open, null);
    },
    /** @param {import("./address.mjs").Filters} filters */
    filter(filters) {
      dispatch({ type: "filtered", filters });
      saveAddress();
      load();
    },
    showMore: () => search(true),
    /** @param {boolean} isPaused */
    pause: (isPaused) => dispatch({ type: "paused", isPaused }),
    /** @param {boolean} isScrolled */
    scroll(isScrolled) {
      if (isScrolled !== state.isScrolled) dispatch({ type: "scrolled", isScrolled });
    },
    reveal: () => dispatch({ type: "revealed" }),
    /** @param {string | null} id null closes the conversation */
    open(id) {
      opening.abort();
      dispatch({ type: "opened", id });
      saveAddress();
      if (id) void loadConversation(id, null);
    },
    showMoreTurns() {
      const { open, conversation } = state;
      if (open && conversation?.next) void loadConversation(open, conversation.next);
    },
    /** Starts again with the key that the user has entered. */
    signIn() {
      dispatch({ type: "filtered", filters: state.filters });
      this.start();
    },
  };
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof LiveApiError ? error.message : "The gateway does not answer.";
}

/** @param {number} seconds @returns {Promise<void>} */
function sleepFor(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
