// @ts-check
// A conversation as a tree of messages. An edited question or a second answer to a question begins a branch. Pure.

import { shorten } from "../shared/values.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("../shared/completions.mjs").Usage} Usage */
/** @typedef {import("../shared/outcomes.mjs").PolicyResult} PolicyResult */

/**
 * @typedef {object} Message
 * @property {number} id ascending: a later branch has a higher one
 * @property {number | null} parent
 * @property {"user" | "assistant" | "other"} role
 * @property {string} text
 * @property {unknown} [content] for the request, if it is more than the text
 * @property {"complete" | "streaming" | "stopped" | "failed"} status
 * @property {"recovering"} [phase] the connection was cut, and the page looks for the rest of the answer
 * @property {string} [reasoning]
 * @property {string} [model]
 * @property {string} [finishReason]
 * @property {Usage} [usage]
 * @property {number} [firstSeconds] from the request to the first token
 * @property {number} [seconds] from the request to the end
 * @property {Problem} [problem]
 * @property {PolicyResult} [policy]
 * @property {string} [interaction] the gateway's id of the answer
 */

/**
 * @typedef {object} Chat
 * @property {string | null} root the gateway's id of the conversation; null until its first answer starts
 * @property {string} title empty: the first question is the title
 * @property {string | null} instructions of a conversation from the history; null: the current choice
 * @property {Message[]} messages of all branches
 * @property {number | null} leaf the last message of the selected branch
 * @property {string | null} pending the body of the running request
 */

/** @returns {Chat} */
export function emptyChat() {
  return { root: null, title: "", instructions: null, messages: [], leaf: null, pending: null };
}

/**
 * @param {Chat} chat
 * @returns {Message[]} the selected branch, from its beginning
 */
export function pathOf(chat) {
  const byId = new Map(chat.messages.map((message) => [message.id, message]));
  const path = [];
  for (let at = chat.leaf; at !== null; ) {
    const message = byId.get(at);
    if (!message) break;
    path.push(message);
    at = message.parent;
  }
  return path.reverse();
}

/**
 * @param {Chat} chat
 * @param {Message} message
 * @returns {Chat}
 */
export function appendMessage(chat, message) {
  return { ...chat, messages: [...chat.messages, message], leaf: message.id };
}

/**
 * The messages of the same role and parent, oldest first.
 * @param {Chat} chat
 * @param {number} id
 * @returns {number[]}
 */
export function variantsOf(chat, id) {
  const own = chat.messages.find((message) => message.id === id);
  if (!own) return [];
  return chat.messages.filter((each) => each.parent === own.parent && each.role === own.role).map((each) => each.id);
}

/**
 * Selects the branch of a message, down to its latest leaf.
 * @param {Chat} chat
 * @param {number} id
 * @returns {Chat}
 */
export function selectBranch(chat, id) {
  let leaf = id;
  for (;;) {
    const next = chat.messages.filter((message) => message.parent === leaf).at(-1);
    if (!next) return { ...chat, leaf };
    leaf = next.id;
  }
}

/** @param {Chat} chat */
export function lastMessage(chat) {
  return chat.messages.find((message) => message.id === chat.leaf);
}

/** @param {Chat} chat @returns {Message | undefined} the answer that streams */
export function streamingAnswer(chat) {
  return chat.messages.findLast((message) => message.status === "streaming");
}

/** @param {Chat} chat */
export function isAnswering(chat) {
  return streamingAnswer(chat) !== undefined;
}

/**
 * Changes the answer that streams. Without one, the chat stays as it is: late events have no effect.
 * @param {Chat} chat
 * @param {(answer: Message) => Message} change
 * @returns {Chat}
 */
export function updateAnswer(chat, change) {
  const answer = streamingAnswer(chat);
  if (!answer) return chat;
  const changed = change(answer);
  const messages = chat.messages.map((message) => (message === answer ? changed : message));
  return { ...chat, messages, pending: changed.status === "streaming" ? chat.pending : null };
}

/**
 * @param {Chat} chat
 * @returns {string}
 */
export function titleOf(chat) {
  return chat.title || shorten(pathOf(chat).find((message) => message.role === "user")?.text ?? "");
}
