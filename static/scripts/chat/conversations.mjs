// @ts-check
// The list of conversations, and changes of one: open, rename, hide, new chat.

import { emptyChat } from "./chats.mjs";
import { problemOf } from "./client.mjs";
import { chatOf } from "./history.mjs";

/** @typedef {ReturnType<typeof createConversations>} Conversations */

const RETRY_S = [0.2, 0.5, 1, 2];

/**
 * @param {{
 *   store: import("./store.mjs").Store,
 *   client: () => import("./client.mjs").Client,
 *   sleep: import("./recovery.mjs").Sleep,
 *   answering: import("./answering.mjs").Answering,
 * }} needs
 */
export function createConversations({ store, client, sleep, answering }) {
  const { state, dispatch, dispatchAndSave } = store;
  let requests = 0;

  /** @param {{ query?: string, isMore?: boolean }} [options] */
  async function refresh({ query = state().history.query, isMore = false } = {}) {
    if (state().history.status === "absent") return;
    const own = (requests += 1);
    const before = isMore ? state().history.next : null;
    dispatch({ type: "history_requested", query });
    try {
      const page = await client().history(query, before);
      if (own === requests) dispatch({ type: "history_loaded", rows: page.rows, next: page.next, isMore });
    } catch (error) {
      if (own === requests) dispatch({ type: "history_failed", problem: problemOf(error) });
    }
  }

  /** Refreshes until the list has the latest answer, which the gateway stores a moment after its end. */
  async function refreshUntilListed() {
    const { root, messages } = state().chat;
    const interaction = messages.findLast((message) => message.interaction)?.interaction;
    for (const seconds of RETRY_S) {
      await refresh();
      const { history, chat } = state();
      const isListed = history.list.some((each) => each.root === root && (!interaction || each.row?.id === interaction));
      if (isListed || history.query || chat.root !== root || !root) return;
      await sleep(seconds, new AbortController().signal);
    }
    await refresh();
  }

  /** @param {() => Promise<void>} change whose error is shown as a notice */
  async function orNotice(change) {
    try {
      await change();
    } catch (error) {
      const problem = problemOf(error);
      store.showNotice(`${problem.title} ${problem.advice}`);
    }
  }

  function newChat() {
    answering.leave();
    dispatchAndSave({ type: "new_chat" });
  }

  return {
    refresh,
    refreshUntilListed,
    newChat,

    /** @param {string} root */
    async open(root) {
      const { chat, history, parked, nextId } = state();
      if (root === chat.root) return;
      const row = history.list.find((each) => each.root === root)?.row;
      if (!row && !parked[root]) return;
      answering.leave();
      dispatchAndSave({ type: "chat_opened", chat: row ? chatOf(row, nextId) : { ...emptyChat(), root } });
      answering.recoverIfStreaming();
    },

    /** @param {string} root @param {string} title */
    rename: (root, title) => orNotice(async () => dispatchAndSave({ type: "renamed", root, title: await client().rename(root, title) })),

    /** @param {string} root */
    suggestTitle: (root) => orNotice(async () => dispatchAndSave({ type: "renamed", root, title: await client().suggestTitle(root) })),

    /** @param {string} root */
    hide: (root) => orNotice(async () => {
      await client().hide(root);
      dispatch({ type: "hidden", root });
      if (state().chat.root === root) newChat();
      store.showNotice("The conversation is hidden from your history. Nothing is deleted.");
    }),
  };
}
