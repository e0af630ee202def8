// The live page: its reducer, the reading of rows, and the controller with a fake gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import { addressOf, queryOf, readAddress } from "../../static/scripts/live/address.mjs";
import { LiveApiError, createLiveClient } from "../../static/scripts/live/client.mjs";
import { createController } from "../../static/scripts/live/controller.mjs";
import { durationText, timeText } from "../../static/scripts/live/format.mjs";
import { interactionOf, pageOf, runningAnswersOf } from "../../static/scripts/live/interactions.mjs";
import { initialState, reduce, statusText } from "../../static/scripts/live/state.mjs";
import { conversationOf } from "../../static/scripts/live/turns.mjs";

const row = (id, more = {}) => ({ id, source: "chat", kind: "chat", response_time: "2026-01-31T09:30:00", user_name: "ann", outcome: "complete", ...more });
const interaction = (id, more) => interactionOf(row(id, more));
const ids = (list) => list.map((each) => each.id).join("");
const after = (...actions) => actions.reduce(reduce, initialState({}, null));
const arrived = (id, more) => ({ type: "arrived", interaction: interaction(id, more) });
const found = (...list) => ({ type: "search_loaded", page: { interactions: list.map((id) => interaction(id)), next: "later" }, isMore: false });

test("new interactions are above those of a search, without duplicates", () => {
  const state = after(arrived("c"), found("c", "b", "a"), arrived("d"), arrived("b"));
  assert.equal(ids(state.interactions), "dcba");
  assert.equal(state.next, "later");
});

test("new interactions wait in order while the user has paused or scrolled", () => {
  const paused = after(found("a"), { type: "paused", isPaused: true }, arrived("b"), arrived("c"));
  assert.deepEqual([ids(paused.interactions), ids(paused.waiting)], ["a", "cb"]);
  assert.equal(ids(reduce(paused, { type: "paused", isPaused: false }).interactions), "cba");
  const scrolled = after(found("a"), { type: "scrolled", isScrolled: true }, arrived("b"));
  assert.equal(ids(scrolled.waiting), "b");
  assert.equal(ids(reduce(scrolled, { type: "scrolled", isScrolled: false }).interactions), "ba");
  assert.equal(ids(reduce(scrolled, { type: "revealed" }).interactions), "ba");
});

test("older interactions go below, and a new search adds those that were missed", () => {
  const more = reduce(after(found("b")), { type: "search_loaded", page: { interactions: [interaction("a")], next: null }, isMore: true });
  assert.deepEqual([ids(more.interactions), more.next], ["ba", null]);
  const newer = { interactions: [interaction("z", { response_time: "2026-02-01T00:00:00" }), interaction("b")], next: "x" };
  assert.equal(ids(reduce(more, { type: "search_loaded", page: newer, isMore: false }).interactions), "zba");
});

test("an interaction that arrives long after its end is late", () => {
  const state = after(found("a"), arrived("b", { response_time: "2026-01-31T08:00:00" }), arrived("c"));
  assert.deepEqual(state.interactions.map((each) => each.isLate), [false, true, false]);
});

test("running answers are known while the event stream is open, with times of the gateway's clock", () => {
  const json = { now: 1000, data: [{ id: "a", user_name: "ann", model: "m", started_at: 958.5 }, { id: "b", user_name: "bob", model: "", path: "/v1/files", started_at: 2000 }] };
  const running = runningAnswersOf(json, 5_000_000);
  assert.deepEqual(running.map(({ user, model, startedAt }) => [user, model, startedAt]), [["ann", "m", 4_958_500], ["bob", "/v1/files", 5_000_000]]);
  const live = after({ type: "status", status: "live" }, { type: "running", running });
  assert.equal(reduce(live, { type: "status", status: "database_down" }).running, running);
  for (const status of ["lost", "connecting", "searching", "signed_out"]) assert.deepEqual(reduce(live, { type: "status", status }).running, []);
  assert.deepEqual(reduce(live, { type: "filtered", filters: {} }).running, []);
  assert.deepEqual([0, 999, 59_999, 60_000, 754_000, -5].map(durationText), ["0 s", "0 s", "59 s", "1:00 min", "12:34 min", "0 s"]);
  for (const odd of [null, 5, {}, { data: {} }, { data: [null, 5, {}, { id: 5 }] }]) assert.deepEqual(runningAnswersOf(odd, 0), []);
  assert.deepEqual(runningAnswersOf({ data: [{ id: "x", user_name: [], model: {}, started_at: "y" }] }, 7), [{ id: "x", user: "", title: "", model: "", startedAt: 7 }]);
});

