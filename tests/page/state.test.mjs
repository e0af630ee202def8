// The reducer of the chat page: conversation with branches, choices, history, keys.
import assert from "node:assert/strict";
import { test } from "node:test";

import { emptyChat, pathOf, titleOf, variantsOf } from "../../static/scripts/chat/chats.mjs";
import { readPageConfig } from "../../static/scripts/chat/config.mjs";
import { wireMessages } from "../../static/scripts/chat/openai.mjs";
import { reduce } from "../../static/scripts/chat/reducer.mjs";
import { canCreateKeys, canSend, draftOf, initialState, instructionsOf, isStreaming } from "../../static/scripts/chat/state.mjs";

const page = readPageConfig({ gateway: "." });
const configured = { type: "configured", page, endpoint: page.endpoint, hasToken: false };
const listed = { type: "models_listed", ids: ["m"], isDemo: false };
const problem = { title: "t", advice: "a", detail: "" };
const after = (...actions) => [configured, listed, ...actions].reduce(reduce, initialState());
const sent = (text) => ({ type: "sent", text });
const event = (event, seconds = 0) => ({ type: "answer_event", event, seconds });
const text = (text) => event({ kind: "text", text }, 0.5);
const started = (interaction, conversation) => event({ kind: "started", interaction, conversation, policy: null });
const done = { type: "answer_ended", status: "complete", seconds: 1.5 };
const texts = (state) => pathOf(state.chat).map((message) => message.text);

test("nothing is sent before the models are listed, while an answer streams, or if it is empty", () => {
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
  assert.deepEqual(texts(state), ["hello", ""]);
  const other = [{ type: "draft_changed", text: "here" }, { type: "chat_opened", chat: { ...emptyChat(), root: "r" } }].reduce(reduce, after());
  assert.equal(draftOf(other), "");
  assert.equal(draftOf(reduce(other, { type: "new_chat" })), "here");
});

test("an answer grows, is counted, timed and ended; later events change nothing", () => {
  const state = after(sent("hello"), event({ kind: "reasoning", text: "hm" }, 0.2), text("Hi "), text("there"),
    event({ kind: "finish", reason: "stop" }, 1),
    event({ kind: "usage", usage: { prompt: 1, completion: 2 } }, 1), done);
  const answer = pathOf(state.chat).at(-1);
  assert.deepEqual([answer.text, answer.reasoning, answer.finishReason, answer.status, answer.firstSeconds, answer.seconds],
    ["Hi there", "hm", "stop", "complete", 0.2, 1.5]);
  assert.deepEqual(reduce(state, text("late")).chat, state.chat);
});

test("the first answer brings the conversation's id, and each its own", () => {
  const state = after(sent("a"), started("i1", "r"), done, sent("b"), started("i2", "r"), done);
  assert.equal(state.chat.root, "r");
  assert.deepEqual(pathOf(state.chat).map((message) => message.interaction), [undefined, "i1", undefined, "i2"]);
});

test("a second answer to a question is a variant of the first, and both can be selected", () => {
  const state = after(sent("q"), text("one"), done, { type: "retried" }, text("two"), done);
  assert.deepEqual(texts(state), ["q", "two"]);
  const variants = variantsOf(state.chat, state.chat.leaf);
  assert.equal(variants.length, 2);
  assert.deepEqual(texts(reduce(state, { type: "branch_selected", id: variants[0] })), ["q", "one"]);
});

test("the next answer replaces one that failed without content", () => {
  const state = after(sent("q"), { type: "answer_failed", problem, seconds: 1 });
  const retried = reduce(state, { type: "retried" });
  assert.equal(retried.chat.messages.length, 2);
  assert.notEqual(retried.chat.leaf, state.chat.leaf);
});

test("an edited question begins a branch at its parent; the first branch can be selected again, down to its leaf", () => {
  const state = after(sent("a"), text("1"), done, sent("b"), text("2"), done);
  const first = pathOf(state.chat)[0].id;
  const edited = [{ type: "edited", id: first, text: "A" }, text("3"), done].reduce(reduce, state);
  assert.deepEqual(texts(edited), ["A", "3"]);
  assert.deepEqual(texts(reduce(edited, { type: "branch_selected", id: first })), ["a", "1", "b", "2"]);
});

test("empty answers are not sent to the model, and the instructions come first", () => {
  const state = after(sent("one"), { type: "answer_failed", problem, seconds: 1 }, sent("two"));
  const messages = wireMessages("Be kind.", pathOf(state.chat).slice(0, -1));
  assert.deepEqual(messages, [{ role: "system", content: "Be kind." }, { role: "user", content: "one" }, { role: "user", content: "two" }]);
  assert.deepEqual(wireMessages(" ", pathOf(state.chat)).map((each) => each.role), ["user", "user"]);
});

