// @ts-check
// Reads the rows of a conversation as turns: messages, outcome, policy result, facts. Pure.

import { contentText, readCompletion, responsesText } from "../shared/completions.mjs";
import { policyResult } from "../shared/outcomes.mjs";
import { parseTimestamp, shorten, stringOf } from "../shared/values.mjs";

/** @typedef {{ role: string, text: string, isRaw?: boolean }} Message `isRaw`: the text is JSON or a body as it is */
/**
 * @typedef {object} Turn
 * @property {string} id
 * @property {number} at
 * @property {string} model
 * @property {string} outcome
 * @property {string} error
 * @property {import("../shared/outcomes.mjs").PolicyResult | null} policy
 * @property {boolean} isBranch its parent is not the turn above it
 * @property {Message[]} messages
 * @property {[string, string][]} facts
 */
/** @typedef {{ user: string, title: string, name: string, root: string, turns: Turn[], next: string | null, error: string }} Conversation `next` is a cursor */

const MAX_LENGTH = 50_000; // characters of a text on the page

/**
 * @param {any} json the response of /live/conversations/…
 * @param {Conversation | null} [previous] the pages before this one
 * @returns {Conversation}
 */
export function conversationOf(json, previous = null) {
  const rows = Array.isArray(json?.data) ? json.data : [];
  let last = previous?.turns.at(-1)?.id ?? null;
  const turns = rows.filter((/** @type {any} */ row) => typeof row?.id === "string").map((/** @type {any} */ row) => {
    const turn = turnOf(row, last);
    last = turn.id;
    return turn;
  });
  const named = rows.findLast((/** @type {any} */ row) => row?.convo_title);
  const question = turns[0]?.messages.find((/** @type {Message} */ each) => each.role === "user" && !each.isRaw)?.text ?? "";
  return {
    user: stringOf(json?.user) || "not known", title: stringOf(rows[0]?.title) || (previous?.title ?? ""),
    name: stringOf(named?.convo_title) || previous?.name || shorten(question), root: stringOf(json?.conversation),
    turns: [...(previous?.turns ?? []), ...turns], next: typeof json?.next_after === "string" ? json.next_after : null, error: "",
  };
}

/** @param {string} error @returns {Conversation} one that cannot be loaded */
export function failedConversation(error) {
  return { user: "", title: "", name: "", root: "", turns: [], next: null, error };
}

/** @param {any} row @param {string | null} last the id of the turn above @returns {Turn} */
function turnOf(row, last) {
  return {
    id: row.id, at: parseTimestamp(row.response_time), model: stringOf(row.model) || stringOf(row.answered_model),
    outcome: stringOf(row.outcome) || "complete", error: stringOf(row.error), policy: policyResult(row.policy_outcome, row.policy_rules),
    isBranch: last !== null && typeof row.parent_id === "string" && row.parent_id !== last,
    messages: [...requestMessages(row), ...answerMessages(row)], facts: factsOf(row),
  };
}

/** @param {any} row @returns {Message[]} */
function requestMessages(row) {
  if (Array.isArray(row.messages)) return row.messages.map(messageOf);
  if (typeof row.request_text === "string") return [{ role: "user", text: truncate(row.request_text), isRaw: true }];
  const { input, prompt } = row.request ?? {};
  if (typeof input === "string" || typeof prompt === "string") return [{ role: "user", text: truncate(input ?? prompt) }];
  if (Array.isArray(input) && row.kind === "response") return input.map(messageOf);
  return rawOf("user", row.request);
}

/** @param {any} row @returns {Message[]} */
function answerMessages(row) {
  if (typeof row.response_text === "string") return [{ role: "assistant", text: truncate(row.response_text), isRaw: true }];
  const { response } = row;
  if (row.source !== "chat" || response?.error) return rawOf("assistant", response);
  /** @type {Message[]} */
  const messages = [];
  for (const each of readCompletion(response)) {
    if (each.kind === "reasoning") messages.push({ role: "reasoning", text: truncate(each.text) });
    if (each.kind === "text") messages.push({ role: "assistant", text: truncate(each.text) });
  }
  const calls = response?.choices?.[0]?.message?.tool_calls;
  if (Array.isArray(calls)) messages.push({ role: "assistant", text: callsOf(calls) });
  const text = responsesText(response);
  if (text) messages.push({ role: "assistant", text: truncate(text) });
  return messages.length > 0 ? messages : rawOf("assistant", response);
}

/** @param {any} message @returns {Message} */
function messageOf(message) {
  const role = stringOf(message?.role) || stringOf(message?.type) || "message";
  const content = contentText(message?.content);
  if (content) return { role, text: truncate(content) };
  if (Array.isArray(message?.tool_calls)) return { role, text: callsOf(message.tool_calls) };
  return { role, text: truncate(jsonOf(message)), isRaw: true };
}

/** @param {any[]} calls */
function callsOf(calls) {
  return calls.map((call) => `calls ${stringOf(call?.function?.name) || "a tool"}(${truncate(stringOf(call?.function?.arguments))})`).join("\n");
}

/** @param {string} role @param {unknown} value @returns {Message[]} */
function rawOf(role, value) {
  return value === null || value === undefined ? [] : [{ role, text: truncate(jsonOf(value)), isRaw: true }];
}

/** @param {any} row @returns {[string, string][]} */
function factsOf(row) {
  /** @type {[string, unknown][]} */
  const facts = [
    ["Kind", row.kind], ["Path", row.path], ["Upstream", row.upstream], ["Status", row.status],
    ["Prompt tokens", row.prompt_tokens], ["Completion tokens", row.completion_tokens],
    ["First token, ms", rounded(row.first_token_ms)], ["Duration, ms", rounded(row.duration_ms)],
    ["Key", row.key_id], ["Request id", row.request_id], ["Interaction", row.id],
  ];
  return facts.filter(([, value]) => typeof value === "string" || typeof value === "number").map(([name, value]) => [name, String(value)]);
}

/** @param {unknown} value */
function rounded(value) {
  return typeof value === "number" ? Math.round(value) : null;
}

/** @param {unknown} value */
function jsonOf(value) {
  return JSON.stringify(value, null, 2) ?? "";
}

/** @param {string} text */
function truncate(text) {
  return text.length <= MAX_LENGTH ? text : `${text.slice(0, MAX_LENGTH)}… (${text.length.toLocaleString("en")} characters)`;
}
