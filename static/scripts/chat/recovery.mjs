// @ts-check
// Recovers an answer after a reload or a lost connection: the running stream from its beginning, else the stored answer.

import { ApiError } from "./client.mjs";
import { lostProblem, outcomeProblem } from "./problems.mjs";

/** @typedef {import("./openai.mjs").AnswerEvent} AnswerEvent */
/** @typedef {AnswerEvent | { kind: "restarted" } | { kind: "stopped" }} RecoveryEvent `restarted`: the next events repeat the answer from its beginning */
/** @typedef {{ interaction: string | undefined, body: string }} LostAnswer */
/** @typedef {(seconds: number, signal: AbortSignal) => Promise<void>} Sleep */

const MAX_FAILURES_BY_ID = 150; // about 2 s apart: another process of the gateway may still write the answer
const MAX_FAILURES_BY_BODY = 10; // the gateway may never have received the question

/**
 * Ends after the last event of the answer, or after a `problem` or `stopped` event.
 * @param {import("./client.mjs").Client} client
 * @param {LostAnswer} lost
 * @param {AbortSignal} signal
 * @param {Sleep} [wait]
 * @returns {AsyncGenerator<RecoveryEvent>}
 */
export async function* recover(client, lost, signal, wait = sleep) {
  const maxFailures = lost.interaction ? MAX_FAILURES_BY_ID : MAX_FAILURES_BY_BODY;
  for (let failures = 0; failures < maxFailures; ) {
    try {
      if (lost.interaction) {
        if (yield* resumed(client, lost.interaction, signal)) return;
        const stored = await client.find(lost.interaction, signal);
        if (!stored.isRunning) return yield* storedEvents(stored);
      } else {
        yield* restarted(await client.findByBody(lost.body, signal));
        return;
      }
      failures = 0;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (isFinal(error)) throw error;
      failures = error.code === "still_running" ? 0 : failures + 1;
    }
    await wait(failures < 3 ? 0.5 : 2, signal);
  }
  throw new ApiError(lostProblem());
}

/**
 * @param {import("./client.mjs").Client} client
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<RecoveryEvent, boolean>} whether the stream came to its end
 */
async function* resumed(client, id, signal) {
  let hasStarted = false;
  try {
    for await (const event of client.resume(id, signal)) {
      if (!hasStarted) yield { kind: "restarted" };
      hasStarted = true;
      yield event;
    }
    return true;
  } catch (error) {
    if (error instanceof ApiError && (hasStarted || !isFinal(error))) return false; // over, in another process, or cut again
    throw error;
  }
}

/**
 * @param {import("./client.mjs").StoredAnswer} stored
 * @returns {Generator<RecoveryEvent>}
 */
function* storedEvents(stored) {
  yield* restarted(stored.events);
  if (stored.outcome === "client_cancelled") yield { kind: "stopped" };
  else if (stored.outcome !== "complete") yield { kind: "problem", problem: outcomeProblem(stored.outcome, stored.detail) };
}

/**
 * @param {AnswerEvent[]} events
 * @returns {Generator<RecoveryEvent>}
 */
function* restarted(events) {
  yield { kind: "restarted" };
  yield* events;
}

/** @param {ApiError} error @returns {boolean} a retry would have the same result */
function isFinal(error) {
  return error.status === 401 || error.status === 403 || error.status === 409;
}

/** @type {Sleep} */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new DOMException("aborted", "AbortError"));
    if (signal.aborted) return abort();
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      abort();
    }, { once: true });
  });
}
