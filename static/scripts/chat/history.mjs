// @ts-check
// The gateway's rows as conversations: for the list, and to go on with. Pure.

import { policyOf, readCompletion, textOf } from "../shared/completions.mjs";
import { emptyChat, shortened, withMessage } from "./chats.mjs";
import { splitThought } from "./markdown.mjs";

/** @typedef {import("./chats.mjs").Chat} Chat */
/** @typedef {import("./chats.mjs").Message} Message */
/** @typedef {{ root: string, title: string, at: number, row: any }} Conversation one of the list */

/**
 * @param {any} row of /history_v2
 * @returns {Conversation}
 */
export function conversationOf(row) {
  const first = messagesIn(row?.request).find((message) => message?.role === "user");
  return {
    root: String(row?.root_gpt_id ?? row?.id),
    title: row?.convo_title || shortened(textOf(first?.content)) || "Untitled",
    at: momentOf(row?.response_time),
    row,
  };
}

/**
 * The conversation of a row, whole: its request holds all that was said before its answer.
 * @param {any} row
 * @param {number} firstId
 * @returns {Chat}
 */
export function chatOf(row, firstId) {
  let chat = { ...emptyChat(), root: String(row?.root_gpt_id ?? row?.id), title: row?.convo_title ?? "" };
  let id = firstId;
  /** @param {Omit<Message, "id" | "parent">} message */
  const add = (message) => {
    chat = withMessage(chat, { ...message, id, parent: chat.leaf });
    id += 1;
  };
  /** @type {string[]} */
  const instructions = [];
  for (const message of messagesIn(row?.request)) {
    const text = textOf(message?.content);
    if (message?.role === "system" || message?.role === "developer") instructions.push(text);
    else if (message?.role === "user" || message?.role === "assistant") {
      const isPlain = typeof message.content === "string" && Object.keys(message).length <= 2;
      const kept = isPlain ? {} : { content: message.role === "user" ? message.content : undefined };
      add({ role: message.role, text: text || namesOfCalls(message), status: "complete", ...kept });
    } else add({ role: "other", text, content: message, status: "complete" });
  }
  add(answerOf(row));
  return { ...chat, instructions: instructions.join("\n\n") };
}

/**
 * @param {any} row
 * @returns {Omit<Message, "id" | "parent">}
 */
function answerOf(row) {
  /** @type {Omit<Message, "id" | "parent">} */
  const answer = { role: "assistant", text: responseText(row?.response), status: "complete", interaction: row?.id, model: row?.model };
  for (const said of readCompletion(row?.response)) {
    if (said.kind === "text") answer.text = said.text;
    else if (said.kind === "thought") answer.thought = said.text;
    else if (said.kind === "usage") answer.usage = said.usage;
    else if (said.kind === "reason") answer.reason = said.reason;
    else if (said.kind === "model") answer.model ??= said.model;
  }
  const { thought, text } = splitThought(answer.text);
  if (thought) Object.assign(answer, { thought, text });
  const policy = policyOf(row?.policy_outcome, row?.policy_rules);
  if (policy) answer.policy = policy;
  if (row?.outcome && row.outcome !== "complete") answer.status = "stopped";
  return answer;
}

/**
 * The words of an answer in the Responses dialect.
 * @param {any} response
 */
function responseText(response) {
  const items = Array.isArray(response?.output) ? response.output : [];
  return items.map((/** @type {any} */ item) => textOf(item?.content)).filter(Boolean).join("\n");
}

/** @param {any} message */
function namesOfCalls(message) {
  const calls = Array.isArray(message?.tool_calls) ? message.tool_calls : [];
  return calls.map((/** @type {any} */ call) => `[calls ${call?.function?.name ?? "a tool"}]`).join("\n");
}

/**
 * @param {any} request of either dialect
 * @returns {any[]}
 */
function messagesIn(request) {
  const given = request?.messages ?? request?.input;
  if (typeof given === "string") return [{ role: "user", content: given }];
  return Array.isArray(given) ? given : [];
}

/**
 * The column is UTC and does not say so.
 * @param {unknown} text
 */
function momentOf(text) {
  const moment = Date.parse(typeof text === "string" && !/(Z|[+-]\d\d:?\d\d)$/.test(text) ? `${text.replace(" ", "T")}Z` : String(text));
  return Number.isNaN(moment) ? 0 : moment;
}

const DAY = 86_400_000;

/**
 * In which part of the list a conversation stands.
 * @param {number} at
 * @param {number} now
 */
export function periodOf(at, now) {
  const today = new Date(now).setHours(0, 0, 0, 0);
  if (at >= today) return "Today";
  if (at >= today - DAY) return "Yesterday";
  if (at >= today - 7 * DAY) return "Last 7 days";
  if (at >= today - 30 * DAY) return "Last 30 days";
  return new Date(at).toLocaleDateString("en", { month: "long", year: "numeric" });
}
