// @ts-check
// The user's own API keys: list, create, revoke.

import { problemOf } from "./client.mjs";
import { sdkBaseUrl } from "./config.mjs";

/**
 * @param {{ store: import("./store.mjs").Store, client: () => import("./client.mjs").Client, pageUrl: string }} needs
 */
export function createOwnKeys({ store, client, pageUrl }) {
  const { state, dispatch } = store;

  async function list() {
    dispatch({ type: "keys_loaded", list: await client().ownKeys() });
  }

  /** @param {() => Promise<void>} change */
  async function listAfter(change) {
    dispatch({ type: "keys_requested" });
    try {
      await change();
      await list();
    } catch (error) {
      dispatch({ type: "keys_failed", problem: problemOf(error) });
    }
  }

  return {
    async show() {
      dispatch({ type: "dialog_shown", dialog: { kind: "keys" } });
      await list().catch(() => {}); // a key can be created without the list
    },

    /** @param {string} name */
    create: (name) => listAfter(async () => {
      const { endpoint, createKey } = client();
      const created = await createKey(name);
      if (state().dialog?.kind === "keys") dispatch({ type: "key_created", created: { ...created, baseUrl: sdkBaseUrl(endpoint, pageUrl) } });
    }),

    /** @param {string} id */
    revoke: (id) => listAfter(async () => void (await client().revokeKey(id))),
  };
}
