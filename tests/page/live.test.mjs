// What the live page knows, how that changes, and how it follows what comes.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createController } from "../../static/scripts/live/controller.mjs";
import { addressOf, firstState, lineOf, pageOf, queryOf, readAddress, reduce, secondsText, standingText, timeOf, underwayOf } from "../../static/scripts/live/state.mjs";
import { createLog, Refusal } from "../../static/scripts/live/client.mjs";
import { conversationOf } from "../../static/scripts/live/turns.mjs";

const row = (id, more = {}) => ({ id, source: "chat", kind: "chat", response_time: "2026-01-31T09:30:00", user_name: "ann", outcome: "complete", ...more });
const line = (id, more) => lineOf(row(id, more));
const ids = (lines) => lines.map((each) => each.id).join("");
const after = (...actions) => actions.reduce(reduce, firstState({}, null));
const arrived = (id, more) => ({ type: "arrived", line: line(id, more) });
const found = (...list) => ({ type: "found", page: { lines: list.map((id) => line(id)), next: "later" }, isMore: false });

test("what comes stands above what was found, each once", () => {
  const state = after(arrived("c"), found("c", "b", "a"), arrived("d"), arrived("b"));
  assert.equal(ids(state.lines), "dcba");
  assert.equal(state.next, "later");
});

test("what comes waits while the reader has paused or scrolled, in order", () => {
  const paused = after(found("a"), { type: "paused", isPaused: true }, arrived("b"), arrived("c"));
  assert.deepEqual([ids(paused.lines), ids(paused.waiting)], ["a", "cb"]);
  assert.equal(ids(reduce(paused, { type: "paused", isPaused: false }).lines), "cba");
  const scrolled = after(found("a"), { type: "scrolled", isScrolled: true }, arrived("b"));
  assert.equal(ids(scrolled.waiting), "b");
  assert.equal(ids(reduce(scrolled, { type: "scrolled", isScrolled: false }).lines), "ba");
  assert.equal(ids(reduce(scrolled, { type: "revealed" }).lines), "ba");
});

test("older ones go below, and a search anew finds what was missed", () => {
  const more = reduce(after(found("b")), { type: "found", page: { lines: [line("a")], next: null }, isMore: true });
  assert.deepEqual([ids(more.lines), more.next], ["ba", null]);
  const newer = { lines: [line("z", { response_time: "2026-02-01T00:00:00" }), line("b")], next: "x" };
  assert.equal(ids(reduce(more, { type: "found", page: newer, isMore: false }).lines), "zba");
});

test("one that ended long ago and comes only now is said to be late", () => {
  const state = after(found("a"), arrived("b", { response_time: "2026-01-31T08:00:00" }), arrived("c"));
  assert.deepEqual(state.lines.map((each) => each.isLate), [false, true, false]);
});

test("what is being answered is known as long as the gateway is heard, by its clock", () => {
  const told = { now: 1000, data: [{ id: "a", user_name: "ann", model: "m", started_at: 958.5 }, { id: "b", user_name: "bob", model: "", path: "/v1/files", started_at: 2000 }] };
  const underway = underwayOf(told, 5_000_000);
  assert.deepEqual(underway.map(({ user, model, since }) => [user, model, since]), [["ann", "m", 4_958_500], ["bob", "/v1/files", 5_000_000]]);
  const heard = after({ type: "standing", standing: "live" }, { type: "underway", underway });
  assert.equal(reduce(heard, { type: "standing", standing: "away" }).underway, underway);
  for (const standing of ["lost", "connecting", "searching", "signed_out"]) assert.deepEqual(reduce(heard, { type: "standing", standing }).underway, []);
  assert.deepEqual(reduce(heard, { type: "wanted", wanted: {} }).underway, []);
  assert.deepEqual([0, 999, 59_999, 60_000, 754_000, -5].map(secondsText), ["0 s", "0 s", "59 s", "1:00 min", "12:34 min", "0 s"]);
  for (const odd of [null, 5, {}, { data: {} }, { data: [null, 5, {}, { id: 5 }] }]) assert.deepEqual(underwayOf(odd, 0), []);
  assert.deepEqual(underwayOf({ data: [{ id: "x", user_name: [], model: {}, started_at: "y" }] }, 7), [{ id: "x", user: "", title: "", model: "", since: 7 }]);
});

