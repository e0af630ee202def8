// @ts-check
// The only room of the page that speaks to the network: the gateway's own API, by relative addresses.

import { readChunk, readModels, requestBody } from "./answers.mjs";
import { problemOfAnswer, problemOfCut, problemOfNetwork } from "./problems.mjs";
import { createEventReader } from "./sse.mjs";

/** @typedef {import("./answers.mjs").Said} Said */
/** @typedef {import("./answers.mjs").Models} Models */
/** @typedef {import("./answers.mjs").WireMessage} WireMessage */

/** Carries a Problem from where it happens to where it is shown. */
export class Failure extends Error {
  /** @param {import("./problems.mjs").Problem} problem */
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

/**
 * @param {typeof fetch} [send]
 * @returns {{ models: () => Promise<Models>, chat: (model: string, messages: WireMessage[], signal: AbortSignal) => AsyncGenerator<Said> }}
 */
export function createGateway(send = (...request) => fetch(...request)) {
  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  async function ask(path, options) {
    const answer = await reachable(send(path, options));
    if (!answer.ok) throw new Failure(problemOfAnswer(answer.status, await answer.text().catch(() => "")));
    return answer;
  }

  return {
    async models() {
      const answer = await ask("v1/models");
      return readModels(await reachable(answer.text()));
    },

    async *chat(model, messages, signal) {
      const answer = await ask("v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: requestBody(model, messages),
        signal,
      });
      const body = answer.body?.getReader();
      const reader = createEventReader();
      let isWhole = false;
      while (body) {
        const { value, done } = await reachable(body.read());
        if (done) break;
        for (const event of reader.feed(value)) {
          for (const said of readChunk(event.data)) {
            isWhole ||= said.kind !== "text" && said.kind !== "usage";
            yield said;
          }
        }
      }
      if (!isWhole) yield { kind: "problem", problem: problemOfCut() };
    },
  };
}

/**
 * An abort passes as it is; any other fault of fetch is the network's.
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
async function reachable(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw error;
    throw new Failure(problemOfNetwork());
  }
}
