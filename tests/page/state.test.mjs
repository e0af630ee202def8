// How the page's state changes, and how the controller changes it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createController } from "../../static/scripts/controller.mjs";
import { Failure, createGateway } from "../../static/scripts/gateway.mjs";
import { canRetry, canSend, conversation, initialState, isStreaming, reduce } from "../../static/scripts/state.mjs";

const known = { type: "models_known", ids: ["m"], isDemo: false };
const after = (...actions) => actions.reduce(reduce, initialState());

test("nothing is sent before the models are known, while an answer streams, or when there is nothing to say", () => {
  assert.equal(canSend(initialState(), "hello"), false);
  assert.equal(canSend(after(known), "hello"), true);
  assert.equal(canSend(after(known), " \n"), false);
  const streaming = after(known, { type: "sent", text: "hello" });
  assert.equal(isStreaming(streaming), true);
  assert.equal(reduce(streaming, { type: "sent", text: "again" }), streaming);
  assert.equal(reduce(streaming, { type: "reset" }), streaming);
});

test("sending empties the draft and begins an answer", () => {
  const state = after(known, { type: "draft_changed", text: " hello " }, { type: "sent", text: " hello " });
  assert.equal(state.draft, "");
  assert.deepEqual(conversation(state), [{ role: "user", content: "hello" }]);
});

test("an answer grows, is counted and ends; later news change nothing", () => {
  const state = after(
    known,
    { type: "sent", text: "hello" },
    { type: "said", text: "Hi " },
    { type: "said", text: "there" },
    { type: "reasoned", reason: "stop" },
    { type: "counted", usage: { prompt: 1, completion: 2 } },
    { type: "ended", status: "complete", seconds: 1.5 },
  );
  const answer = state.messages.at(-1);
  assert.deepEqual([answer.text, answer.reason, answer.status, answer.seconds], ["Hi there", "stop", "complete", 1.5]);
  assert.equal(reduce(state, { type: "said", text: "late" }), state);
  assert.equal(canRetry(state), false);
});

test("a failed answer can be tried again, in its place, and what arrived of it goes to the model only until then", () => {
  const problem = { title: "t", advice: "a", detail: "" };
  const failed = after(known, { type: "sent", text: "hello" }, { type: "said", text: "Hi" }, { type: "failed", problem, seconds: 1 });
  assert.equal(canRetry(failed), true);
  assert.equal(conversation(failed).length, 2);
  const retried = reduce(failed, { type: "retried" });
  assert.equal(retried.messages.length, 2);
  assert.deepEqual(conversation(retried), [{ role: "user", content: "hello" }]);
  assert.notEqual(retried.messages[1].id, failed.messages[1].id);
});

test("an answer of which nothing arrived does not go to the model", () => {
  const problem = { title: "t", advice: "a", detail: "" };
  const state = after(known, { type: "sent", text: "one" }, { type: "failed", problem, seconds: 1 }, { type: "sent", text: "two" });
  assert.deepEqual(conversation(state).map((message) => message.content), ["one", "two"]);
});

test("states are never changed in place", () => {
  const freeze = (value) => {
    if (value && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  const problem = { title: "t", advice: "a", detail: "" };
  const actions = [known, { type: "model_chosen", model: "m" }, { type: "sent", text: "x" }, { type: "said", text: "y" },
    { type: "failed", problem, seconds: 1 }, { type: "retried" }, { type: "ended", status: "stopped", seconds: 1 }, { type: "reset" }];
  actions.reduce((state, action) => freeze(reduce(freeze(state), action)), initialState());
});

// ── the controller, with a gateway whose network is a function ──

const events = (...payloads) => payloads.map((payload) => `data: ${typeof payload === "string" ? payload : JSON.stringify(payload)}\n\n`);
const said = (content) => ({ choices: [{ index: 0, delta: { content } }] });
const stopped = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
const models = () => Response.json({ data: [{ id: "m" }] });

function streamOf(pieces, signal) {
  let at = 0;
  return new ReadableStream({
    start: (stream) => signal?.addEventListener("abort", () => stream.error(new DOMException("aborted", "AbortError"))),
    pull(stream) {
      if (at < pieces.length) stream.enqueue(new TextEncoder().encode(pieces[at++]));
      else if (pieces.endless !== true) stream.close();
      else return new Promise(() => {});
    },
  });
}

async function talk(answer, then = () => {}) {
  const requests = [];
  const gateway = createGateway(async (path, options) => {
    requests.push({ path, options });
    return path === "v1/models" ? models() : answer(options);
  });
  let finished = () => {};
  const end = new Promise((resolve) => (finished = resolve));
  const controller = createController(gateway, (state) => {
    if (state.messages.length > 0 && !isStreaming(state)) finished();
  });
  await controller.start();
  controller.send("hello");
  await then(controller);
  await end;
  return { state: controller.state(), requests, controller };
}

test("a whole answer is complete", async () => {
  const { state, requests } = await talk(() => new Response(streamOf(events(said("Hi"), said("!"), stopped, "[DONE]"))));
  const answer = state.messages.at(-1);
  assert.equal(answer.text, "Hi!");
  assert.equal(answer.status, "complete");
  assert.equal(answer.model, "m");
  assert.deepEqual(requests.map((request) => request.path), ["v1/models", "v1/chat/completions"]);
});

test("a stream without its last word failed, and keeps what arrived", async () => {
  const { state } = await talk(() => new Response(streamOf(events(said("Hi")))));
  const answer = state.messages.at(-1);
  assert.equal(answer.text, "Hi");
  assert.equal(answer.status, "failed");
  assert.match(answer.problem.title, /cut off/);
});

test("an error event fails the answer although the stream ends well", async () => {
  const { state } = await talk(() => new Response(streamOf(events(said("Hi"), { error: { message: "gone", code: "upstream_timeout" } }))));
  assert.equal(state.messages.at(-1).status, "failed");
  assert.equal(state.messages.at(-1).problem.detail, "gone");
});

test("a refusal is shown in words", async () => {
  const { state } = await talk(() => Response.json({ error: { message: "bad key" } }, { status: 401 }));
  assert.match(state.messages.at(-1).problem.title, /key/);
  assert.equal(state.messages.at(-1).problem.detail, "bad key");
});

test("a gateway that is gone is named as that", async () => {
  const { state } = await talk(() => Promise.reject(new TypeError("fetch failed")));
  assert.match(state.messages.at(-1).problem.title, /cannot be reached/);
});

test("stopping ends the answer, keeps what arrived, and is no failure", async () => {
  const pieces = Object.assign(events(said("Hi")), { endless: true });
  const { state } = await talk(
    (options) => new Response(streamOf(pieces, options.signal)),
    async (controller) => {
      while (controller.state().messages.at(-1).text !== "Hi") await new Promise((resolve) => setTimeout(resolve, 1));
      controller.stop();
    },
  );
  assert.equal(state.messages.at(-1).status, "stopped");
  assert.equal(state.messages.at(-1).text, "Hi");
});

test("models that cannot be listed leave the name to be typed", async () => {
  const controller = createController(createGateway(async () => new Response("no", { status: 404 })), () => {});
  await controller.start();
  assert.equal(controller.state().models, "unknown");
  assert.ok(new Failure({ title: "t", advice: "a", detail: "" }) instanceof Error);
});
