// @ts-check
// The one controller: takes what a person does, asks the gateway, and turns both into actions on the state.

import { Failure } from "./gateway.mjs";
import { problemOfNetwork } from "./problems.mjs";
import { conversation, initialState, isStreaming, reduce } from "./state.mjs";

/** @typedef {import("./state.mjs").State} State */
/** @typedef {import("./state.mjs").Action} Action */
/** @typedef {ReturnType<typeof import("./gateway.mjs").createGateway>} Gateway */

/**
 * What components may ask for.
 * @typedef {object} Actions
 * @property {(text: string) => void} send
 * @property {() => void} retry
 * @property {() => void} stop
 * @property {() => void} reset
 * @property {(model: string) => void} chooseModel
 * @property {(text: string) => void} changeDraft
 */

/**
 * @param {Gateway} gateway
 * @param {(state: State) => void} show called after each change
 * @param {() => number} now milliseconds
 * @returns {Actions & { start: () => Promise<void>, state: () => State }}
 */
export function createController(gateway, show, now = () => performance.now()) {
  let state = initialState();
  /** @type {AbortController | null} */
  let running = null;

  /** @param {Action} action */
  function dispatch(action) {
    state = reduce(state, action);
    show(state);
  }

  async function answer() {
    const began = now();
    const seconds = () => (now() - began) / 1000;
    const abort = new AbortController();
    running = abort;
    try {
      for await (const said of gateway.chat(state.model, conversation(state), abort.signal)) {
        if (said.kind === "text") dispatch({ type: "said", text: said.text });
        else if (said.kind === "reason") dispatch({ type: "reasoned", reason: said.reason });
        else if (said.kind === "usage") dispatch({ type: "counted", usage: said.usage });
        else if (said.kind === "problem") dispatch({ type: "failed", problem: said.problem, seconds: seconds() });
      }
      dispatch({ type: "ended", status: "complete", seconds: seconds() });
    } catch (error) {
      if (abort.signal.aborted) dispatch({ type: "ended", status: "stopped", seconds: seconds() });
      else dispatch({ type: "failed", problem: problemOf(error), seconds: seconds() });
    } finally {
      running = null;
    }
  }

  /** @param {Action} action begins an answer, if the state allows it */
  function begin(action) {
    if (isStreaming(state)) return;
    dispatch(action);
    if (isStreaming(state)) void answer();
  }

  return {
    state: () => state,
    async start() {
      show(state);
      try {
        const models = await gateway.models();
        dispatch({ type: "models_known", ...models });
      } catch {
        dispatch({ type: "models_unknown" }); // many servers list none; then the name is typed
      }
    },
    send: (text) => begin({ type: "sent", text }),
    retry: () => begin({ type: "retried" }),
    stop: () => running?.abort(),
    reset: () => dispatch({ type: "reset" }),
    chooseModel: (model) => dispatch({ type: "model_chosen", model }),
    changeDraft: (text) => dispatch({ type: "draft_changed", text }),
  };
}

/** @param {unknown} error */
function problemOf(error) {
  if (error instanceof Failure) return error.problem;
  console.error(error);
  return problemOfNetwork();
}
