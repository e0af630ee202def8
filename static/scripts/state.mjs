// @ts-check
// What the page knows, and how it changes: `(state, action) → state`. Pure.

import { firstChoice } from "./answers.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("./answers.mjs").Usage} Usage */
/** @typedef {import("./answers.mjs").WireMessage} WireMessage */

/**
 * @typedef {object} Message
 * @property {number} id
 * @property {"user" | "assistant"} role
 * @property {string} text
 * @property {"complete" | "streaming" | "stopped" | "failed"} status
 * @property {string} [model] which model was asked
 * @property {string} [reason] why the model stopped
 * @property {Usage} [usage]
 * @property {number} [seconds] from sending to the end
 * @property {Problem} [problem]
 */

/**
 * @typedef {object} State
 * @property {"asking" | "known" | "unknown"} models
 * @property {string[]} modelIds
 * @property {boolean} isDemo
 * @property {string} model
 * @property {Message[]} messages
 * @property {string} draft
 * @property {number} nextId
 */

/**
 * @typedef {{ type: "models_known", ids: string[], isDemo: boolean }
 *   | { type: "models_unknown" }
 *   | { type: "model_chosen", model: string }
 *   | { type: "draft_changed", text: string }
 *   | { type: "sent", text: string }
 *   | { type: "retried" }
 *   | { type: "said", text: string }
 *   | { type: "reasoned", reason: string }
 *   | { type: "counted", usage: Usage }
 *   | { type: "ended", status: "complete" | "stopped", seconds: number }
 *   | { type: "failed", problem: Problem, seconds: number }
 *   | { type: "reset" }} Action
 */

/** @returns {State} */
export function initialState() {
  return { models: "asking", modelIds: [], isDemo: false, model: "", messages: [], draft: "", nextId: 1 };
}

/**
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function reduce(state, action) {
  switch (action.type) {
    case "models_known": {
      const model = action.ids.includes(state.model) ? state.model : firstChoice(action.ids);
      return { ...state, models: "known", modelIds: action.ids, isDemo: action.isDemo, model };
    }
    case "models_unknown":
      return { ...state, models: "unknown" };
    case "model_chosen":
      return { ...state, model: action.model };
    case "draft_changed":
      return { ...state, draft: action.text };
    case "sent":
      return canSend(state, action.text) ? asked({ ...state, draft: "" }, action.text.trim()) : state;
    case "retried":
      return canRetry(state) ? answering({ ...state, messages: state.messages.slice(0, -1) }) : state;
    case "said":
      return changeAnswer(state, (answer) => ({ ...answer, text: answer.text + action.text }));
    case "reasoned":
      return changeAnswer(state, (answer) => ({ ...answer, reason: action.reason }));
    case "counted":
      return changeAnswer(state, (answer) => ({ ...answer, usage: action.usage }));
    case "ended":
      return changeAnswer(state, (answer) => ({ ...answer, status: action.status, seconds: action.seconds }));
    case "failed":
      return changeAnswer(state, (answer) => ({
        ...answer,
        status: "failed",
        problem: action.problem,
        seconds: action.seconds,
      }));
    case "reset":
      return isStreaming(state) ? state : { ...state, messages: [] };
  }
}

/** @param {State} state */
export function isStreaming(state) {
  return state.messages.at(-1)?.status === "streaming";
}

/**
 * @param {State} state
 * @param {string} text
 */
export function canSend(state, text) {
  return text.trim() !== "" && !isStreaming(state) && state.models !== "asking";
}

/** @param {State} state */
export function canRetry(state) {
  const last = state.messages.at(-1);
  return last?.role === "assistant" && (last.status === "failed" || last.status === "stopped");
}

/**
 * The conversation as it goes to the model: answers of which nothing arrived are left out.
 * @param {State} state
 * @returns {WireMessage[]}
 */
export function conversation(state) {
  return state.messages
    .filter((message) => message.role === "user" || message.text !== "")
    .map((message) => ({ role: message.role, content: message.text }));
}

/**
 * @param {State} state
 * @param {string} text
 * @returns {State}
 */
function asked(state, text) {
  /** @type {Message} */
  const question = { id: state.nextId, role: "user", text, status: "complete" };
  return answering({ ...state, nextId: state.nextId + 1, messages: [...state.messages, question] });
}

/**
 * @param {State} state
 * @returns {State}
 */
function answering(state) {
  /** @type {Message} */
  const answer = { id: state.nextId, role: "assistant", text: "", status: "streaming", model: state.model };
  return { ...state, nextId: state.nextId + 1, messages: [...state.messages, answer] };
}

/**
 * Only the last message can be streaming; when none is, late news of an ended answer change nothing.
 * @param {State} state
 * @param {(answer: Message) => Message} change
 * @returns {State}
 */
function changeAnswer(state, change) {
  const last = state.messages.at(-1);
  if (last?.status !== "streaming") return state;
  return { ...state, messages: [...state.messages.slice(0, -1), change(last)] };
}
