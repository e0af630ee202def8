// @ts-check
// Finds an answer again whose connection was cut, by a reload or by the network: live as long as the gateway is at it,
// else what was kept of it. Its clock and network are given to it.

import { Failure } from "./client.mjs";
import { problemOfLost, problemOfOutcome } from "./problems.mjs";

/** @typedef {import("../shared/completions.mjs").Said} Said */
/** @typedef {Said | { kind: "restarted" } | { kind: "stopped" }} Recovered `restarted`: what follows is the answer from its beginning */
/** @typedef {{ interaction: string | undefined, body: string }} Lost */
/** @typedef {(seconds: number, signal: AbortSignal) => Promise<void>} Sleep */

const ID_PATIENCE = 150; // looks without a sign of life, about 2 s apart: another of the gateway's processes may be at it
const BODY_PATIENCE = 10; // when the gateway knows nothing, the question may never have arrived

/**
 * Ends normally when the answer has been told to its end, or a `problem` or `stopped` was the last that was said.
 * @param {import("./client.mjs").Gateway} gateway
 * @param {Lost} lost
 * @param {AbortSignal} signal
 * @param {Sleep} [sleep]
 * @returns {AsyncGenerator<Recovered>}
 */
export async function* recover(gateway, lost, signal, sleep = pause) {
  const patience = lost.interaction ? ID_PATIENCE : BODY_PATIENCE;
  for (let quiet = 0; quiet < patience; ) {
    try {
      if (lost.interaction) {
        if (yield* joined(gateway, lost.interaction, signal)) return;
        const found = await gateway.find(lost.interaction, signal);
        if (!found.isRunning) return yield* told(found);
      } else {
        yield* restarted(await gateway.check(lost.body, signal));
        return;
      }
      quiet = 0;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (isFinal(error)) throw error;
      quiet = error.code === "still_running" ? 0 : quiet + 1;
    }
    await sleep(quiet < 3 ? 0.5 : 2, signal);
  }
  throw new Failure(problemOfLost());
}

/**
 * @param {import("./client.mjs").Gateway} gateway
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Recovered, boolean>} whether it was told to its end
 */
async function* joined(gateway, id, signal) {
  let hasBegun = false;
  try {
    for await (const said of gateway.join(id, signal)) {
      if (!hasBegun) yield { kind: "restarted" };
      hasBegun = true;
      yield said;
    }
    return true;
  } catch (error) {
    if (error instanceof Failure && (hasBegun || !isFinal(error))) return false; // over, elsewhere, or cut once more
    throw error;
  }
}

/**
 * @param {import("./client.mjs").Found} found
 * @returns {Generator<Recovered>}
 */
function* told(found) {
  yield* restarted(found.said);
  if (found.outcome === "client_cancelled") yield { kind: "stopped" };
  else if (found.outcome !== "complete") yield { kind: "problem", problem: problemOfOutcome(found.outcome, found.detail) };
}

/**
 * @param {Said[]} said
 * @returns {Generator<Recovered>}
 */
function* restarted(said) {
  yield { kind: "restarted" };
  yield* said;
}

/** @param {Failure} failure asking again would change nothing */
function isFinal(failure) {
  return failure.status === 401 || failure.status === 403 || failure.status === 409;
}

/** @type {Sleep} */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new DOMException("left", "AbortError"));
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
