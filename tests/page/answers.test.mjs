// What the page understands of the API's answers, and how it words what went wrong.
import assert from "node:assert/strict";
import { test } from "node:test";

import { firstChoice, readChunk, readModels, requestBody } from "../../static/scripts/answers.mjs";
import { problemOfAnswer, problemOfEvent } from "../../static/scripts/problems.mjs";

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
  assert.deepEqual(JSON.parse(requestBody("m", [{ role: "user", content: "x" }])), {
    model: "m",
    messages: [{ role: "user", content: "x" }],
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

test("the gateway's own code says more than the status", () => {
  const body = JSON.stringify({ error: { message: "disk full", type: "server_error", code: "journal_full" } });
  assert.match(problemOfAnswer(503, body).title, /no room/);
});
