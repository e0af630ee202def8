// @ts-check
// Connects the page to its endpoint: page.json, sign-in, list of models.

import { tokenKey } from "../shared/storage.mjs";
import { emptyChat } from "./chats.mjs";
import { ApiError, createClient, fetchPageConfig } from "./client.mjs";
import { normalizeAddress, parseEndpoint, readPageConfig } from "./config.mjs";
import { parseValues } from "./parameters.mjs";

/** @typedef {import("./config.mjs").PageConfig} PageConfig */
/** @typedef {import("./config.mjs").Endpoint} Endpoint */
/** @typedef {import("../shared/storage.mjs").JsonStorage} JsonStorage */

/**
 * @param {{
 *   store: import("./store.mjs").Store,
 *   localStore: JsonStorage,
 *   sessionStore: JsonStorage,
 *   send?: import("./client.mjs").Fetch,
 *   address: string,
 *   onConnect: () => Promise<void>,
 * }} needs `address` is from the page's URL; `onConnect` is called unless the endpoint refuses the key
 */
export function createConnection({ store, localStore, sessionStore, send, address, onConnect }) {
  const { state, dispatch } = store;
  let client = createClient({ api: "gateway", base: "" }, "", send);

  /** @param {PageConfig} page @param {Endpoint | null} endpoint */
  async function connect(page, endpoint) {
    const token = endpoint ? (sessionStore.read(tokenKey(endpoint.base)) ?? "") : "";
    client = createClient(endpoint ?? { api: "gateway", base: "" }, String(token), send);
    dispatch({ type: "configured", page, endpoint, hasToken: token !== "" });
    if (!endpoint) return dispatch({ type: "dialog_shown", dialog: { kind: "sign_in" } });
    try {
      const models = await client.models();
      dispatch({ type: "models_listed", ...models });
    } catch (error) {
      const isRefused = error instanceof ApiError && error.problem.action === "sign_in";
      dispatch({ type: isRefused ? "models_refused" : "models_unlisted" }); // many servers have no list: the user types a name
      if (isRefused) return dispatch({ type: "dialog_shown", dialog: { kind: "sign_in" } });
      if (error instanceof ApiError && error.status === 0) store.showNotice(`${error.problem.title} ${error.problem.advice}`);
    }
    await onConnect();
  }

  return {
    client: () => client,

    /** Restores the state of before the reload, and connects. */
    async start() {
      const choices = localStore.read("choices") ?? {};
      dispatch({
        type: "restored",
        chat: sessionStore.read("chat") ?? emptyChat(), parked: sessionStore.read("parked") ?? {}, drafts: sessionStore.read("drafts") ?? {},
        choices: {
          model: String(choices.model ?? ""), useCase: String(choices.useCase ?? ""), values: parseValues(choices.values),
          instructions: typeof choices.instructions === "string" ? choices.instructions : null,
        },
      });
      const page = readPageConfig(await fetchPageConfig(send));
      const chosen = address ? normalizeAddress(address) : (localStore.read("address") ?? "");
      await connect(page, page.endpoint ?? (chosen ? parseEndpoint(String(chosen)) : null));
    },

    /**
     * Signs in, or out with an empty token.
     * @param {string} typed the address, for a page without a configured endpoint
     * @param {string} token
     * @returns {string} the error, or an empty text
     */
    signIn(typed, token) {
      const { page } = state();
      const url = normalizeAddress(typed);
      const endpoint = page.isFixed ? page.endpoint : url ? parseEndpoint(url) : null;
      if (!endpoint) return "Enter an address such as https://gateway.example or https://api.example/v1.";
      if (/[^\x21-\x7e]/.test(token.trim())) return "A key or token has no spaces or special characters.";
      if (!page.isFixed) localStore.write("address", url);
      sessionStore.write(tokenKey(endpoint.base), token.trim() || null);
      dispatch({ type: "dialog_shown", dialog: null });
      void connect(page, endpoint);
      return "";
    },
  };
}
