// @ts-check
// HTTP client of the live page. Errors are `LiveApiError`.

import { createEventDecoder } from "../shared/sse.mjs";
import { parseObject } from "../shared/values.mjs";

/** @typedef {{ name: string, data: any }} LiveEvent */
/** @typedef {(path: string, options?: RequestInit) => Promise<Response>} Fetch */
/** @typedef {ReturnType<typeof createLiveClient>} LiveClient */

const SILENCE_MS = 90_000; // the gateway sends heartbeats more often

/** An error response, with the gateway's message and code. `status` is 0 without a response. */
export class LiveApiError extends Error {
  /** @param {number} status @param {string} message @param {string} [code] */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @param {unknown} error @returns {error is LiveApiError} the key is missing, wrong, or not an auditor's */
export function isRefused(error) {
  return error instanceof LiveApiError && (error.status === 401 || error.status === 403);
}

/**
 * @param {() => string} token empty: requests have no key
 * @param {Fetch} [send]
 */
export function createLiveClient(token, send = (...request) => fetch(...request)) {
  /** @param {string} path @param {AbortSignal} signal @param {Record<string, string>} [more] */
  async function request(path, signal, more = {}) {
    const headers = { ...more, ...(token() ? { Authorization: `Bearer ${token()}` } : {}) };
    const response = await send(path, { headers, signal, cache: "no-store" }).catch((error) => {
      throw signal.aborted ? error : new LiveApiError(0, "The gateway does not answer.");
    });
    if (response.ok) return response;
    const { message, code } = parseObject(await response.text().catch(() => ""))?.error ?? {};
    throw new LiveApiError(response.status, typeof message === "string" ? message.slice(0, 300) : `HTTP ${response.status}`, String(code ?? ""));
  }

  return {
    /** @param {string} query @param {AbortSignal} signal @returns {Promise<any>} */
    search: async (query, signal) => (await request(`live/search?${query}`, signal)).json(),

    /** @param {string} id of an interaction @param {string | null} after a cursor @param {AbortSignal} signal @returns {Promise<any>} */
    conversation: async (id, after, signal) =>
      (await request(`live/conversations/${encodeURIComponent(id)}${after ? `?${new URLSearchParams({ after })}` : ""}`, signal)).json(),

    /**
     * The event stream. It ends also after a silence without heartbeats: then the connection is lost.
     * @param {string} query @param {number | null} position of the last event @param {AbortSignal} signal
     * @returns {AsyncGenerator<LiveEvent>}
     */
    async *events(query, position, signal) {
      const response = await request(`live/events?${query}`, signal, position === null ? {} : { "Last-Event-ID": String(position) });
      const body = response.body?.getReader();
      const decoder = createEventDecoder();
      while (body) {
        const silence = setTimeout(() => void body.cancel(), SILENCE_MS);
        const { value, done } = await body.read().finally(() => clearTimeout(silence));
        if (done) return;
        for (const event of decoder.feed(value)) {
          const data = parseObject(event.data);
          if (data) yield { name: event.type, data };
        }
      }
    },
  };
}
