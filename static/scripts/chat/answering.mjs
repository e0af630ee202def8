// @ts-check
// Sends questions and follows their answers: streaming, stop, recovery.

import { isAnswering, lastMessage, pathOf, streamingAnswer } from "./chats.mjs";
import { ApiError, problemOf } from "./client.mjs";
import { requestBody, wireMessages } from "./openai.mjs";
import { recover } from "./recovery.mjs";
import { instructionsOf, isStreaming } from "./state.mjs";

/** @typedef {import("./recovery.mjs").RecoveryEvent} RecoveryEvent */
/** @typedef {ReturnType<typeof createAnswering>} Answering */

/**
 * @param {{
 *   store: import("./store.mjs").Store,
 *   client: () => import("./client.mjs").Client,
 *   now: () => number,
 *   sleep: import("./recovery.mjs").Sleep,
 *   onEnd: () => void,
 * }} needs `now` in milliseconds; `onEnd` is called when an answer has ended in the open conversation
 */
export function createAnswering({ store, client, now, sleep, onEnd }) {
  const { state, dispatch, dispatchAndSave } = store;
  /** @type {{ abort: AbortController, isStopped: boolean } | null} */
  let running = null;
  const isGateway = () => state().endpoint?.api === "gateway";

  /**
   * Dispatches the events of an answer until it ends or the conversation is left.
   * @param {(signal: AbortSignal) => AsyncGenerator<RecoveryEvent>} open
   * @param {number} sentAt NaN: before a reload
   */
  async function follow(open, sentAt) {
    const own = { abort: new AbortController(), isStopped: false };
    running = own;
    const seconds = () => (Number.isFinite(sentAt) ? (now() - sentAt) / 1000 : undefined);
    try {
      let status = /** @type {"complete" | "stopped"} */ ("complete");
      for await (const event of open(own.abort.signal)) {
        if (own.isStopped) {
          if (event.kind === "started" && event.interaction) stopAtGateway(event.interaction, own.abort);
          continue;
        }
        if (event.kind === "problem") dispatchAndSave({ type: "answer_failed", problem: event.problem, seconds: seconds() });
        else if (event.kind === "restarted") dispatch({ type: "answer_restarted" });
        else if (event.kind === "stopped") status = "stopped";
        else dispatch({ type: "answer_event", event, seconds: seconds() ?? NaN });
        if (event.kind === "started") store.save();
      }
      if (!own.isStopped) dispatchAndSave({ type: "answer_ended", status, seconds: seconds() });
    } catch (error) {
      if (own.abort.signal.aborted || own.isStopped) return;
      if (isConnectionLost(error)) {
        dispatchAndSave({ type: "answer_recovering" });
        return void follow(recovery, sentAt);
      }
      if (error instanceof ApiError && error.problem.action === "sign_in") dispatch({ type: "dialog_shown", dialog: { kind: "sign_in" } });
      dispatchAndSave({ type: "answer_failed", problem: problemOf(error), seconds: seconds() });
    } finally {
      if (running === own) running = null;
    }
    onEnd();
  }

  /** @param {unknown} error */
  function isConnectionLost(error) {
    return error instanceof ApiError && error.status === 0 && isGateway() && lastMessage(state().chat)?.phase !== "recovering";
  }

  /** @param {AbortSignal} signal */
  function recovery(signal) {
    const { chat } = state();
    return recover(client(), { interaction: streamingAnswer(chat)?.interaction, body: chat.pending ?? "" }, signal, sleep);
  }

  /** @param {string} id @param {AbortController} abort */
  function stopAtGateway(id, abort) {
    client().stop(id).catch(() => {}).finally(() => abort.abort()); // an error means that the answer has already ended
  }

  return {
    /** @param {import("./reducer.mjs").Action} action adds a question or a variant of an answer, if the state allows it */
    ask(action) {
      if (isStreaming(state())) return;
      dispatch(action);
      const { chat, endpoint, model, choices } = state();
      if (!isAnswering(chat)) return;
      const messages = wireMessages(instructionsOf(state()), pathOf(chat).slice(0, -1));
      const root = endpoint?.api === "gateway" ? chat.root : null;
      const body = requestBody({ model, messages, values: choices.values, root });
      dispatchAndSave({ type: "requested", body });
      void follow((signal) => client().chat(body, signal), now());
    },

    stop() {
      if (!running || !isStreaming(state())) return;
      const id = streamingAnswer(state().chat)?.interaction;
      running.isStopped = true;
      if (!isGateway()) running.abort.abort();
      else if (id) stopAtGateway(id, running.abort); // without an id, `follow` stops it as soon as the id arrives
      dispatchAndSave({ type: "answer_ended", status: "stopped" });
    },

    /** Stops following the answer. The gateway completes and records it. */
    leave() {
      running?.abort.abort();
      running = null;
    },

    /** Recovers the answer of a conversation that was left or reloaded while it streamed. */
    recoverIfStreaming() {
      if (!isStreaming(state())) return;
      if (!isGateway()) return dispatchAndSave({ type: "answer_ended", status: "stopped" });
      dispatch({ type: "answer_recovering" });
      void follow(recovery, NaN);
    },
  };
}