test("new filters empty the list, and a late conversation is ignored", () => {
  assert.equal(ids(after(found("a"), { type: "filtered", filters: { user: "bob" } }).interactions), "");
  const state = after({ type: "opened", id: "b" }, { type: "conversation", id: "a", conversation: conversationOf({}) });
  assert.equal(state.conversation, null);
});

test("invalid rows are skipped, or have safe values", () => {
  for (const odd of [null, undefined, 5, "x", [], {}, { id: 5 }]) assert.equal(interactionOf(odd), null);
  const odd = interactionOf({ id: "x", response_time: {}, user_name: 5, asked: ["<b>"], policy_outcome: {}, policy_rules: 7, outcome: null });
  assert.deepEqual([odd.at, odd.user, odd.question, odd.policy, odd.outcome], [0, "", "", null, "complete"]);
  assert.equal(timeText(0, Date.now()), "–");
  assert.deepEqual(pageOf({ data: [null, row("a")], next_before: 5 }).interactions.map((each) => each.id), ["a"]);
  for (const none of [null, 5, {}, { data: {} }]) assert.deepEqual(pageOf(none).interactions, []);
});

test("filters are in the URL and are read from it", () => {
  const filters = { user: "a&b=c", policy: "any" };
  assert.deepEqual(readAddress(addressOf(filters, "id/1")), { filters, open: "id/1" });
  assert.equal(addressOf({}, null), "");
  assert.deepEqual(readAddress("?user=%20&other=x&open="), { filters: {}, open: null });
});

test("a day is in the browser's time zone, and an invalid one is not sent", () => {
  assert.equal(new URLSearchParams(queryOf({ from: "2026-01-31" })).get("from"), new Date("2026-01-31T00:00").toISOString());
  assert.equal(queryOf({ from: "x", user: "ann" }, { before: "m" }), "user=ann&before=m");
});

test("the status is a pause only while the event stream can be paused", () => {
  assert.equal(statusText(after({ type: "status", status: "live" }, { type: "paused", isPaused: true })), "Paused");
  assert.match(statusText(after({ type: "status", status: "database_down" }, { type: "paused", isPaused: true })), /away/);
});

test("a conversation has messages, policy results and branches", () => {
  const completion = (text) => ({ choices: [{ message: { role: "assistant", content: text, tool_calls: [{ function: { name: "f", arguments: "{}" } }] } }] });
  const conversation = conversationOf({
    user: "ann", conversation: "r", next_after: "n",
    data: [
      row("a", { messages: [{ role: "system", content: "Be brief." }, { role: "user", content: [{ type: "text", text: "one" }] }], response: completion("1"), policy_outcome: "masked", policy_rules: ["cards"] }),
      row("b", { parent_id: "a", messages: [{ role: "user", content: "two" }], response: null, outcome: "policy_blocked", error: "No." }),
      row("c", { parent_id: "a", messages: [{ role: "tool", content: "7" }], response: { error: { message: "x" } } }),
    ],
  });
  assert.deepEqual(conversation.turns[0].messages.map(({ role, text }) => [role, text]), [["system", "Be brief."], ["user", "one"], ["assistant", "1"], ["assistant", "calls f({})"]]);
  assert.deepEqual(conversation.turns[0].policy, { verdict: "masked", detail: "cards" });
  assert.deepEqual(conversation.turns.map((turn) => turn.isBranch), [false, false, true]);
  assert.deepEqual([conversation.name, conversation.turns[1].error, conversation.next], ["one", "No.", "n"]);
  assert.equal(conversation.turns[2].messages[1].isRaw, true);
});

test("the next page of a conversation is below the first", () => {
  const first = conversationOf({ user: "ann", data: [row("a", { convo_title: "Titled" })], next_after: "n" });
  const both = conversationOf({ user: "ann", data: [row("b", { parent_id: "a" })], next_after: null }, first);
  assert.deepEqual([both.turns.map((turn) => turn.id), both.next, both.name], [["a", "b"], null, "Titled"]);
  assert.equal(both.turns[1].isBranch, false);
});

