// The controller of the chat page with a fake network: answers, stop, recovery, endpoints, keys.
import assert from "node:assert/strict";
import { test } from "node:test";

import { pathOf } from "../../static/scripts/chat/chats.mjs";
import { createController } from "../../static/scripts/chat/controller.mjs";
import { isStreaming } from "../../static/scripts/chat/state.mjs";

const events = (...payloads) => payloads.map((payload) => `data: ${typeof payload === "string" ? payload : JSON.stringify(payload)}\n\n`);
const text = (content) => ({ choices: [{ index: 0, delta: { content } }] });
const stopped = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
const IDS = { "x-interaction-id": "i-1", "x-conversation-id": "r-1" };

/** A response of these chunks; an Error breaks the connection, `null` keeps it open. */
function stream(chunks, signal) {
  let at = 0;
  return new Response(new ReadableStream({
    start: (body) => signal?.addEventListener("abort", () => body.error(new DOMException("aborted", "AbortError"))),
    pull(body) {
      const chunk = chunks[at++];
      if (chunk === null) return new Promise(() => {});
      if (chunk instanceof Error) body.error(chunk);
      else if (chunk === undefined) body.close();
      else body.enqueue(new TextEncoder().encode(chunk));
    },
  }), { headers: IDS });
}

function memoryStore(values = {}) {
  return { read: (name) => structuredClone(values[name] ?? null), write: (name, value) => void (values[name] = structuredClone(value)) };
}

/** A started controller. `answers` has a response for each `METHOD path`. */
async function pageWith(answers, { config = { gateway: "." }, sessionStore = memoryStore(), localStore = memoryStore(), address = "" } = {}) {
  const requests = [];
  const send = async (path, options = {}) => {
    requests.push({ path, options });
    const name = `${options.method ?? "GET"} ${path.split("?")[0]}`;
    const answer = { "GET page.json": () => Response.json(config), "GET v1/models": () => Response.json({ data: [{ id: "m" }] }),
      "GET history_v2": () => Response.json({ Historical_Conversations: [], next_before: null }), ...answers }[name];
    if (!answer) return Response.json({ error: { message: `nothing at ${name}`, code: "not_found" } }, { status: 404 });
    return answer(options);
  };
  const controller = createController(() => {}, { send, localStore, sessionStore, address, sleep: async () => {} });
  await controller.start();
  return { controller, requests, sessionStore, localStore, posts: () => requests.filter((each) => each.options.method === "POST") };
}

async function until(condition) {
  for (let tries = 0; !condition(); tries += 1) {
    assert.ok(tries < 500, "the condition did not become true");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function ended(controller) {
  await until(() => !isStreaming(controller.state()));
  return pathOf(controller.state().chat).at(-1);
}

test("a whole answer is complete, and the next question names the conversation", async () => {
  const { controller, posts } = await pageWith({ "POST chat": () => stream(events(text("Hi"), text("!"), stopped, "[DONE]")) });
  controller.send("hello");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status, answer.model, answer.interaction], ["Hi!", "complete", "m", "i-1"]);
  controller.send("more");
  await ended(controller);
  const [first, second] = posts().map((each) => JSON.parse(each.options.body));
  assert.equal(first.root_id, undefined);
  assert.equal(second.root_id, "r-1");
  assert.deepEqual(second.messages.slice(1).map((message) => message.content), ["hello", "Hi!", "more"]);
});

test("only parameters that are set are sent, and the limit has the model's name for it", async () => {
  const { controller, posts } = await pageWith({ "POST chat": () => stream(events(stopped, "[DONE]")) });
  controller.changeParameter("temperature", 0.2);
  controller.changeParameter("max_tokens", 50);
  controller.send("a");
  await ended(controller);
  controller.chooseModel("gpt-5-mini");
  controller.send("b");
  await ended(controller);
  const [first, second] = posts().map((each) => JSON.parse(each.options.body));
  assert.deepEqual([first.temperature, first.max_tokens, first.top_p], [0.2, 50, undefined]);
  assert.deepEqual([second.max_tokens, second.max_completion_tokens], [undefined, 50]);
});

test("an error event fails the answer although the stream has an end", async () => {
  const { controller } = await pageWith({ "POST chat": () => stream(events(text("Hi"), { error: { message: "gone", code: "upstream_timeout" } })) });
  controller.send("x");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status, answer.problem.detail], ["Hi", "failed", "gone"]);
});

test("a refusal by the policy is a problem whose action is to edit", async () => {
  const refusal = () => Response.json({ error: { message: "No card numbers.", code: "policy_rejected", type: "policy_error" } }, { status: 403 });
  const { controller } = await pageWith({ "POST chat": refusal });
  controller.send("x");
  const { problem } = await ended(controller);
  assert.match(problem.title, /policy/);
  assert.deepEqual([problem.detail, problem.action], ["No card numbers.", "edit"]);
});

