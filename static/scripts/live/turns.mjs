// @ts-check
// A conversation as an auditor reads it: who said what in each turn, how it ended, what the policy did. Pure.

import { policyOf, readCompletion, textOf } from "../shared/completions.mjs";
import { shortened as titleFrom } from "../chat/chats.mjs";
import { momentOf } from "./state.mjs";

/** @typedef {{ role: string, text: string, isRaw?: boolean }} Said */
/**
 * @typedef {object} Turn
 * @property {string} id
 * @property {number} at
 * @property {string} model
 * @property {string} outcome
 * @property {string} error
 * @property {import("../shared/completions.mjs").Policy | null} policy
 * @property {boolean} isBranch it goes on from an earlier turn than the one above it
 * @property {Said[]} said
 * @property {[string, string][]} facts
 */
/** @typedef {{ user: string, title: string, name: string, root: string, turns: Turn[], next: string | null, fault: string }} Conversation */

const MOST_CHARACTERS = 50_000; // of one text on the page

/**
 * @param {any} answer of /live/conversations/…
 * @param {Conversation | null} [before] the pages before this one
 * @returns {Conversation}
 */
export function conversationOf(answer, before = null) {
  const rows = Array.isArray(answer?.data) ? answer.data : [];
  let last = before?.turns.at(-1)?.id ?? null;
  const turns = rows.filter((/** @type {any} */ row) => typeof row?.id === "string").map((/** @type {any} */ row) => {
    const turn = turnOf(row, last);
    last = turn.id;
    return turn;
  });
  const named = rows.findLast((/** @type {any} */ row) => row?.convo_title);
  const question = turns[0]?.said.find((/** @type {Said} */ each) => each.role === "user" && !each.isRaw)?.text ?? "";
  return {
    user: text(answer?.user) || "not known", title: text(rows[0]?.title) || (before?.title ?? ""),
    name: text(named?.convo_title) || before?.name || titleFrom(question), root: text(answer?.conversation),
    turns: [...(before?.turns ?? []), ...turns], next: typeof answer?.next_after === "string" ? answer.next_after : null, fault: "",
  };
}

/** @param {string} fault @returns {Conversation} one that cannot be had */
export function noConversation(fault) {
  return { user: "", title: "", name: "", root: "", turns: [], next: null, fault };
}

/** @param {any} row @param {string | null} last the turn above @returns {Turn} */
function turnOf(row, last) {
  return {
    id: row.id, at: momentOf(row.response_time), model: text(row.model) || text(row.answered_model),
    outcome: text(row.outcome) || "complete", error: text(row.error), policy: policyOf(row.policy_outcome, row.policy_rules),
    isBranch: last !== null && typeof row.parent_id === "string" && row.parent_id !== last,
    said: [...askedIn(row), ...answeredIn(row)], facts: factsOf(row),
  };
}

/** @param {any} row @returns {Said[]} */
function askedIn(row) {
  if (Array.isArray(row.messages)) return row.messages.map(messageOf);
  if (typeof row.request_text === "string") return [{ role: "user", text: shortened(row.request_text), isRaw: true }];
  const { input, prompt } = row.request ?? {};
  if (typeof input === "string" || typeof prompt === "string") return [{ role: "user", text: shortened(input ?? prompt) }];
  if (Array.isArray(input) && row.kind === "response") return input.map(messageOf);
  return rawOf("user", row.request);
}

/** @param {any} row @returns {Said[]} */
function answeredIn(row) {
  if (typeof row.response_text === "string") return [{ role: "assistant", text: shortened(row.response_text), isRaw: true }];
  const { response } = row;
  if (row.source !== "chat" || response?.error) return rawOf("assistant", response);
  /** @type {Said[]} */
  const said = [];
  for (const each of readCompletion(response)) {
    if (each.kind === "thought") said.push({ role: "reasoning", text: shortened(each.text) });
    if (each.kind === "text") said.push({ role: "assistant", text: shortened(each.text) });
  }
  const calls = response?.choices?.[0]?.message?.tool_calls;
  if (Array.isArray(calls)) said.push({ role: "assistant", text: callsOf(calls) });
  const items = Array.isArray(response?.output) ? response.output : [];
  const words = items.map((/** @type {any} */ item) => textOf(item?.content)).filter(Boolean).join("\n");
  if (words) said.push({ role: "assistant", text: shortened(words) });
  return said.length > 0 ? said : rawOf("assistant", response);
}

/** @param {any} message @returns {Said} */
function messageOf(message) {
  const role = text(message?.role) || text(message?.type) || "message";
  const words = textOf(message?.content);
  if (words) return { role, text: shortened(words) };
  if (Array.isArray(message?.tool_calls)) return { role, text: callsOf(message.tool_calls) };
  return { role, text: shortened(jsonOf(message)), isRaw: true };
}

/** @param {any[]} calls */
function callsOf(calls) {
  return calls.map((call) => `calls ${text(call?.function?.name) || "a tool"}(${shortened(text(call?.function?.arguments))})`).join("\n");
}

/** @param {string} role @param {unknown} value @returns {Said[]} */
function rawOf(role, value) {
  return value === null || value === undefined ? [] : [{ role, text: shortened(jsonOf(value)), isRaw: true }];
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

/** @param {string} long */
function shortened(long) {
  return long.length <= MOST_CHARACTERS ? long : `${long.slice(0, MOST_CHARACTERS)}… (${long.length.toLocaleString("en")} characters)`;
}

/** @param {unknown} value */
function text(value) {
  return typeof value === "string" ? value : "";
}
