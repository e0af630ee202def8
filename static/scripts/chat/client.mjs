// @ts-check
// HTTP client of the chat page, for the gateway's API or an OpenAI-compatible server. Errors are `ApiError`.

import { readCompletion } from "../shared/completions.mjs";
import { policyResult } from "../shared/outcomes.mjs";
import { createEventDecoder } from "../shared/sse.mjs";
import { parseObject } from "../shared/values.mjs";
import { urlOf } from "./config.mjs";
import { readChunk, readModels } from "./openai.mjs";
import { networkProblem, responseProblem, truncatedProblem } from "./problems.mjs";

/** @typedef {import("./openai.mjs").AnswerEvent} AnswerEvent */
/** @typedef {import("./config.mjs").Endpoint} Endpoint */
/** @typedef {(path: string, options?: RequestInit) => Promise<Response>} Fetch */
/** @typedef {{ rows: any[], next: string | null }} HistoryPage */
/** @typedef {{ isRunning: boolean, outcome: string, detail: string, events: AnswerEvent[] }} StoredAnswer */
/** @typedef {{ id: string, name: string, hint: string, expiresAt: number }} OwnKey a valid key that the user has created; `expiresAt` in Unix time */
/** @typedef {ReturnType<typeof createClient>} Client */

const HISTORY_PAGE = 30; // conversations

