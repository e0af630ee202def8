// Reading of responses: stream chunks, completions, policy results, models, errors.
import assert from "node:assert/strict";
import { test } from "node:test";

import { contentText, readCompletion } from "../../static/scripts/shared/completions.mjs";
import { policyResult } from "../../static/scripts/shared/outcomes.mjs";
import { defaultModel, readChunk, readModels, requestBody } from "../../static/scripts/chat/openai.mjs";
import { responseProblem, streamProblem } from "../../static/scripts/chat/problems.mjs";

const chunk = (value) => readChunk(JSON.stringify(value));

test("a chunk has events for text, finish reason and usage", () => {
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: { role: "assistant", content: "" } }] }), []);
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: { content: "Hi" } }] }), [{ kind: "text", text: "Hi" }]);
  assert.deepEqual(chunk({ choices: [{ delta: { refusal: "No" } }] }), [{ kind: "text", text: "No" }]);
  assert.deepEqual(chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }), [{ kind: "finish", reason: "stop" }]);
  assert.deepEqual(chunk({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } }), [
    { kind: "usage", usage: { prompt: 3, completion: 4 } },
  ]);
  assert.deepEqual(readChunk("[DONE]"), [{ kind: "done" }]);
});

test("reasoning has either name, and the parts of a content are joined", () => {
  assert.deepEqual(chunk({ choices: [{ delta: { reasoning_content: "hm" } }] }), [{ kind: "reasoning", text: "hm" }]);
  assert.deepEqual(chunk({ choices: [{ delta: { reasoning: "hm", content: "x" } }] }), [{ kind: "reasoning", text: "hm" }, { kind: "text", text: "x" }]);
  assert.equal(contentText([{ type: "text", text: "a" }, { type: "image_url", image_url: {} }, 5]), "a\n[image]");
});

test("a whole completion has the same events as its stream", () => {
  const completion = { model: "m-1", choices: [{ message: { content: "Hi", reasoning_content: "hm" }, finish_reason: "length" }], usage: { prompt_tokens: 1, completion_tokens: 2 } };
  assert.deepEqual(readCompletion(completion).map((event) => event.kind), ["reasoning", "text", "model", "finish", "usage"]);
  for (const odd of [null, undefined, 5, {}, { choices: 5 }, { choices: [] }, { choices: [{}] }]) assert.deepEqual(readCompletion(odd), []);
});

test("the policy result is read from headers", () => {
  const policy = (headers) => policyResult(new Headers(headers).get("x-policy-outcome"), new Headers(headers).get("x-policy-rule"));
  assert.equal(policy({}), null);
  assert.equal(policy({ "x-policy-outcome": "allow" }), null);
  assert.deepEqual(policy({ "x-policy-outcome": "mask", "x-policy-rule": "iban" }), { verdict: "masked", detail: "iban" });
  assert.deepEqual(policy({ "x-policy-outcome": "redirected" }), { verdict: "redirected", detail: "" });
  assert.deepEqual(policy({ "x-policy-outcome": "rejected", "x-policy-rule": "a, b" }), { verdict: "rejected", detail: "a, b" });
});

test("the policy result is read from rows, also from invalid ones", () => {
  assert.equal(policyResult(null, null), null);
  assert.deepEqual(policyResult("masked", ["iban", "names"]), { verdict: "masked", detail: "iban, names" });
  assert.deepEqual(policyResult("rejected", 5), { verdict: "rejected", detail: "" });
  for (const odd of [undefined, 5, {}, [], ""]) assert.equal(policyResult(odd, "x"), null);
});

test("only the first choice is shown", () => {
  assert.deepEqual(chunk({ choices: [{ index: 1, delta: { content: "other" } }] }), []);
});

test("invalid chunks have no events and do not throw", () => {
  for (const data of ["", "{", "null", "[]", "5", '"x"', '{"choices": 5}', '{"choices": [null]}', '{"choices": [{"delta": 5}]}',
    '{"choices": [{"delta": {"content": {}}}]}', '{"usage": 5}', '{"usage": null}', '{"usage": {"prompt_tokens": "3"}}']) {
    assert.deepEqual(readChunk(data), [], data);
  }
});

test("an error event becomes a problem", () => {
  const [event] = chunk({ error: { message: "upstream gone", code: "upstream_cut" } });
  assert.equal(event.kind, "problem");
  assert.match(event.problem.title, /cut off/);
  assert.equal(event.problem.detail, "upstream gone");
  assert.equal(streamProblem("just words").detail, "just words");
});

test("b10: an error in any upstream's form becomes a problem, after the text of its chunk", () => {
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

test("a model with the name of the demo is not the demo", () => {
  assert.deepEqual(readModels('{"data": [{"id": "demo", "owned_by": "llm-gateway"}]}'), { ids: ["demo"], isDemo: true });
  assert.deepEqual(readModels('{"data": [{"id": "demo", "owned_by": "us"}]}'), { ids: ["demo"], isDemo: false });
  assert.deepEqual(readModels('{"data": [{"id": 5}, null]}'), { ids: [], isDemo: false });
  assert.deepEqual(readModels("<html>"), { ids: [], isDemo: false });
});

test("the default model is one that chats", () => {
  assert.equal(defaultModel(["text-embedding-3", "whisper-1", "gpt-5", "gpt-5-mini"]), "gpt-5");
  assert.equal(defaultModel(["text-embedding-3"]), "text-embedding-3");
  assert.equal(defaultModel([]), "");
});

test("a request has stream and usage options", () => {
  assert.deepEqual(JSON.parse(requestBody({ model: "m", messages: [{ role: "user", content: "x" }], values: { top_p: 0.1 }, root: "r" })), {
    model: "m",
    messages: [{ role: "user", content: "x" }],
    top_p: 0.1,
    root_id: "r",
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("every error response has a title and an advice", () => {
  const bodies = ["", "<html>Bad Gateway</html>", '{"error": {"message": "m", "code": "c"}}', '{"error": "text"}', '{"error": null}', "[]", "null"];
  for (const status of [400, 401, 403, 404, 409, 413, 418, 429, 500, 502, 503]) {
    for (const body of bodies) {
      const problem = responseProblem(status, body);
      assert.ok(problem.title.endsWith(".") && problem.advice.endsWith("."), `${status} ${body}`);
      assert.ok(problem.detail);
    }
  }
});

test("a missing key leads to the sign-in, an invalid key of the gateway does not", () => {
  const body = (type) => JSON.stringify({ error: { message: "m", type, code: "invalid_api_key" } });
  assert.equal(responseProblem(401, body("authentication_error")).action, "sign_in");
  assert.equal(responseProblem(401, body("invalid_request_error")).action, "retry");
  assert.equal(responseProblem(401, body("invalid_request_error"), true).action, "sign_in");
});

test("the gateway's error code takes precedence over the status", () => {
  const body = JSON.stringify({ error: { message: "disk full", type: "server_error", code: "journal_full" } });
  assert.match(responseProblem(503, body).title, /no room/);
});
