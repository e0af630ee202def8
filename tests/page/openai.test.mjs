// What the page understands of the API's answers, and how it words what went wrong.
import assert from "node:assert/strict";
import { test } from "node:test";

import { firstChoice, policyOf, readChunk, readCompletion, readModels, readPolicy, requestBody, textOf } from "../../static/scripts/shared/completions.mjs";
import { problemOfAnswer, problemOfEvent } from "../../static/scripts/chat/problems.mjs";

const chunk = (value) => readChunk(JSON.stringify(value));

test("a chunk says its text, its reason and its usage", () => {
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: { role: "assistant", content: "" } }] }), []);
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: { content: "Hi" } }] }), [{ kind: "text", text: "Hi" }]);
  assert.deepEqual(chunk({ choices: [{ delta: { refusal: "No" } }] }), [{ kind: "text", text: "No" }]);
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }), [{ kind: "reason", reason: "stop" }]);
  assert.deepEqual(chunk({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } }), [
    { kind: "usage", usage: { prompt: 3, completion: 4 } },
  ]);
  assert.deepEqual(readChunk("[DONE]"), [{ kind: "done" }]);
});

test("reasoning comes by either name, and content in parts is put together", () => {
  assert.deepEqual(chunk({ choices: [{ delta: { reasoning_content: "hm" } }] }), [{ kind: "thought", text: "hm" }]);
  assert.deepEqual(chunk({ choices: [{ delta: { reasoning: "hm", content: "x" } }] }), [{ kind: "thought", text: "hm" }, { kind: "text", text: "x" }]);
  assert.equal(textOf([{ type: "text", text: "a" }, { type: "image_url", image_url: {} }, 5]), "a\n[image]");
});

test("a whole completion says the same as its stream", () => {
  const completion = { model: "m-1", choices: [{ message: { content: "Hi", reasoning_content: "hm" }, finish_reason: "length" }], usage: { prompt_tokens: 1, completion_tokens: 2 } };
  assert.deepEqual(readCompletion(completion).map((said) => said.kind), ["thought", "text", "model", "reason", "usage"]);
  for (const odd of [null, undefined, 5, {}, { choices: 5 }, { choices: [] }, { choices: [{}] }]) assert.deepEqual(readCompletion(odd), []);
});

test("what the policy did is read from the answer's headers", () => {
  const policy = (headers) => readPolicy(new Headers(headers));
  assert.equal(policy({}), null);
  assert.equal(policy({ "x-policy-outcome": "allow" }), null);
  assert.deepEqual(policy({ "x-policy-outcome": "mask", "x-policy-rule": "iban" }), { verdict: "masked", detail: "iban" });
  assert.deepEqual(policy({ "x-policy-outcome": "redirected" }), { verdict: "redirected", detail: "" });
  assert.deepEqual(policy({ "x-policy-outcome": "rejected", "x-policy-rule": "a, b" }), { verdict: "rejected", detail: "a, b" });
});

test("what the policy did is read from rows, also where they hold nonsense", () => {
  assert.equal(policyOf(null, null), null);
  assert.deepEqual(policyOf("masked", ["iban", "names"]), { verdict: "masked", detail: "iban, names" });
  assert.deepEqual(policyOf("rejected", 5), { verdict: "rejected", detail: "" });
  for (const odd of [undefined, 5, {}, [], ""]) assert.equal(policyOf(odd, "x"), null);
});

test("another choice than the first is not shown", () => {
  assert.deepEqual(chunk({ choices: [{ index: 1, delta: { content: "other" } }] }), []);
});

test("hostile chunks say nothing and do not throw", () => {
  for (const data of ["", "{", "null", "[]", "5", '"x"', '{"choices": 5}', '{"choices": [null]}', '{"choices": [{"delta": 5}]}',
    '{"choices": [{"delta": {"content": {}}}]}', '{"usage": 5}', '{"usage": null}', '{"usage": {"prompt_tokens": "3"}}']) {
    assert.deepEqual(readChunk(data), [], data);
  }
});

