// @ts-check
// JSON values in the browser's storage: settings for good, conversations and keys for this tab only.

/**
 * Values are JSON under keys that begin with `gateway:`. A browser that stores nothing (full, or forbidden) is not an error.
 * @param {() => Storage} open
 */
function jsonStorage(open) {
  return {
    /** @param {string} name @returns {any} null if nothing is stored */
    read(name) {
      try {
        return JSON.parse(open().getItem(`gateway:${name}`) ?? "null");
      } catch {
        return null;
      }
    },
    /** @param {string} name @param {unknown} value null removes it */
    write(name, value) {
      try {
        if (value === null) open().removeItem(`gateway:${name}`);
        else open().setItem(`gateway:${name}`, JSON.stringify(value));
      } catch {
        // the value is lost at the next reload
      }
    },
  };
}

/** @typedef {ReturnType<typeof jsonStorage>} JsonStorage */

/** Model, use case, parameters, theme, address. */
export const localStore = jsonStorage(() => localStorage);
/** The API key, the open conversation, drafts. The browser removes them when the tab is closed. */
export const sessionStore = jsonStorage(() => sessionStorage);

/**
 * An API key is stored per address, so that a link with another address does not send it there.
 * @param {string} base
 */
export function tokenKey(base) {
  return `token:${base}`;
}
