// page.json, endpoints, parameters, and rows of the history as conversations.
import assert from "node:assert/strict";
import { test } from "node:test";

import { pathOf } from "../../static/scripts/chat/chats.mjs";
import { normalizeAddress, parseEndpoint, readPageConfig, sdkBaseUrl, urlOf } from "../../static/scripts/chat/config.mjs";
import { chatOf, conversationOf, periodOf } from "../../static/scripts/chat/history.mjs";
import { PARAMETERS, parameterFields, readUseCases, parseValue, USE_CASES } from "../../static/scripts/chat/parameters.mjs";

test("a base URL that ends in a version is an OpenAI endpoint, any other address is a gateway", () => {
  assert.deepEqual(parseEndpoint("."), { api: "gateway", base: "" });
  assert.deepEqual(parseEndpoint("https://a.example/"), { api: "gateway", base: "https://a.example" });
  assert.deepEqual(parseEndpoint("https://a.example/v1"), { api: "openai", base: "https://a.example/v1" });
  assert.deepEqual(parseEndpoint("https://a.example/llm", "openai"), { api: "openai", base: "https://a.example/llm" });
  assert.equal(urlOf({ api: "gateway", base: "" }, "chat"), "chat");
  assert.equal(urlOf({ api: "gateway", base: "https://a.example" }, "chat"), "https://a.example/chat");
  assert.equal(sdkBaseUrl({ api: "gateway", base: "" }, "https://a.example/llm/?x#y"), "https://a.example/llm/v1");
  assert.equal(sdkBaseUrl({ api: "gateway", base: "https://b.example" }, "https://a.example/"), "https://b.example/v1");
});

test("an address that is not a web address is refused", () => {
  for (const text of ["javascript:alert(1)", "file:///etc", "data:x", "//evil.example", "https://"]) assert.equal(parseEndpoint(text), null, text);
  for (const text of ["", "https://", "https://user:pw@a.example", "https://a.example/?q", "javascript:alert(1)", "a b"]) assert.equal(normalizeAddress(text), "", text);
  assert.equal(normalizeAddress("gateway.example/"), "https://gateway.example");
  assert.equal(normalizeAddress("localhost:8000"), "http://localhost:8000");
});

test("an invalid configuration gives defaults, and invalid links give none", () => {
  for (const odd of [null, 5, [], "x", {}, { use_cases: 5, auth: 5, gateway: 5 }, { use_cases: [null, {}, { name: "", prompt: "" }] }]) {
    const page = readPageConfig(odd);
    assert.equal(page.useCases, USE_CASES);
    assert.equal(page.endpoint, null);
  }
  const page = readPageConfig({ gateway: ".", policy_url: "javascript:alert(1)", token_url: "https://t.example/", report_url: "//evil", docs_url: "docs" });
  assert.deepEqual([page.policyUrl, page.tokenUrl, page.reportUrl, page.docsUrl, page.isFixed], [null, "https://t.example/", null, "docs", true]);
});

test("use cases keep their name, prompt and description", () => {
  assert.deepEqual(readUseCases([{ name: "T", prompt: "p" }]), [{ id: "T", name: "T", prompt: "p", description: "" }]);
  assert.deepEqual(USE_CASES.map((each) => each.name), ["Default assistant", "Coding assistant", "Security investigator"]);
});

test("values are clamped to their range, and other text is no value", () => {
  assert.deepEqual(PARAMETERS.map(({ name, min, max }) => [name, min, max]).slice(0, 4),
    [["temperature", 0, 2], ["top_p", 0, 1], ["presence_penalty", 0, 2], ["frequency_penalty", 0, 2]]);
  assert.ok(PARAMETERS.every((each) => each.help.endsWith(".") ));
  assert.deepEqual(["3", "-1", "0.333", "", "x", "0"].map((text) => parseValue("temperature", text)), [2, 0, 0.33, null, null, 0]);
  assert.deepEqual(["1.6", "0", ""].map((text) => parseValue("max_tokens", text)), [2, 1, null]);
  assert.equal(parseValue("other", "1"), null);
  assert.deepEqual(parameterFields("o3-mini", { top_p: 0.5, max_tokens: 9 }), { top_p: 0.5, max_completion_tokens: 9 });
});

test("rows of every API become conversations", () => {
  const rows = [
    { id: "1", request: { messages: [{ role: "user", content: [{ type: "text", text: "look" }, { type: "image_url", image_url: { url: "x" } }] }] }, response: null, outcome: "interrupted" },
    { id: "2", request: { input: "hello" }, response: { output: [{ content: [{ text: "Hi" }] }] } },
    { id: "3", request: null, response: "?" },
    { id: "4", request: { messages: [{ role: "user", content: "q" }, { role: "assistant", content: null, tool_calls: [{ function: { name: "f" } }] }, { role: "tool", content: "r" }] },
      response: { choices: [{ message: { content: "<think>hm</think>done" } }] } },
  ];
  const texts = rows.map((row) => pathOf(chatOf(row, 1)).map((message) => message.text));
  assert.deepEqual(texts, [["look\n[image]", ""], ["hello", "Hi"], [""], ["q", "[calls f]", "r", "done"]]);
  assert.deepEqual(pathOf(chatOf(rows[0], 1))[0].content, rows[0].request.messages[0].content);
  assert.equal(pathOf(chatOf(rows[0], 1))[1].status, "stopped");
  assert.equal(conversationOf(rows[2]).title, "Untitled");
  assert.equal(conversationOf({ ...rows[1], response_time: "2026-01-02T03:04:05.6" }).at, Date.UTC(2026, 0, 2, 3, 4, 5, 600));
});

test("the list has periods", () => {
  const now = new Date(2026, 5, 15, 12).getTime();
  const ago = (days) => periodOf(now - days * 86_400_000, now);
  assert.deepEqual([ago(0), ago(1), ago(3), ago(20), ago(100)], ["Today", "Yesterday", "Last 7 days", "Last 30 days", "March 2026"]);
});
