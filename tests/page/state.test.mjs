// How the page's state changes: the conversation with its branches, choices, history.
import assert from "node:assert/strict";
import { test } from "node:test";

import { wireMessages } from "../../static/scripts/shared/completions.mjs";
import { emptyChat, pathOf, titleOf, variantsOf } from "../../static/scripts/chat/chats.mjs";
import { readPageConfig } from "../../static/scripts/chat/config.mjs";
import { canMakeKeys, canRetry, canSend, draftOf, initialState, instructionsOf, isStreaming, reduce } from "../../static/scripts/chat/state.mjs";

const page = readPageConfig({ gateway: "." });
const there = { type: "page_known", page, place: page.place, hasToken: false };
const known = { type: "models_known", ids: ["m"], isDemo: false };
const problem = { title: "t", advice: "a", detail: "" };
const after = (...actions) => [there, known, ...actions].reduce(reduce, initialState());
const sent = (text) => ({ type: "sent", text });
const heard = (text) => ({ type: "said", said: { kind: "text", text }, seconds: 0.5 });
const done = { type: "ended", status: "complete", seconds: 1.5 };
const words = (state) => pathOf(state.chat).map((message) => message.text);

test("nothing is sent before the models are known, while an answer streams, or when there is nothing to say", () => {
  assert.equal(canSend(initialState(), "hello"), false);
  assert.equal(canSend(after(), "hello"), true);
  assert.equal(canSend(after(), " \n"), false);
  assert.equal(canSend(after({ type: "models_refused" }), "hello"), false);
  const streaming = after(sent("hello"));
  assert.equal(isStreaming(streaming), true);
  assert.equal(reduce(streaming, sent("again")), streaming);
});

test("sending empties the draft and begins an answer; each conversation has a draft of its own", () => {
  const state = after({ type: "draft_changed", text: " hello " }, sent(" hello "));
  assert.equal(draftOf(state), "");
  assert.deepEqual(words(state), ["hello", ""]);
  const other = [{ type: "draft_changed", text: "here" }, { type: "opened", chat: { ...emptyChat(), root: "r" } }].reduce(reduce, after());
  assert.equal(draftOf(other), "");
  assert.equal(draftOf(reduce(other, { type: "reset" })), "here");
});

test("an answer grows, is counted, timed and ended; later news change nothing", () => {
  const state = after(sent("hello"), { type: "said", said: { kind: "thought", text: "hm" }, seconds: 0.2 }, heard("Hi "), heard("there"),
    { type: "said", said: { kind: "reason", reason: "stop" }, seconds: 1 },
    { type: "said", said: { kind: "usage", usage: { prompt: 1, completion: 2 } }, seconds: 1 }, done);
  const answer = pathOf(state.chat).at(-1);
  assert.deepEqual([answer.text, answer.thought, answer.reason, answer.status, answer.firstSeconds, answer.seconds],
    ["Hi there", "hm", "stop", "complete", 0.2, 1.5]);
  assert.deepEqual(reduce(state, heard("late")).chat, state.chat);
});

test("the first answer brings the conversation's id, and each its own", () => {
  const begun = (interaction, conversation) => ({ type: "said", said: { kind: "begun", interaction, conversation, policy: null }, seconds: 0 });
  const state = after(sent("a"), begun("i1", "r"), done, sent("b"), begun("i2", "r"), done);
  assert.equal(state.chat.root, "r");
  assert.deepEqual(pathOf(state.chat).map((message) => message.interaction), [undefined, "i1", undefined, "i2"]);
});

test("another answer to a question stands beside the first, and one can turn between them", () => {
  const state = after(sent("q"), heard("one"), done, { type: "retried" }, heard("two"), done);
  assert.deepEqual(words(state), ["q", "two"]);
  const variants = variantsOf(state.chat, state.chat.leaf);
  assert.equal(variants.length, 2);
  assert.deepEqual(words(reduce(state, { type: "turned", id: variants[0] })), ["q", "one"]);
});

test("an answer that failed before its first word gives its place to the next", () => {
  const state = after(sent("q"), { type: "failed", problem, seconds: 1 });
  assert.equal(canRetry(state), true);
  const retried = reduce(state, { type: "retried" });
  assert.equal(retried.chat.messages.length, 2);
  assert.notEqual(retried.chat.leaf, state.chat.leaf);
});

test("an edited question begins a branch from where the first stood; turning back shows the whole first branch", () => {
  const state = after(sent("a"), heard("1"), done, sent("b"), heard("2"), done);
  const first = pathOf(state.chat)[0].id;
  const edited = [{ type: "edited", id: first, text: "A" }, heard("3"), done].reduce(reduce, state);
  assert.deepEqual(words(edited), ["A", "3"]);
  assert.deepEqual(words(reduce(edited, { type: "turned", id: first })), ["a", "1", "b", "2"]);
});

test("answers of which nothing arrived do not go to the model, and the instructions come first", () => {
  const state = after(sent("one"), { type: "failed", problem, seconds: 1 }, sent("two"));
  const messages = wireMessages("Be kind.", pathOf(state.chat).slice(0, -1));
  assert.deepEqual(messages, [{ role: "system", content: "Be kind." }, { role: "user", content: "one" }, { role: "user", content: "two" }]);
  assert.deepEqual(wireMessages(" ", pathOf(state.chat)).map((each) => each.role), ["user", "user"]);
});