test("an answer has its policy result", async () => {
  const masked = () => new Response(events(text("ok"), stopped, "[DONE]").join(""), { headers: { ...IDS, "x-policy-outcome": "masked", "x-policy-rule": "iban" } });
  const { controller } = await pageWith({ "POST chat": masked });
  controller.send("x");
  assert.deepEqual((await ended(controller)).policy, { verdict: "masked", detail: "iban" });
});

test("an answer whose connection broke is resumed from its beginning", async () => {
  const { controller, requests } = await pageWith({
    "POST chat": () => stream([...events(text("One "), text("two")), new TypeError("network")]),
    "GET chat/i-1/stream": () => stream(events(text("One "), text("two "), text("three"), stopped, "[DONE]")),
  });
  controller.send("x");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status], ["One two three", "complete"]);
  assert.equal(requests.filter((each) => each.path === "chat").length, 1);
});

test("c3: a server without a gateway that refuses stream_options gets the request without them", async () => {
  const refusal = () => Response.json({ error: { message: "Unknown parameter: 'stream_options'" } }, { status: 400 });
  const takes = (options) => ("stream_options" in JSON.parse(options.body) ? refusal() : stream(events(text("Hi"), stopped, "[DONE]")));
  const { controller, posts } = await pageWith({
    "GET https://api.example/v1/models": () => Response.json({ data: [{ id: "m" }] }),
    "POST https://api.example/v1/chat/completions": takes,
  }, { config: null });
  controller.signIn("https://api.example/v1/", "sk-1");
  await until(() => controller.state().models === "listed");
  controller.send("hello");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status, posts().length], ["Hi", "complete", 2]);
});

test("b11: [DONE] without a finish reason is not the end of an answer, and the gateway has its outcome", async () => {
  const found = { running: false, outcome: "truncated", error: "why", response: { choices: [{ message: { content: "Half" } }] } };
  const { controller } = await pageWith({ "POST chat": () => stream(events(text("Half"), "[DONE]")), "GET chat/i-1": () => Response.json(found) });
  controller.send("x");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status], ["Half", "failed"]);
  assert.match(answer.problem.title, /cut off/);
});

test("an answer that ended meanwhile is found by its id, with its outcome", async () => {
  const found = (outcome) => () => Response.json({ running: false, outcome, error: "why", response: { choices: [{ message: { content: "All of it" } }] } });
  for (const [outcome, status] of [["complete", "complete"], ["client_cancelled", "stopped"], ["truncated", "failed"]]) {
    const { controller } = await pageWith({ "POST chat": () => stream([...events(text("All")), new TypeError("cut")]), "GET chat/i-1": found(outcome) });
    controller.send("x");
    const answer = await ended(controller);
    assert.deepEqual([answer.text, answer.status], ["All of it", status]);
  }
});

test("an answer without an id is found by its question", async () => {
  let requests = 0;
  const { controller, posts } = await pageWith({
    "POST chat": () => Promise.reject(new TypeError("cut")),
    "POST checkchat": () => (requests++ < 3 ? Response.json({ error: { message: "wait", code: "still_running" } }, { status: 404 })
      : Response.json({ uuid: "i-9", root_uuid: "r-9", choices: [{ message: { content: "Here" }, finish_reason: "stop" }] })),
  });
  controller.send("x");
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status, answer.interaction, controller.state().chat.root], ["Here", "complete", "i-9", "r-9"]);
  const bodies = posts().map((each) => each.options.body);
  assert.equal(new Set(bodies).size, 1); // the same bytes
});

test("recovery gives up if the gateway does not have the question", async () => {
  const { controller } = await pageWith({ "POST chat": () => Promise.reject(new TypeError("cut")) });
  controller.send("x");
  const answer = await ended(controller);
  assert.equal(answer.status, "failed");
  assert.match(answer.problem.title, /could not be found/);
});

test("after a reload the page resumes the running answer", async () => {
  const sessionStore = memoryStore();
  const before = await pageWith({ "POST chat": (options) => stream([...events(text("One ")), null], options.signal) }, { sessionStore });
  before.controller.send("x");
  await until(() => pathOf(before.controller.state().chat).at(-1).text === "One ");
  const { controller } = await pageWith({ "GET chat/i-1/stream": () => stream(events(text("One "), text("two"), stopped, "[DONE]")) }, { sessionStore });
  const answer = await ended(controller);
  assert.deepEqual(pathOf(controller.state().chat).map((message) => message.text), ["x", "One two"]);
  assert.deepEqual([answer.status, answer.seconds], ["complete", undefined]);
});

test("stop reaches the gateway, keeps the text, and is not a failure", async () => {
  const { controller, posts } = await pageWith({
    "POST chat": (options) => stream([...events(text("Hi")), null], options.signal),
    "POST chat/i-1/stop": () => Response.json({ message: "stopped" }),
  });
  controller.send("x");
  await until(() => pathOf(controller.state().chat).at(-1).text === "Hi");
  controller.stop();
  const answer = await ended(controller);
  assert.deepEqual([answer.text, answer.status], ["Hi", "stopped"]);
  await until(() => posts().some((each) => each.path === "chat/i-1/stop"));
});