test("instructions are the use case's, the user's, or the conversation's", () => {
  assert.match(instructionsOf(after()), /helpful/);
  assert.match(instructionsOf(after({ type: "use_case_chosen", id: "coding" })), /engineer/);
  const own = after({ type: "instructions_changed", text: "Mine." });
  assert.equal(instructionsOf(own), "Mine.");
  assert.equal(instructionsOf(reduce(own, { type: "chat_opened", chat: { ...emptyChat(), root: "r", instructions: "Theirs." } })), "Theirs.");
  assert.match(instructionsOf(reduce(own, { type: "use_case_chosen", id: "assistant" })), /helpful/);
});

test("a removed parameter is not sent", () => {
  const set = after({ type: "parameter_changed", name: "top_p", value: 0.5 });
  assert.deepEqual(set.choices.values, { top_p: 0.5 });
  assert.deepEqual(reduce(set, { type: "parameter_changed", name: "top_p", value: null }).choices.values, {});
});

test("a conversation that is left while its answer streams is parked", () => {
  const state = after(sent("q"), started("i", "r"), text("half"), { type: "new_chat" });
  assert.equal(isStreaming(state), false);
  const back = reduce(state, { type: "chat_opened", chat: { ...emptyChat(), root: "r" } });
  assert.deepEqual(texts(back), ["q", "half"]);
  assert.equal(isStreaming(back), true);
  assert.deepEqual(back.parked, {});
});

test("pages of the history have no duplicates, and a new search empties the list", () => {
  const row = (root, title) => ({ id: root, root_gpt_id: root, convo_title: title, response_time: "2026-01-01T00:00:00" });
  const one = after({ type: "history_loaded", rows: [row("a", "A"), row("b", "B")], next: "x", isMore: false });
  const two = reduce(one, { type: "history_loaded", rows: [row("b", "B2"), row("c", "C")], next: null, isMore: true });
  assert.deepEqual(two.history.list.map((each) => each.title), ["A", "B2", "C"]);
  assert.deepEqual(reduce(two, { type: "history_requested", query: "z" }).history.list, []);
  assert.equal(reduce(two, { type: "renamed", root: "c", title: "New" }).history.list[2].title, "New");
  assert.equal(reduce(two, { type: "hidden", root: "a" }).history.list.length, 2);
});

test("a conversation has its title, or its first question, shortened", () => {
  assert.equal(titleOf(after(sent("Why  is\nit so?")).chat), "Why is it so?");
  assert.equal(titleOf(after(sent("x".repeat(100))).chat).length, 60);
});

test("states are never changed in place", () => {
  const freeze = (value) => {
    if (value && typeof value === "object" && !Object.isFrozen(value)) Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  const actions = [configured, listed, { type: "model_chosen", model: "m" }, sent("x"), text("y"), { type: "answer_failed", problem, seconds: 1 },
    { type: "retried" }, { type: "answer_recovering" }, { type: "answer_restarted" }, text("z"), { type: "answer_ended", status: "stopped", seconds: 1 },
    { type: "edited", id: 1, text: "w" }, done, { type: "branch_selected", id: 1 }, { type: "history_loaded", rows: [], next: null, isMore: false },
    { type: "dialog_shown", dialog: { kind: "sign_in" } }, { type: "notice_shown", text: "n" }, { type: "parameters_reset" }, { type: "new_chat" }];
  actions.reduce((state, action) => freeze(reduce(freeze(state), action)), initialState());
});

test("the draft stays when a new conversation gets its id", () => {
  const writing = after(sent("hello"), { type: "draft_changed", text: "and then" });
  const state = reduce(writing, started("i", "r"));
  assert.equal(state.chat.root, "r");
  assert.equal(draftOf(state), "and then");
  assert.equal(draftOf(reduce(state, { type: "new_chat" })), "");
});

test("a new key is in the state only while its dialog is open, and only users who are signed in can create one", () => {
  const created = { value: "sk-gw-x", expiresAt: 1, baseUrl: "http://g/v1" };
  const open = after({ type: "dialog_shown", dialog: { kind: "keys" } }, { type: "key_created", created });
  assert.equal(open.keys.created, created);
  assert.equal(JSON.stringify(reduce(open, { type: "dialog_shown", dialog: null })).includes("sk-gw-x"), false);
  const given = (auth, hasToken) => {
    const config = readPageConfig({ gateway: ".", auth, own_keys_s: 60 });
    return [{ type: "configured", page: config, endpoint: config.endpoint, hasToken }, listed].reduce(reduce, initialState());
  };
  assert.equal(canCreateKeys(given(["keys", "header"], false)), true);
  assert.equal(canCreateKeys(given(["keys", "jwt"], true)), true);
  assert.equal(canCreateKeys(given(["keys", "open"], false)), false);
  assert.equal(canCreateKeys(reduce(given(["keys"], true), { type: "models_refused" })), false);
  assert.equal(canCreateKeys(after()), false);
});