test("other wishes begin anew, and an answer to earlier ones opens nothing", () => {
  assert.equal(ids(after(found("a"), { type: "wanted", wanted: { user: "bob" } }).lines), "");
  const state = after({ type: "opened", id: "b" }, { type: "conversation", id: "a", conversation: conversationOf({}) });
  assert.equal(state.conversation, null);
});

test("hostile rows are no lines, or harmless ones", () => {
  for (const odd of [null, undefined, 5, "x", [], {}, { id: 5 }]) assert.equal(lineOf(odd), null);
  const odd = lineOf({ id: "x", response_time: {}, user_name: 5, asked: ["<b>"], policy_outcome: {}, policy_rules: 7, duration_ms: "1", outcome: null });
  assert.deepEqual([odd.at, odd.user, odd.asked, odd.policy, odd.seconds, odd.outcome], [0, "", "", null, null, "complete"]);
  assert.equal(timeOf(0, Date.now()), "–");
  assert.deepEqual(pageOf({ data: [null, row("a")], next_before: 5 }).lines.map((each) => each.id), ["a"]);
  for (const none of [null, 5, {}, { data: {} }]) assert.deepEqual(pageOf(none).lines, []);
});

test("what is wanted stands in the address and comes back from it", () => {
  const wanted = { user: "a&b=c", policy: "any" };
  assert.deepEqual(readAddress(addressOf(wanted, "id/1")), { wanted, open: "id/1" });
  assert.equal(addressOf({}, null), "");
  assert.deepEqual(readAddress("?user=%20&other=x&open="), { wanted: {}, open: null });
});

test("a day is the reader's own, and nonsense is not asked", () => {
  assert.equal(new URLSearchParams(queryOf({ from: "2026-01-31" })).get("from"), new Date("2026-01-31T00:00").toISOString());
  assert.equal(queryOf({ from: "x", user: "ann" }, { before: "m" }), "user=ann&before=m");
});

test("a pause is said as long as there is something to pause", () => {
  assert.equal(standingText(after({ type: "standing", standing: "live" }, { type: "paused", isPaused: true })), "Paused");
  assert.match(standingText(after({ type: "standing", standing: "away" }, { type: "paused", isPaused: true })), /away/);
});

test("a conversation shows who said what, with what the policy did, and where it branches", () => {
  const said = (text) => ({ choices: [{ message: { role: "assistant", content: text, tool_calls: [{ function: { name: "f", arguments: "{}" } }] } }] });
  const conversation = conversationOf({
    user: "ann", conversation: "r", next_after: "n",
    data: [
      row("a", { messages: [{ role: "system", content: "Be brief." }, { role: "user", content: [{ type: "text", text: "one" }] }], response: said("1"), policy_outcome: "masked", policy_rules: ["cards"] }),
      row("b", { parent_id: "a", messages: [{ role: "user", content: "two" }], response: null, outcome: "policy_blocked", error: "No." }),
      row("c", { parent_id: "a", messages: [{ role: "tool", content: "7" }], response: { error: { message: "x" } } }),
    ],
  });
  assert.deepEqual(conversation.turns[0].said.map(({ role, text }) => [role, text]), [["system", "Be brief."], ["user", "one"], ["assistant", "1"], ["assistant", "calls f({})"]]);
  assert.deepEqual(conversation.turns[0].policy, { verdict: "masked", detail: "cards" });
  assert.deepEqual(conversation.turns.map((turn) => turn.isBranch), [false, false, true]);
  assert.deepEqual([conversation.name, conversation.turns[1].error, conversation.next], ["one", "No.", "n"]);
  assert.equal(conversation.turns[2].said[1].isRaw, true);
});

test("the next page of a conversation goes below the first", () => {
  const first = conversationOf({ user: "ann", data: [row("a", { convo_title: "Titled" })], next_after: "n" });
  const both = conversationOf({ user: "ann", data: [row("b", { parent_id: "a" })], next_after: null }, first);
  assert.deepEqual([both.turns.map((turn) => turn.id), both.next, both.name], [["a", "b"], null, "Titled"]);
  assert.equal(both.turns[1].isBranch, false);
});

test("whatever a turn holds, it can be shown", () => {
  for (const odd of [null, 5, "x", [], {}, { messages: 5 }, { choices: [null] }, { output: [null, { content: {} }] }, { error: 5 }]) {
    for (const source of ["chat", "image", "api"]) {
      const data = [row("a", { source, messages: null, request: odd, response: odd }), row("b", { source, messages: [odd, { role: 5, content: 7 }], response: odd })];
      for (const { said } of conversationOf({ data }).turns) for (const { text, role } of said) assert.equal(typeof text + typeof role, "stringstring");
    }
  }
  const long = conversationOf({ data: [row("a", { messages: [{ role: "user", content: "x".repeat(60_000) }] })] });
  assert.match(long.turns[0].said[0].text, /… \(60,000 characters\)$/);
});

