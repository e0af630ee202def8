// @ts-check
// Server-sent events from bytes, as the WHATWG describes them. Pure: bytes in, events out.

/** @typedef {{ type: string, data: string }} ServerEvent */

/**
 * A reader of one stream. `feed` takes the bytes as they come, cut anywhere, and returns the events that are now complete;
 * what is unfinished when the stream ends is no event.
 * @returns {{ feed: (bytes: Uint8Array) => ServerEvent[] }}
 */
export function createEventReader() {
  const decoder = new TextDecoder(); // drops a byte order mark, waits for the rest of a cut character
  let line = "";
  let endedWithCR = false;
  let type = "";
  /** @type {string[]} */
  let data = [];

  /**
   * @param {string} text one line without its end
   * @returns {ServerEvent | null} an event, if this line ends one
   */
  function take(text) {
    if (text === "") {
      const event = data.length > 0 ? { type: type || "message", data: data.join("\n") } : null;
      type = "";
      data = [];
      return event;
    }
    const colon = text.indexOf(":");
    const field = colon < 0 ? text : text.slice(0, colon);
    const rest = colon < 0 ? "" : text.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "data") data.push(value);
    else if (field === "event") type = value;
    return null; // a comment, `id`, `retry` or something unknown
  }

  return {
    feed(bytes) {
      let text = decoder.decode(bytes, { stream: true });
      if (text === "") return [];
      if (endedWithCR && text.startsWith("\n")) text = text.slice(1);
      endedWithCR = text === "" ? false : text.endsWith("\r");
      const lines = text.split(/\r\n|\r|\n/);
      const unfinished = /** @type {string} */ (lines.pop());
      const events = [];
      for (const end of lines) {
        const event = take(line + end);
        line = "";
        if (event) events.push(event);
      }
      line += unfinished;
      return events;
    },
  };
}
