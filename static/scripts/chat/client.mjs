// @ts-check
// The only room of the page that speaks to the network: the gateway's API, or a server's that speaks OpenAI's.

import { parseObject, policyOf, readChunk, readCompletion, readModels, readPolicy } from "../shared/completions.mjs";
import { urlOf } from "./config.mjs";
import { problemOfAnswer, problemOfCut, problemOfNetwork } from "./problems.mjs";
import { createEventReader } from "../shared/sse.mjs";

/** @typedef {import("../shared/completions.mjs").Said} Said */
/** @typedef {import("../shared/completions.mjs").Models} Models */
/** @typedef {import("./config.mjs").Place} Place */
/** @typedef {(path: string, options?: RequestInit) => Promise<Response>} Send */
/** @typedef {{ rows: any[], next: string | null }} HistoryPage */
/** @typedef {{ isRunning: boolean, outcome: string, detail: string, said: Said[] }} Found an answer, asked for by its id */
/** @typedef {{ id: string, name: string, hint: string, expiresAt: number }} OwnKey one that the reader has made, in force */
/** @typedef {ReturnType<typeof createGateway>} Gateway */

const PAGE = 30; // conversations at once

/** Carries a Problem from where it happens to where it is shown. `status` 0: there was no answer. */
export class Failure extends Error {
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
 * What lies beside the page, if anything does.
 * @param {Send} [send]
 * @returns {Promise<any>}
 */
export async function readPageJson(send = (...request) => fetch(...request)) {
  const answer = await send("page.json", { cache: "no-store" }).catch(() => null);
  return answer?.ok ? parseObject(await answer.text().catch(() => "")) : null;
}

/**
 * @param {Place} place
 * @param {string} token empty: none is sent
 * @param {Send} [send]
 */
export function createGateway(place, token, send = (...request) => fetch(...request)) {
  const isDirect = place.api === "openai";

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  async function ask(path, options = {}) {
    const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const answer = await reachable(send(urlOf(place, path), { ...options, headers, credentials: place.base === "" ? "same-origin" : "omit" }));
    if (answer.ok) return answer;
    const text = await answer.text().catch(() => "");
    const problem = problemOfAnswer(answer.status, text, isDirect);
    const policy = readPolicy(answer.headers);
    const rule = policy?.verdict === "rejected" && policy.detail ? ` (${policy.detail})` : "";
    throw new Failure({ ...problem, detail: `${problem.detail}${rule}` }, answer.status, String(parseObject(text)?.error?.code ?? ""));
  }

  /**
   * @param {string} path
   * @param {object | string} [body] posted, if there is one
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  async function askObject(path, body, signal) {
    const text = typeof body === "string" ? body : body && JSON.stringify(body);
    const answer = await ask(path, { signal, ...(text ? { method: "POST", body: text } : {}) });
    return parseObject(await reachable(answer.text()));
  }

  /**
   * @param {Response} answer
   * @returns {AsyncGenerator<Said>}
   */
  async function* read(answer) {
    yield {
      kind: "begun", policy: readPolicy(answer.headers),
      interaction: answer.headers.get("x-interaction-id"), conversation: answer.headers.get("x-conversation-id"),
    };
    if (answer.headers.get("Content-Type")?.startsWith("application/json")) {
      yield* readCompletion(parseObject(await reachable(answer.text()))); // a server that does not stream
      return yield { kind: "done" };
    }
    const body = answer.body?.getReader();
    const reader = createEventReader();
    let isWhole = false;
    while (body) {
      const { value, done } = await reachable(body.read());
      if (done) break;
      for (const event of reader.feed(value)) {
        for (const said of readChunk(event.data, event.type)) {
          isWhole ||= said.kind === "reason" || said.kind === "problem"; // [DONE] alone proves nothing
          yield said;
        }
      }
    }
    if (!isWhole) throw new Failure(problemOfCut());
  }

  return {
    place,

    async models() {
      const answer = await ask(isDirect ? "models" : "v1/models");
      return readModels(await reachable(answer.text()));
    },

    /**
     * @param {string} body
     * @param {AbortSignal} signal
     */
    async *chat(body, signal) {
      const path = isDirect ? "chat/completions" : "chat";
      const post = (/** @type {string} */ text) => ask(path, { method: "POST", body: text, signal });
      const answer = await post(body).catch((error) => {
        // The gateway asks again by itself; a server that is asked directly may not know this member.
        const isRefusal = isDirect && error instanceof Failure && (error.status === 400 || error.status === 422);
        if (!isRefusal) throw error;
        return post(JSON.stringify({ ...parseObject(body), stream_options: undefined })).catch(() => Promise.reject(error));
      });
      yield* read(answer);
    },

    /**
     * An answer that is being made, from its beginning.
     * @param {string} id
     * @param {AbortSignal} signal
     */
    async *join(id, signal) {
      yield* read(await ask(`chat/${encodeURIComponent(id)}/stream`, { signal }));
    },

    /** @param {string} id */
    stop: (id) => ask(`chat/${encodeURIComponent(id)}/stop`, { method: "POST" }),

    /**
     * @param {string} id
     * @param {AbortSignal} signal
     * @returns {Promise<Found>}
     */
    async find(id, signal) {
      const found = await askObject(`chat/${encodeURIComponent(id)}`, undefined, signal);
      const outcome = String(found?.outcome ?? "");
      const policy = policyOf(found?.policy?.outcome, found?.policy?.rules);
      const begun = { kind: /** @type {const} */ ("begun"), interaction: id, conversation: found?.root_uuid ?? null, policy };
      return { isRunning: found?.running === true, outcome, detail: String(found?.error ?? ""), said: [begun, ...readCompletion(found?.response)] };
    },

    /**
     * The answer to a request of which not even the id is known.
     * @param {string} body
     * @param {AbortSignal} signal
     * @returns {Promise<Said[]>}
     */
    async check(body, signal) {
      const completion = await askObject("checkchat", body, signal);
      const begun = { kind: /** @type {const} */ ("begun"), interaction: completion?.uuid ?? null, conversation: completion?.root_uuid ?? null, policy: null };
      return [begun, ...readCompletion(completion)];
    },

    /**
     * @param {string} query
     * @param {string | null} before
     * @returns {Promise<HistoryPage>}
     */
    async history(query, before) {
      const asked = new URLSearchParams({ limit: String(PAGE), ...(query ? { q: query } : {}), ...(before ? { before } : {}) });
      const page = await askObject(`history_v2?${asked}`);
      const rows = page?.Historical_Conversations;
      return { rows: Array.isArray(rows) ? rows : [], next: page?.next_before ?? null };
    },

    /** @returns {Promise<OwnKey[]>} */
    async ownKeys() {
      const listed = await askObject("keys?limit=1000");
      const now = Date.now() / 1000;
      return (Array.isArray(listed?.data) ? listed.data : []).map(readKey)
        .filter((/** @type {any} */ key) => key.isOwn && !key.isRevoked && key.expiresAt > now);
    },
    /** @param {string} name @returns {Promise<{ value: string, expiresAt: number }>} */
    async makeKey(name) {
      const made = await askObject("keys", { name });
      return { value: String(made?.value ?? ""), expiresAt: Number(made?.expires_at) };
    },
    /** @param {string} id */
    revokeKey: (id) => ask(`keys/${encodeURIComponent(id)}`, { method: "DELETE" }),

    /** @param {string} root @param {string} title @returns {Promise<string>} */
    rename: async (root, title) => String((await askObject("update_title", { root_id: root, convo_title: title }))?.new_title ?? title),
    /** @param {string} root @returns {Promise<string>} */
    suggestTitle: async (root) => String((await askObject("update_title_openai", { root_id: root }))?.new_title ?? ""),
    /** @param {string} root */
    hide: (root) => askObject("remove_convo", { root_id: root }),
    /** @param {string} root */
    restore: (root) => askObject("restore_convo", { root_id: root }),
  };
}

/** @param {any} key */
function readKey(key) {
  const { id, name, redacted_value: hint, expires_at: expiresAt } = key ?? {};
  return { id: String(id), name: String(name), hint: String(hint), expiresAt: Number(expiresAt), isOwn: key?.is_own === true, isRevoked: key?.revoked_at != null };
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