test("a turn with any content can be shown", () => {
  for (const odd of [null, 5, "x", [], {}, { messages: 5 }, { choices: [null] }, { output: [null, { content: {} }] }, { error: 5 }]) {
    for (const source of ["chat", "image", "api"]) {
      const data = [row("a", { source, messages: null, request: odd, response: odd }), row("b", { source, messages: [odd, { role: 5, content: 7 }], response: odd })];
      for (const { messages } of conversationOf({ data }).turns) for (const { text, role } of messages) assert.equal(typeof text + typeof role, "stringstring");
    }
  }
  const long = conversationOf({ data: [row("a", { messages: [{ role: "user", content: "x".repeat(60_000) }] })] });
  assert.match(long.turns[0].messages[0].text, /… \(60,000 characters\)$/);
});

/** A gateway with these event streams: each is a response, or a list of events after which it ends. */
function gatewayOf(streams, search = () => Response.json({ data: [row("old")], next_before: null })) {
  const requests = [];
  const encoder = new TextEncoder();
  const send = async (path, { headers, signal }) => {
    requests.push([path.split("?")[0], headers["Last-Event-ID"] ?? null]);
    if (path.startsWith("live/search")) return search(path);
    const events = streams.shift();
    if (events instanceof Response) return events;
    if (events === undefined) return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    return new Response(encoder.encode(events.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join("")));
  };
  return { requests, client: createLiveClient(() => "", send) };
}

async function started(gateway, address = "") {
  const controller = createController(() => {}, { client: gateway.client, address: { read: () => address, write: () => {} }, sleep: async () => {} });
  controller.start();
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  return controller;
}

test("a lost connection continues after the last event", async () => {
  const gateway = gatewayOf([[["begun", { position: 4 }], ["interaction", { ...row("a"), position: 5 }]], [["begun", { position: 5 }], ["interaction", { ...row("b"), position: 6 }]]]);
  const controller = await started(gateway);
  assert.deepEqual(gateway.requests.filter(([path]) => path === "live/events").map(([, position]) => position), [null, "5", "6"]);
  assert.equal(gateway.requests.filter(([path]) => path === "live/search").length, 1);
  assert.equal(controller.state().interactions.map((each) => each.id).join(), "b,a,old");
});

test("missed events start a search", async () => {
  const gateway = gatewayOf([[["begun", { position: 4 }]], [["missed", { position: 90 }]]]);
  await started(gateway);
  assert.equal(gateway.requests.filter(([path]) => path === "live/search").length, 2);
});

test("users who are not auditors, or no longer, see the sign-in, and no request is repeated", async () => {
  const refused = () => Response.json({ error: { message: "only auditors" } }, { status: 403 });
  const gateway = gatewayOf([refused()], refused);
  const controller = await started(gateway);
  assert.deepEqual([controller.state().status, controller.state().error], ["signed_out", "only auditors"]);
  const count = gateway.requests.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(gateway.requests.length, count);
  const ended = await started(gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "invalid_api_key", message: "revoked" }]]]));
  assert.equal(ended.state().status, "signed_out");
});

test("without a sign-in at the gateway, the page says that a link opens it", async () => {
  const refused = () => Response.json({ error: { message: "only auditors", code: "link_needed" } }, { status: 403 });
  const controller = await started(gatewayOf([refused()], refused));
  assert.deepEqual([controller.state().status, controller.state().isLinkNeeded], ["signed_out", true]);
  const ended = await started(gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "link_needed", message: "" }]]]));
  assert.deepEqual([ended.state().status, ended.state().isLinkNeeded], ["signed_out", true]);
});

test("a gateway that shuts down is connected again", async () => {
  const gateway = gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "shutting_down" }]], [["begun", { position: 1 }]]]);
  await started(gateway);
  assert.equal(gateway.requests.filter(([path]) => path === "live/events").length, 3);
});

test("a search for words has no event stream", async () => {
  const gateway = gatewayOf([]);
  const controller = await started(gateway, "?q=rosebud");
  assert.deepEqual(gateway.requests.map(([path]) => path), ["live/search"]);
  assert.equal(controller.state().status, "searching");
  controller.filter({});
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(gateway.requests.at(-1)[0], "live/events");
  controller.filter({ q: "again" });
});

test("a failed search has the gateway's message", async () => {
  const fail = () => Response.json({ error: { message: "narrow it" } }, { status: 400 });
  const controller = await started(gatewayOf([], fail), "?q=x");
  assert.deepEqual([controller.state().search, controller.state().error], ["failed", "narrow it"]);
  const { client } = gatewayOf([], () => Promise.reject(new TypeError("down")));
  await assert.rejects(client.search("", new AbortController().signal), (error) => error instanceof LiveApiError && error.status === 0);
});
