// @ts-check
// Decoder of server-sent events (WHATWG HTML, section 9.2). Pure: bytes in, events out.

/** @typedef {{ type: string, data: string }} ServerEvent */

/**
 * Decodes one stream. `feed` takes bytes in chunks of any size and returns the events that they complete. An event that is
 * incomplete when the stream ends is dropped.
 * @returns {{ feed: (bytes: Uint8Array) => ServerEvent[] }}
 */
export function createEventDecoder() {
  const decoder = new TextDecoder(); // drops a byte order mark, and keeps an incomplete character for the next chunk
  let line = "";
  let endedWithCR = false;
  let type = "";
  /** @type {string[]} */
  let data = [];

  /**
   * @param {string} text one line without its end
   * @returns {ServerEvent | null} the event that this line ends, if any
   */
  function readLine(text) {
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
    return null; // a comment, `id`, `retry` or an unknown field
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
        const event = readLine(line + end);
        line = "";
        if (event) events.push(event);
      }
      line += unfinished;
      return events;
    },
  };
}
