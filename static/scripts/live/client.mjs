// @ts-check
// The only room of the live page that speaks to the network.

import { createEventReader } from "../shared/sse.mjs";
import { parseObject } from "../shared/completions.mjs";

/** @typedef {{ name: string, data: any }} LogEvent */
/** @typedef {(path: string, options?: RequestInit) => Promise<Response>} Send */

const SILENCE_MS = 90_000;

/** What the gateway says instead; `status` 0: it says nothing. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message @param {string} [code] */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {() => string} token
 * @param {Send} [send]
 */
export function createLog(token, send = (...request) => fetch(...request)) {
  /** @param {string} path @param {AbortSignal} signal @param {Record<string, string>} [more] */
  async function ask(path, signal, more = {}) {
    const headers = { ...more, ...(token() ? { Authorization: `Bearer ${token()}` } : {}) };
    const answer = await send(path, { headers, signal, cache: "no-store" }).catch((error) => {
      throw signal.aborted ? error : new Refusal(0, "The gateway does not answer.");
    });
    if (answer.ok) return answer;
    const { message, code } = parseObject(await answer.text().catch(() => ""))?.error ?? {};
    throw new Refusal(answer.status, typeof message === "string" ? message.slice(0, 300) : `HTTP ${answer.status}`, String(code ?? ""));
  }

  return {
    /** @param {string} query @param {AbortSignal} signal @returns {Promise<any>} */
    search: async (query, signal) => (await ask(`live/search?${query}`, signal)).json(),

    /** @param {string} id @param {string | null} after @param {AbortSignal} signal @returns {Promise<any>} */
    open: async (id, after, signal) =>
      (await ask(`live/conversations/${encodeURIComponent(id)}${after ? `?${new URLSearchParams({ after })}` : ""}`, signal)).json(),

    /**
     * Events until the stream ends, or says nothing for so long, not even a heartbeat, that it must be lost.
     * @param {string} query @param {number | null} position @param {AbortSignal} signal
     * @returns {AsyncGenerator<LogEvent>}
     */
    async *watch(query, position, signal) {
      const answer = await ask(`live/events?${query}`, signal, position === null ? {} : { "Last-Event-ID": String(position) });
      const body = answer.body?.getReader();
      const reader = createEventReader();
      while (body) {
        const silence = setTimeout(() => void body.cancel(), SILENCE_MS);
        const { value, done } = await body.read().finally(() => clearTimeout(silence));
        if (done) return;
        for (const event of reader.feed(value)) {
          const data = parseObject(event.data);
          if (data) yield { name: event.type, data };
        }
      }
    },
  };
}