test("instructions are the use case's, one's own, or the conversation's", () => {
  assert.match(instructionsOf(after()), /helpful/);
  assert.match(instructionsOf(after({ type: "use_case_chosen", id: "coding" })), /engineer/);
  const own = after({ type: "instructions_changed", text: "Mine." });
  assert.equal(instructionsOf(own), "Mine.");
  assert.equal(instructionsOf(reduce(own, { type: "opened", chat: { ...emptyChat(), root: "r", instructions: "Theirs." } })), "Theirs.");
  assert.match(instructionsOf(reduce(own, { type: "use_case_chosen", id: "assistant" })), /helpful/);
});

test("a value that is taken back is not sent", () => {
  const set = after({ type: "value_changed", name: "top_p", value: 0.5 });
  assert.deepEqual(set.choices.values, { top_p: 0.5 });
  assert.deepEqual(reduce(set, { type: "value_changed", name: "top_p", value: null }).choices.values, {});
});

test("a conversation that is left in mid-answer is found again as it was", () => {
  const begun = { type: "said", said: { kind: "begun", interaction: "i", conversation: "r", policy: null }, seconds: 0 };
  const state = after(sent("q"), begun, heard("half"), { type: "reset" });
  assert.equal(isStreaming(state), false);
  const back = reduce(state, { type: "opened", chat: { ...emptyChat(), root: "r" } });
  assert.deepEqual(words(back), ["q", "half"]);
  assert.equal(isStreaming(back), true);
  assert.deepEqual(back.parked, {});
});

test("pages of the history join without doubles, and a new search begins anew", () => {
  const row = (root, title) => ({ id: root, root_gpt_id: root, convo_title: title, response_time: "2026-01-01T00:00:00" });
  const one = after({ type: "history_known", rows: [row("a", "A"), row("b", "B")], next: "x", isMore: false });
  const two = reduce(one, { type: "history_known", rows: [row("b", "B2"), row("c", "C")], next: null, isMore: true });
  assert.deepEqual(two.history.list.map((each) => each.title), ["A", "B2", "C"]);
  assert.deepEqual(reduce(two, { type: "history_asked", query: "z" }).history.list, []);
  assert.equal(reduce(two, { type: "renamed", root: "c", title: "New" }).history.list[2].title, "New");
  assert.equal(reduce(two, { type: "hidden", root: "a" }).history.list.length, 2);
});

test("a conversation is named by its title, or by its first question, cut short", () => {
  assert.equal(titleOf(after(sent("Why  is\nit so?")).chat), "Why is it so?");
  assert.equal(titleOf(after(sent("x".repeat(100))).chat).length, 60);
});

test("states are never changed in place", () => {
  const freeze = (value) => {
    if (value && typeof value === "object" && !Object.isFrozen(value)) Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  const actions = [there, known, { type: "model_chosen", model: "m" }, sent("x"), heard("y"), { type: "failed", problem, seconds: 1 },
    { type: "retried" }, { type: "recovering" }, { type: "restarted" }, heard("z"), { type: "ended", status: "stopped", seconds: 1 },
    { type: "edited", id: 1, text: "w" }, done, { type: "turned", id: 1 }, { type: "history_known", rows: [], next: null, isMore: false },
    { type: "dialog", dialog: { kind: "sign_in" } }, { type: "noticed", text: "n" }, { type: "values_reset" }, { type: "reset" }];
  actions.reduce((state, action) => freeze(reduce(freeze(state), action)), initialState());
});

test("what is written while a new conversation gets its id stays where it is", () => {
  const writing = after(sent("hello"), { type: "draft_changed", text: "and then" });
  const begun = reduce(writing, { type: "said", said: { kind: "begun", interaction: "i", conversation: "r", policy: null }, seconds: 0 });
  assert.equal(begun.chat.root, "r");
  assert.equal(draftOf(begun), "and then");
  assert.equal(draftOf(reduce(begun, { type: "reset" })), "");
});

test("a key is known as long as its dialog is open, and can be made by who is signed in alone", () => {
  const made = { value: "sk-gw-x", expiresAt: 1, baseUrl: "http://g/v1" };
  const open = after({ type: "dialog", dialog: { kind: "keys" } }, { type: "key_made", made });
  assert.equal(open.keys.made, made);
  assert.equal(JSON.stringify(reduce(open, { type: "dialog", dialog: null })).includes("sk-gw-x"), false);
  const given = (auth, hasToken) => {
    const config = readPageConfig({ gateway: ".", auth, own_keys_s: 60 });
    return [{ type: "page_known", page: config, place: config.place, hasToken }, known].reduce(reduce, initialState());
  };
  assert.equal(canMakeKeys(given(["keys", "header"], false)), true);
  assert.equal(canMakeKeys(given(["keys", "jwt"], true)), true);
  assert.equal(canMakeKeys(given(["keys", "open"], false)), false);
  assert.equal(canMakeKeys(reduce(given(["keys"], true), { type: "models_refused" })), false);
  assert.equal(canMakeKeys(after()), false);
});