/** A gateway that says these: each watch is a list of events, after which its stream ends. */
function gatewayOf(watches, search = () => Response.json({ data: [row("old")], next_before: null })) {
  const asked = [];
  const encoder = new TextEncoder();
  const send = async (path, { headers, signal }) => {
    asked.push([path.split("?")[0], headers["Last-Event-ID"] ?? null]);
    if (path.startsWith("live/search")) return search(path);
    const events = watches.shift();
    if (events instanceof Response) return events;
    if (events === undefined) return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    return new Response(encoder.encode(events.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join("")));
  };
  return { asked, log: createLog(() => "", send) };
}

async function started(gateway, address = "") {
  const controller = createController(() => {}, { log: gateway.log, address: { read: () => address, write: () => {} }, sleep: async () => {} });
  controller.start();
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  return controller;
}

test("a connection that is lost goes on where it was", async () => {
  const gateway = gatewayOf([[["begun", { position: 4 }], ["interaction", { ...row("a"), position: 5 }]], [["begun", { position: 5 }], ["interaction", { ...row("b"), position: 6 }]]]);
  const controller = await started(gateway);
  assert.deepEqual(gateway.asked.filter(([path]) => path === "live/events").map(([, seen]) => seen), [null, "5", "6"]);
  assert.equal(gateway.asked.filter(([path]) => path === "live/search").length, 1);
  assert.equal(controller.state().lines.map((each) => each.id).join(), "b,a,old");
});

test("what was missed is looked for in the log", async () => {
  const gateway = gatewayOf([[["begun", { position: 4 }]], [["missed", { position: 90 }]]]);
  await started(gateway);
  assert.equal(gateway.asked.filter(([path]) => path === "live/search").length, 2);
});

test("who is no auditor, or no longer one, is asked to sign in, and nothing is asked again", async () => {
  const refused = () => Response.json({ error: { message: "only auditors" } }, { status: 403 });
  const gateway = gatewayOf([refused()], refused);
  const controller = await started(gateway);
  assert.deepEqual([controller.state().standing, controller.state().fault], ["signed_out", "only auditors"]);
  const asked = gateway.asked.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(gateway.asked.length, asked);
  const ended = await started(gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "invalid_api_key", message: "revoked" }]]]));
  assert.equal(ended.state().standing, "signed_out");
});

test("where nobody logs in, the page says that a link opens it", async () => {
  const refused = () => Response.json({ error: { message: "only auditors", code: "link_needed" } }, { status: 403 });
  const controller = await started(gatewayOf([refused()], refused));
  assert.deepEqual([controller.state().standing, controller.state().isLinkNeeded], ["signed_out", true]);
  const ended = await started(gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "link_needed", message: "" }]]]));
  assert.deepEqual([ended.state().standing, ended.state().isLinkNeeded], ["signed_out", true]);
});

test("a gateway that stops is asked again", async () => {
  const gateway = gatewayOf([[["begun", { position: 1 }], ["ended", { position: 1, code: "shutting_down" }]], [["begun", { position: 1 }]]]);
  await started(gateway);
  assert.equal(gateway.asked.filter(([path]) => path === "live/events").length, 3);
});

test("while words are looked for, nothing is followed", async () => {
  const gateway = gatewayOf([]);
  const controller = await started(gateway, "?q=rosebud");
  assert.deepEqual(gateway.asked.map(([path]) => path), ["live/search"]);
  assert.equal(controller.state().standing, "searching");
  controller.want({});
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(gateway.asked.at(-1)[0], "live/events");
  controller.want({ q: "again" });
});

test("a search that fails says why in the gateway's own words", async () => {
  const fail = () => Response.json({ error: { message: "narrow it" } }, { status: 400 });
  const controller = await started(gatewayOf([], fail), "?q=x");
  assert.deepEqual([controller.state().search, controller.state().fault], ["failed", "narrow it"]);
  const { log } = gatewayOf([], () => Promise.reject(new TypeError("down")));
  await assert.rejects(log.search("", new AbortController().signal), (error) => error instanceof Refusal && error.status === 0);
});
