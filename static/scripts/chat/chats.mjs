// @ts-check
// A conversation as a tree: a question that is edited, or an answer that is asked for again, begins a branch. Pure.

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("../shared/completions.mjs").Usage} Usage */
/** @typedef {import("../shared/completions.mjs").Policy} Policy */

/**
 * @typedef {object} Message
 * @property {number} id ascending; a later branch has the higher one
 * @property {number | null} parent
 * @property {"user" | "assistant" | "other"} role
 * @property {string} text
 * @property {unknown} [content] as it goes to the model, where that is more than the text
 * @property {"complete" | "streaming" | "stopped" | "failed"} status
 * @property {"recovering"} [phase] of an answer that is looked for after its connection was cut
 * @property {string} [thought] what the model said of its reasoning
 * @property {string} [model]
 * @property {string} [reason] why the model stopped
 * @property {Usage} [usage]
 * @property {number} [firstSeconds] from sending to the first word
 * @property {number} [seconds] from sending to the end
 * @property {Problem} [problem]
 * @property {Policy} [policy] what the company's policy did to it
 * @property {string} [interaction] the gateway's id of it
 */

/**
 * @typedef {object} Chat
 * @property {string | null} root the gateway's id of the conversation; null before the first answer has begun
 * @property {string} title empty: named by its first question
 * @property {string | null} instructions of a conversation that was found with its own; null: as is chosen now
 * @property {Message[]} messages of all branches
 * @property {number | null} leaf the last message of the branch that is shown
 * @property {string | null} pending the body of the request whose answer is being made
 */

/** @returns {Chat} */
export function emptyChat() {
  return { root: null, title: "", instructions: null, messages: [], leaf: null, pending: null };
}

/**
 * @param {Chat} chat
 * @returns {Message[]} the branch that is shown, from its beginning
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
export function withMessage(chat, message) {
  return { ...chat, messages: [...chat.messages, message], leaf: message.id };
}

/**
 * The messages that stand in the same place of different branches, oldest first.
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
 * Shows the branch of a message, to where it was last continued.
 * @param {Chat} chat
 * @param {number} id
 * @returns {Chat}
 */
export function turnedTo(chat, id) {
  let leaf = id;
  for (;;) {
    const next = chat.messages.filter((message) => message.parent === leaf).at(-1);
    if (!next) return { ...chat, leaf };
    leaf = next.id;
  }
}

/** @param {Chat} chat */
export function lastOf(chat) {
  return chat.messages.find((message) => message.id === chat.leaf);
}

/** @param {Chat} chat */
export function isAnswering(chat) {
  return chat.messages.some((message) => message.status === "streaming");
}

/**
 * Changes the answer that is being made; when none is, late news change nothing.
 * @param {Chat} chat
 * @param {(answer: Message) => Message} change
 * @returns {Chat}
 */
export function withAnswer(chat, change) {
  const at = chat.messages.findLastIndex((message) => message.status === "streaming");
  if (at < 0) return chat;
  const messages = [...chat.messages];
  messages[at] = change(messages[at]);
  return { ...chat, messages, pending: messages[at].status === "streaming" ? chat.pending : null };
}

/**
 * @param {Chat} chat
 * @returns {string}
 */
export function titleOf(chat) {
  return chat.title || shortened(pathOf(chat).find((message) => message.role === "user")?.text ?? "");
}

/** @param {string} text */
export function shortened(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}