/** Carries a Problem to where it is shown. `status` is 0 without a response. */
export class ApiError extends Error {
  /**
   * @param {import("./problems.mjs").Problem} problem
   * @param {number} [status]
   * @param {string} [code]
   */
  constructor(problem, status = 0, code = "") {
    super(problem.title);
    this.problem = problem;
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {unknown} error
 * @returns {import("./problems.mjs").Problem}
 */
export function problemOf(error) {
  if (error instanceof ApiError) return error.problem;
  console.error(error);
  return networkProblem();
}

/**
 * @param {Fetch} [send]
 * @returns {Promise<any>} page.json; null without one
 */
export async function fetchPageConfig(send = (...request) => fetch(...request)) {
  const response = await send("page.json", { cache: "no-store" }).catch(() => null);
  return response?.ok ? parseObject(await response.text().catch(() => "")) : null;
}

/**
 * @param {Endpoint} endpoint
 * @param {string} token empty: requests have no key
 * @param {Fetch} [send]
 */
export function createClient(endpoint, token, send = (...request) => fetch(...request)) {
  const isDirect = endpoint.api === "openai";

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   * @returns {Promise<Response>} with a status of success
   */
  async function request(path, options = {}) {
    const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const response = await orApiError(send(urlOf(endpoint, path), { ...options, headers, credentials: endpoint.base === "" ? "same-origin" : "omit" }));
    if (response.ok) return response;
    const text = await response.text().catch(() => "");
    const problem = responseProblem(response.status, text, isDirect);
    const policy = policyOf(response);
    const rules = policy?.verdict === "rejected" && policy.detail ? ` (${policy.detail})` : "";
    throw new ApiError({ ...problem, detail: `${problem.detail}${rules}` }, response.status, String(parseObject(text)?.error?.code ?? ""));
  }

  /**
   * @param {string} path
   * @param {object | string} [body] makes it a POST
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async function requestObject(path, body, signal) {
    const text = typeof body === "string" ? body : body && JSON.stringify(body);
    const response = await request(path, { signal, ...(text ? { method: "POST", body: text } : {}) });
    return parseObject(await orApiError(response.text()));
  }

  return {
    endpoint,

    async models() {
      const response = await request(isDirect ? "models" : "v1/models");
      return readModels(await orApiError(response.text()));
    },

    /**
     * @param {string} body
     * @param {AbortSignal} signal
     * @returns {AsyncGenerator<AnswerEvent>}
     */
    async *chat(body, signal) {
      const path = isDirect ? "chat/completions" : "chat";
      const post = (/** @type {string} */ text) => request(path, { method: "POST", body: text, signal });
      const response = await post(body).catch((error) => {
        // The gateway itself repeats a refused request without `stream_options`; without a gateway, the page does.
        const isRefused = isDirect && error instanceof ApiError && (error.status === 400 || error.status === 422);
        if (!isRefused) throw error;
        return post(JSON.stringify({ ...parseObject(body), stream_options: undefined })).catch(() => Promise.reject(error));
      });
      yield* readAnswer(response);
    },

    /**
     * A running answer, from its beginning.
     * @param {string} id
     * @param {AbortSignal} signal
     * @returns {AsyncGenerator<AnswerEvent>}
     */
    async *resume(id, signal) {
      yield* readAnswer(await request(`chat/${encodeURIComponent(id)}/stream`, { signal }));
    },

    /** @param {string} id */
    stop: (id) => request(`chat/${encodeURIComponent(id)}/stop`, { method: "POST" }),

    /**
     * @param {string} id
     * @param {AbortSignal} signal
     * @returns {Promise<StoredAnswer>}
     */
    async find(id, signal) {
      const stored = await requestObject(`chat/${encodeURIComponent(id)}`, undefined, signal);
      const outcome = String(stored?.outcome ?? "");
      const policy = policyResult(stored?.policy?.outcome, stored?.policy?.rules);
      const started = { kind: /** @type {const} */ ("started"), interaction: id, conversation: stored?.root_uuid ?? null, policy };
      return { isRunning: stored?.running === true, outcome, detail: String(stored?.error ?? ""), events: [started, ...readCompletion(stored?.response)] };
    },

    /**
     * The stored answer to a request whose id is unknown.
     * @param {string} body
     * @param {AbortSignal} signal
     * @returns {Promise<AnswerEvent[]>}
     */
    async findByBody(body, signal) {
      const completion = await requestObject("checkchat", body, signal);
      const started = { kind: /** @type {const} */ ("started"), interaction: completion?.uuid ?? null, conversation: completion?.root_uuid ?? null, policy: null };
      return [started, ...readCompletion(completion)];
    },

    /**
     * @param {string} query
     * @param {string | null} before the cursor of the previous page
     * @returns {Promise<HistoryPage>}
     */
    async history(query, before) {
      const search = new URLSearchParams({ limit: String(HISTORY_PAGE), ...(query ? { q: query } : {}), ...(before ? { before } : {}) });
      const page = await requestObject(`history_v2?${search}`);
      const rows = page?.Historical_Conversations;
      return { rows: Array.isArray(rows) ? rows : [], next: page?.next_before ?? null };
    },

    /** @returns {Promise<OwnKey[]>} */
    async ownKeys() {
      const list = await requestObject("keys?limit=1000");
      const now = Date.now() / 1000;
      return (Array.isArray(list?.data) ? list.data : []).map(readKey)
        .filter((/** @type {any} */ key) => key.isOwn && !key.isRevoked && key.expiresAt > now);
    },
    /** @param {string} name @returns {Promise<{ value: string, expiresAt: number }>} */
    async createKey(name) {
      const key = await requestObject("keys", { name });
      return { value: String(key?.value ?? ""), expiresAt: Number(key?.expires_at) };
    },
    /** @param {string} id */
    revokeKey: (id) => request(`keys/${encodeURIComponent(id)}`, { method: "DELETE" }),

    /** @param {string} root @param {string} title @returns {Promise<string>} */
    rename: async (root, title) => String((await requestObject("update_title", { root_id: root, convo_title: title }))?.new_title ?? title),
    /** @param {string} root @returns {Promise<string>} */
    suggestTitle: async (root) => String((await requestObject("update_title_openai", { root_id: root }))?.new_title ?? ""),
    /** @param {string} root */
    hide: (root) => requestObject("remove_convo", { root_id: root }),
  };
}

/**
 * @param {Response} response
 * @returns {AsyncGenerator<AnswerEvent>} throws an ApiError if the stream ends without a finish reason or an error
 */
async function* readAnswer(response) {
  yield {
    kind: "started", policy: policyOf(response),
    interaction: response.headers.get("x-interaction-id"), conversation: response.headers.get("x-conversation-id"),
  };
  if (response.headers.get("Content-Type")?.startsWith("application/json")) { // a server that does not stream
    yield* readCompletion(parseObject(await orApiError(response.text())));
    return yield { kind: "done" };
  }
  const body = response.body?.getReader();
  const decoder = createEventDecoder();
  let isComplete = false;
  while (body) {
    const { value, done } = await orApiError(body.read());
    if (done) break;
    for (const { data, type } of decoder.feed(value)) {
      for (const event of readChunk(data, type)) {
        isComplete ||= event.kind === "finish" || event.kind === "problem"; // [DONE] alone does not prove it
        yield event;
      }
    }
  }
  if (!isComplete) throw new ApiError(truncatedProblem());
}

/** @param {Response} response */
function policyOf(response) {
  return policyResult(response.headers.get("x-policy-outcome"), response.headers.get("x-policy-rule"));
}

/** @param {any} key */
function readKey(key) {
  const { id, name, redacted_value: hint, expires_at: expiresAt } = key ?? {};
  return { id: String(id), name: String(name), hint: String(hint), expiresAt: Number(expiresAt), isOwn: key?.is_own === true, isRevoked: key?.revoked_at != null };
}

/**
 * Turns the errors of fetch into an ApiError, except those of an abort.
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
async function orApiError(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw error;
    throw new ApiError(networkProblem());
  }
}
