// The decoder of server-sent events: any chunking gives the same events.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createEventDecoder } from "../../static/scripts/shared/sse.mjs";

const encode = (text) => new TextEncoder().encode(text);

function read(bytes, size) {
  const decoder = createEventDecoder();
  const events = [];
  for (let at = 0; at < bytes.length; at += size) events.push(...decoder.feed(bytes.subarray(at, at + size)));
  return events;
}

const message = (data) => ({ type: "message", data });

test("an event ends at a blank line, with any line ending", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const bytes = encode(["data: one", "", "event: ping", "data: two", "data:three", "", ""].join(end));
    assert.deepEqual(read(bytes, bytes.length), [message("one"), { type: "ping", data: "two\nthree" }]);
  }
});

test("any size of chunks gives the same events", () => {
  const text = '\uFEFFdata: {"text": "grüße 👋"}\r\n\r\n: a comment\n\ndata: a\rdata: b\r\r\ndata\n\ndata: [DONE]\n\n';
  const whole = read(encode(text), 1e6);
  assert.deepEqual(whole, [message('{"text": "grüße 👋"}'), message("a\nb"), message(""), message("[DONE]")]);
  for (let size = 1; size <= encode(text).length; size += 1) assert.deepEqual(read(encode(text), size), whole, `chunks of ${size}`);
});

test("every single cut gives the same events", () => {
  const bytes = encode("data: ä\r\n\r\ndata: b\r\rdata: c\n\n");
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const decoder = createEventDecoder();
    const events = [...decoder.feed(bytes.subarray(0, cut)), ...decoder.feed(bytes.subarray(cut))];
    assert.deepEqual(events, [message("ä"), message("b"), message("c")], `cut at ${cut}`);
  }
});

test("comments, ids and events without data are ignored", () => {
  assert.deepEqual(read(encode(": waiting\n\nid: 7\n\nevent: ping\n\nretry: 5\n\n"), 3), []);
});

test("one leading space belongs to the format, the next one to the data", () => {
  assert.deepEqual(read(encode("data:  x\n\n"), 99), [message(" x")]);
});

test("an incomplete event is dropped", () => {
  assert.deepEqual(read(encode("data: whole\n\ndata: cut\n"), 99), [message("whole")]);
});

test("a long line in small chunks is read in linear time", () => {
  const bytes = encode(`data: ${"x".repeat(1_000_000)}\n\n`);
  const began = performance.now();
  assert.equal(read(bytes, 64)[0].data.length, 1_000_000);
  assert.ok(performance.now() - began < 2000);
});
