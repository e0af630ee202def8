// @ts-check
// Follows the gateway's event stream, and reconnects when it is lost.

import { queryOf } from "./address.mjs";
import { LiveApiError, isRefused } from "./client.mjs";
import { interactionOf, runningAnswersOf } from "./interactions.mjs";

const MIN_PAUSE_S = 1;
const MAX_PAUSE_S = 15;

/**
 * @param {{
 *   client: import("./client.mjs").LiveClient,
 *   state: () => import("./state.mjs").State,
 *   dispatch: (action: import("./state.mjs").Action) => void,
 *   sleep: (seconds: number) => Promise<void>,
 *   onGap: () => void,
 *   onRefused: (error: LiveApiError) => void,
 * }} needs `onGap` is called when only a search has all interactions: at the start, and after events were missed
 */
export function createEventStream({ client, state, dispatch, sleep, onGap, onRefused }) {
  let following = new AbortController();
  /** @type {number | null} of the last event */
  let position = null;

  async function follow() {
    following.abort();
    following = new AbortController();
    const { signal } = following;
    const { from: _, ...filters } = state().filters; // new interactions are never older than `from`
    let pause = MIN_PAUSE_S;
    dispatch({ type: "status", status: "connecting" });
    while (!signal.aborted) {
      try {
        for await (const event of client.events(queryOf(filters), position, signal)) {
          pause = MIN_PAUSE_S;
          apply(event);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (isRefused(error)) return onRefused(error);
      }
      if (signal.aborted || state().status === "signed_out") return;
      dispatch({ type: "status", status: "lost" });
      await sleep(pause);
      pause = Math.min(pause * 2, MAX_PAUSE_S);
    }
  }

  /** @param {import("./client.mjs").LiveEvent} event */
  function apply({ name, data }) {
    const isFirst = position === null;
    if (Number.isFinite(data.position)) position = data.position;
    if (name === "interaction") {
      const interaction = interactionOf(data);
      if (interaction) dispatch({ type: "arrived", interaction });
    } else if (name === "underway") {
      dispatch({ type: "running", running: runningAnswersOf(data, Date.now()) });
    } else if (name === "ended" && data.code !== "shutting_down") {
      onRefused(new LiveApiError(401, String(data.message ?? ""), data.code));
    } else if (name === "away") {
      dispatch({ type: "status", status: "database_down" });
    } else if (name !== "ended" && name !== "passed") {
      dispatch({ type: "status", status: "live" });
      if (isFirst || name === "missed" || state().search === "failed") onGap();
    }
  }

  return {
    /** Follows the interactions that match the state's filters, from now on. */
    start() {
      position = null;
      void follow();
    },
    stop: () => following.abort(),
  };
}
