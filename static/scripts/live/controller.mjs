// @ts-check
// Joins the log and the state: searches, follows what comes, opens conversations. Knows no element.

import { addressOf, firstState, lineOf, pageOf, queryOf, readAddress, reduce, underwayOf } from "./state.mjs";
import { Refusal } from "./client.mjs";
import { conversationOf, noConversation } from "./turns.mjs";

/** @typedef {import("./state.mjs").Action} Action */
/** @typedef {import("./state.mjs").Wanted} Wanted */
/** @typedef {ReturnType<typeof createController>} Actions */

const FIRST_PAUSE_S = 1;
const LONGEST_PAUSE_S = 15;

/**
 * @param {() => void} show
 * @param {{
 *   log: ReturnType<typeof import("./client.mjs").createLog>,
 *   address: { read: () => string, write: (query: string) => void },
 *   sleep?: (seconds: number) => Promise<void>,
 * }} world
 */
export function createController(show, { log, address, sleep = pause }) {
  const begun = readAddress(address.read());
  let state = firstState(begun.wanted, begun.open);
  /** @type {number | null} */
  let position = null;
  let following = new AbortController();
  let searching = new AbortController();
  let opening = new AbortController();

  /** @param {Action} action */
  function dispatch(action) {
    state = reduce(state, action);
    show();
  }

  function keepAddress() {
    address.write(addressOf(state.wanted, state.open));
  }

  /** A key that is missing, wrong, or not an auditor's. @param {Refusal} refusal */
  function signOut(refusal) {
    following.abort();
    dispatch({ type: "standing", standing: "signed_out", fault: refusal.status === 403 ? refusal.message : "", isLinkNeeded: refusal.code === "link_needed" });
  }

  async function search(isMore = false) {
    searching.abort();
    searching = new AbortController();
    const { signal } = searching;
    try {
      const found = pageOf(await log.search(queryOf(state.wanted, isMore && state.next ? { before: state.next } : {}), signal));
      if (!signal.aborted) dispatch({ type: "found", page: found, isMore });
    } catch (error) {
      if (signal.aborted) return;
      if (isRefused(error)) signOut(error);
      else dispatch({ type: "not_found", fault: messageOf(error) });
    }
  }

  /** What comes from now on, for as long as the same is wanted; a connection that is lost is made again. */
  async function follow() {
    following.abort();
    following = new AbortController();
    const { signal } = following;
    const { from: _, ...wanted } = state.wanted; // what comes is never older
    let patience = FIRST_PAUSE_S;
    dispatch({ type: "standing", standing: "connecting" });
    while (!signal.aborted) {
      try {
        for await (const event of log.watch(queryOf(wanted), position, signal)) {
          patience = FIRST_PAUSE_S;
          hear(event);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isRefused(error)) return signOut(error);
      }
      if (signal.aborted || state.standing === "signed_out") return;
      dispatch({ type: "standing", standing: "lost" });
      await sleep(patience);
      patience = Math.min(patience * 2, LONGEST_PAUSE_S);
    }
  }

  /** @param {import("./client.mjs").LogEvent} event */
  function hear({ name, data }) {
    const isFirst = position === null;
    if (Number.isFinite(data.position)) position = data.position;
    if (name === "interaction") {
      const line = lineOf(data);
      if (line) dispatch({ type: "arrived", line });
    } else if (name === "underway") {
      dispatch({ type: "underway", underway: underwayOf(data, Date.now()) });
    } else if (name === "ended" && data.code !== "shutting_down") {
      signOut(new Refusal(401, String(data.message ?? ""), data.code));
    } else if (name === "away") {
      dispatch({ type: "standing", standing: "away" });
    } else if (name !== "ended" && name !== "passed") {
      dispatch({ type: "standing", standing: "live" });
      if (isFirst || name === "missed" || state.search === "failed") void search();
    }
  }

  /** Reads anew what is wanted. Words are looked for in the log; what comes while they are is not. */
  function begin() {
    position = null;
    if (!state.wanted.q) return void follow(); // searches as soon as it hears from the gateway, so that nothing falls between
    following.abort();
    dispatch({ type: "standing", standing: "searching" });
    void search();
  }

  /** @param {string} id @param {string | null} after */
  async function read(id, after) {
    opening.abort();
    opening = new AbortController();
    const { signal } = opening;
    try {
      const before = after === null ? null : state.conversation;
      dispatch({ type: "conversation", id, conversation: conversationOf(await log.open(id, after, signal), before) });
    } catch (error) {
      if (signal.aborted) return;
      if (isRefused(error)) return signOut(error);
      dispatch({ type: "conversation", id, conversation: noConversation(messageOf(error)) });
    }
  }

  return {
    state: () => state,

    start() {
      begin();
      if (state.open) void read(state.open, null);
    },
    /** @param {Wanted} wanted */
    want(wanted) {
      dispatch({ type: "wanted", wanted });
      keepAddress();
      begin();
    },
    showMore: () => search(true),
    /** @param {boolean} isPaused */
    pause: (isPaused) => dispatch({ type: "paused", isPaused }),
    /** @param {boolean} isScrolled */
    scroll(isScrolled) {
      if (isScrolled !== state.isScrolled) dispatch({ type: "scrolled", isScrolled });
    },
    reveal: () => dispatch({ type: "revealed" }),
    /** @param {string | null} id null closes it */
    open(id) {
      opening.abort();
      dispatch({ type: "opened", id });
      keepAddress();
      if (id) void read(id, null);
    },
    readOn() {
      const { open, conversation } = state;
      if (open && conversation?.next) void read(open, conversation.next);
    },
    /** After a key was given. */
    signIn() {
      dispatch({ type: "wanted", wanted: state.wanted });
      this.start();
    },
  };
}

/** @param {unknown} error @returns {error is Refusal} */
function isRefused(error) {
  return error instanceof Refusal && (error.status === 401 || error.status === 403);
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Refusal ? error.message : "The gateway does not answer.";
}

/** @param {number} seconds @returns {Promise<void>} */
function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
