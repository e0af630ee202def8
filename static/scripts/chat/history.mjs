// @ts-check
// Reads the rows of /history_v2: entries of the conversation list, and whole conversations. Pure.

import { contentText, readCompletion, responsesText } from "../shared/completions.mjs";
import { policyResult } from "../shared/outcomes.mjs";
import { parseTimestamp, shorten } from "../shared/values.mjs";
import { appendMessage, emptyChat } from "./chats.mjs";
import { splitReasoning } from "./markdown.mjs";

/** @typedef {import("./chats.mjs").Chat} Chat */
/** @typedef {import("./chats.mjs").Message} Message */
/** @typedef {Omit<Message, "id" | "parent">} MessageFields */
/** @typedef {{ root: string, title: string, at: number, row: any }} Conversation an entry of the list; `at` in milliseconds */

/**
 * @param {any} row
 * @returns {Conversation}
 */
export function conversationOf(row) {
  const first = messagesIn(row?.request).find((message) => message?.role === "user");
  return {
    root: String(row?.root_gpt_id ?? row?.id),
    title: row?.convo_title || shorten(contentText(first?.content)) || "Untitled",
    at: parseTimestamp(row?.response_time),
    row,
  };
}

/**
 * The whole conversation of a row, whose request has all messages before the answer.
 * @param {any} row
 * @param {number} firstId of its messages
 * @returns {Chat}
 */
export function chatOf(row, firstId) {
  /** @type {Chat} */
  let chat = { ...emptyChat(), root: String(row?.root_gpt_id ?? row?.id), title: row?.convo_title ?? "" };
  let id = firstId;
  /** @param {MessageFields} message */
  const add = (message) => {
    chat = appendMessage(chat, { ...message, id, parent: chat.leaf });
    id += 1;
  };
  /** @type {string[]} */
  const instructions = [];
  for (const message of messagesIn(row?.request)) {
    const text = contentText(message?.content);
    if (message?.role === "system" || message?.role === "developer") instructions.push(text);
    else if (message?.role === "user" || message?.role === "assistant") {
      const isPlain = typeof message.content === "string" && Object.keys(message).length <= 2;
      const content = isPlain ? {} : { content: message.role === "user" ? message.content : undefined };
      add({ role: message.role, text: text || toolCallsText(message), status: "complete", ...content });
    } else add({ role: "other", text, content: message, status: "complete" });
  }
  add(answerOf(row));
  return { ...chat, instructions: instructions.join("\n\n") };
}

/**
 * @param {any} row
 * @returns {MessageFields}
 */
function answerOf(row) {
  /** @type {MessageFields} */
  const answer = { role: "assistant", text: responsesText(row?.response), status: "complete", interaction: row?.id, model: row?.model };
  for (const event of readCompletion(row?.response)) {
    if (event.kind === "text") answer.text = event.text;
    else if (event.kind === "reasoning") answer.reasoning = event.text;
    else if (event.kind === "usage") answer.usage = event.usage;
    else if (event.kind === "finish") answer.finishReason = event.reason;
    else if (event.kind === "model") answer.model ??= event.model;
  }
  const { reasoning, text } = splitReasoning(answer.text);
  if (reasoning) Object.assign(answer, { reasoning, text });
  const policy = policyResult(row?.policy_outcome, row?.policy_rules);
  if (policy) answer.policy = policy;
  if (row?.outcome && row.outcome !== "complete") answer.status = "stopped";
  return answer;
}

/** @param {any} message */
function toolCallsText(message) {
  const calls = Array.isArray(message?.tool_calls) ? message.tool_calls : [];
  return calls.map((/** @type {any} */ call) => `[calls ${call?.function?.name ?? "a tool"}]`).join("\n");
}

/**
 * @param {any} request of Chat Completions or Responses
 * @returns {any[]}
 */
function messagesIn(request) {
  const messages = request?.messages ?? request?.input;
  if (typeof messages === "string") return [{ role: "user", content: messages }];
  return Array.isArray(messages) ? messages : [];
}

const DAY = 86_400_000;

/**
 * @param {number} at
 * @param {number} now
 * @returns {string} the heading in the list
 */
export function periodOf(at, now) {
  const today = new Date(now).setHours(0, 0, 0, 0);
  if (at >= today) return "Today";
  if (at >= today - DAY) return "Yesterday";
  if (at >= today - 7 * DAY) return "Last 7 days";
  if (at >= today - 30 * DAY) return "Last 30 days";
  return new Date(at).toLocaleDateString("en", { month: "long", year: "numeric" });
}