test("an answer that is stopped before it has an id is stopped at the gateway when the id arrives", async () => {
  let begin = () => {};
  const { controller, posts } = await pageWith({
    "POST chat": (options) => new Promise((resolve) => (begin = () => resolve(stream([null], options.signal)))),
    "POST chat/i-1/stop": () => Response.json({ message: "stopped" }),
  });
  controller.send("x");
  controller.stop();
  assert.equal((await ended(controller)).status, "stopped");
  begin();
  await until(() => posts().some((each) => each.path === "chat/i-1/stop"));
});

test("a page without an endpoint asks for one, and uses OpenAI's API at a base URL", async () => {
  const sessionStore = memoryStore();
  const { controller, requests } = await pageWith({
    "GET https://api.example/v1/models": () => Response.json({ data: [{ id: "m" }] }),
    "POST https://api.example/v1/chat/completions": () => stream(events(text("Hi"), stopped, "[DONE]")),
  }, { config: null, sessionStore });
  assert.equal(controller.state().dialog.kind, "sign_in");
  assert.notEqual(controller.signIn("not an address", "k"), "");
  assert.equal(controller.signIn("https://api.example/v1/", "sk-1"), "");
  await until(() => controller.state().models === "listed");
  controller.send("x");
  const answer = await ended(controller);
  assert.equal(answer.text, "Hi");
  const post = requests.find((each) => each.options.method === "POST");
  assert.equal(post.options.headers.Authorization, "Bearer sk-1");
  assert.equal(JSON.parse(post.options.body).root_id, undefined);
  assert.equal(controller.state().history.status, "absent");
});

test("a key is sent only to its own address", async () => {
  const sessionStore = memoryStore();
  const first = await pageWith({ "GET https://one.example/v1/models": () => Response.json({ data: [] }) }, { config: null, sessionStore });
  first.controller.signIn("https://one.example", "sk-one");
  const { requests } = await pageWith({}, { config: null, sessionStore, address: "https://two.example" });
  const sent = requests.filter((each) => each.path.startsWith("https://two.example"));
  assert.ok(sent.length > 0);
  assert.ok(sent.every((each) => !("Authorization" in (each.options.headers ?? {}))));
});

test("a configured page ignores the address in its URL", async () => {
  const { requests } = await pageWith({}, { address: "https://evil.example" });
  assert.ok(requests.every((each) => !each.path.includes("evil")));
});

test("a gateway that refuses the user opens the sign-in; a key connects", async () => {
  const { controller } = await pageWith({
    "GET v1/models": (options) => (options.headers?.Authorization === "Bearer sk-gw-1" ? Response.json({ data: [{ id: "m" }] })
      : Response.json({ error: { message: "no", code: "invalid_api_key", type: "authentication_error" } }, { status: 401 })),
  });
  assert.deepEqual([controller.state().models, controller.state().dialog?.kind], ["refused", "sign_in"]);
  controller.signIn("", "sk-gw-1");
  await until(() => controller.state().models === "listed");
  assert.equal(controller.state().dialog, null);
});

test("a conversation of the history opens with all messages and continues under its id", async () => {
  const row = { id: "i-5", root_gpt_id: "r-5", response_time: "2026-01-01T00:00:00", outcome: "complete",
    request: { messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "q" }] },
    response: { model: "m", choices: [{ message: { content: "a" }, finish_reason: "stop" }], usage: { prompt_tokens: 1, completion_tokens: 1 } } };
  const { controller, posts } = await pageWith({
    "GET history_v2": () => Response.json({ Historical_Conversations: [row], next_before: null }),
    "POST chat": () => stream(events(text("b"), stopped, "[DONE]")),
  });
  await until(() => controller.state().history.status === "loaded");
  assert.equal(controller.state().history.list[0].title, "q");
  await controller.open("r-5");
  controller.send("more");
  await ended(controller);
  const body = JSON.parse(posts()[0].options.body);
  assert.equal(body.root_id, "r-5");
  assert.deepEqual(body.messages.map((message) => message.content), ["Be brief.", "q", "a", "more"]);
});

test("without a list of models the user types a name", async () => {
  const { controller } = await pageWith({ "GET v1/models": () => new Response("no", { status: 404 }) });
  assert.equal(controller.state().models, "unlisted");
});

test("invalid values in the storage do not break the page", async () => {
  const localStore = memoryStore({ choices: { model: 5, useCase: null, values: { temperature: "hot", top_p: 9, evil: 1 }, instructions: 7 } });
  const { controller } = await pageWith({}, { localStore });
  assert.deepEqual(controller.state().choices.values, { top_p: 1 });
});
