// @ts-check
// What the page remembers: choices for good, what was said and the key for this tab alone.

/**
 * A drawer of the browser's storage. A browser that keeps nothing (full, or forbidden) is no fault: it is forgotten.
 * @param {() => Storage} open
 */
function drawer(open) {
  return {
    /** @param {string} name @returns {any} */
    read(name) {
      try {
        return JSON.parse(open().getItem(`gateway:${name}`) ?? "null");
      } catch {
        return null;
      }
    },
    /** @param {string} name @param {unknown} value null forgets it */
    write(name, value) {
      try {
        if (value === null) open().removeItem(`gateway:${name}`);
        else open().setItem(`gateway:${name}`, JSON.stringify(value));
      } catch {
        // forgotten at the next reload
      }
    },
  };
}

/** @typedef {ReturnType<typeof drawer>} Drawer */

/** Model, use case, parameters, colours, address. */
export const lasting = drawer(() => localStorage);
/** The key, the conversation on the screen, drafts: gone with the tab. */
export const passing = drawer(() => sessionStorage);

/**
 * A key belongs to the address that it was pasted for, so that a link with another address does not send it there.
 * @param {string} base
 */
export function tokenName(base) {
  return `token:${base}`;
}