test("an error event becomes a problem in words", () => {
  const [said] = chunk({ error: { message: "upstream gone", code: "upstream_cut" } });
  assert.equal(said.kind, "problem");
  assert.match(said.problem.title, /cut off/);
  assert.equal(said.problem.detail, "upstream gone");
  assert.equal(problemOfEvent("just words").detail, "just words");
});

test("b10: an error in any form of an upstream becomes a problem, behind the words that came with it", () => {
  const failed = { index: 0, delta: { content: "Hal" }, finish_reason: "error", error: { code: 502, message: "gone" } };
  const [text, problem] = chunk({ choices: [failed] });
  assert.deepEqual(text, { kind: "text", text: "Hal" });
  assert.equal(problem.problem.detail, "gone");
  for (const error of [
    { error: "gone" }, { type: "error", message: "gone" }, { object: "error", message: "gone" }, { code: 502, message: "gone" },
    { detail: "gone" }, { errors: [{ message: "gone" }] }, { choices: [{ index: 0, delta: {}, finish_reason: "error" }] },
  ]) assert.equal(chunk(error)[0]?.kind, "problem", JSON.stringify(error));
  assert.equal(readChunk('{"message":"gone"}', "error")[0].problem.detail, "gone");
  assert.equal(readChunk("gone", "error")[0].problem.detail, "gone");
  for (const fine of [{ error: null }, { code: 0, message: "ok" }, { choices: [{ index: 0, delta: {}, error: null, finish_reason: null }] }]) {
    assert.deepEqual(chunk(fine), [], JSON.stringify(fine));
  }
});

test("the demo is told from a model that is only called so", () => {
  assert.deepEqual(readModels('{"data": [{"id": "demo", "owned_by": "llm-gateway"}]}'), { ids: ["demo"], isDemo: true });
  assert.deepEqual(readModels('{"data": [{"id": "demo", "owned_by": "us"}]}'), { ids: ["demo"], isDemo: false });
  assert.deepEqual(readModels('{"data": [{"id": 5}, null]}'), { ids: [], isDemo: false });
  assert.deepEqual(readModels("<html>"), { ids: [], isDemo: false });
});

test("the first choice is a model that chats", () => {
  assert.equal(firstChoice(["text-embedding-3", "whisper-1", "gpt-5", "gpt-5-mini"]), "gpt-5");
  assert.equal(firstChoice(["text-embedding-3"]), "text-embedding-3");
  assert.equal(firstChoice([]), "");
});

test("a request asks for a stream and its usage", () => {
  assert.deepEqual(JSON.parse(requestBody({ model: "m", messages: [{ role: "user", content: "x" }], values: { top_p: 0.1 }, root: "r" })), {
    model: "m",
    messages: [{ role: "user", content: "x" }],
    top_p: 0.1,
    root_id: "r",
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("every error answer has a title and says what to do next", () => {
  const bodies = ["", "<html>Bad Gateway</html>", '{"error": {"message": "m", "code": "c"}}', '{"error": "text"}', '{"error": null}', "[]", "null"];
  for (const status of [400, 401, 403, 404, 409, 413, 418, 429, 500, 502, 503]) {
    for (const body of bodies) {
      const problem = problemOfAnswer(status, body);
      assert.ok(problem.title.endsWith(".") && problem.advice.endsWith("."), `${status} ${body}`);
      assert.ok(problem.detail);
    }
  }
});

test("a key that is missing is asked for; the gateway's own key is not the reader's matter", () => {
  const body = (type) => JSON.stringify({ error: { message: "m", type, code: "invalid_api_key" } });
  assert.equal(problemOfAnswer(401, body("authentication_error")).action, "sign_in");
  assert.equal(problemOfAnswer(401, body("invalid_request_error")).action, "retry");
  assert.equal(problemOfAnswer(401, body("invalid_request_error"), true).action, "sign_in");
});

test("the gateway's own code says more than the status", () => {
  const body = JSON.stringify({ error: { message: "disk full", type: "server_error", code: "journal_full" } });
  assert.match(problemOfAnswer(503, body).title, /no room/);
});
