// @ts-check
// Changes the state of the chat page: `(state, action) → state`. Pure.

import { appendMessage, emptyChat, isAnswering, selectBranch, updateAnswer } from "./chats.mjs";
import { conversationOf } from "./history.mjs";
import { splitReasoning } from "./markdown.mjs";
import { defaultModel } from "./openai.mjs";
import { canSend, draftKey, draftOf, initialState, isStreaming, useCaseOf } from "./state.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("./openai.mjs").AnswerEvent} AnswerEvent */
/** @typedef {import("./chats.mjs").Chat} Chat */
/** @typedef {import("./chats.mjs").Message} Message */
/** @typedef {import("./state.mjs").State} State */

/**
 * @typedef {{ type: "configured", page: import("./config.mjs").PageConfig, endpoint: import("./config.mjs").Endpoint | null, hasToken: boolean }
 *   | { type: "restored", chat: Chat, parked: Record<string, Chat>, drafts: Record<string, string>, choices: import("./state.mjs").Choices }
 *   | { type: "models_listed", ids: string[], isDemo: boolean }
 *   | { type: "models_unlisted" }
 *   | { type: "models_refused" }
 *   | { type: "model_chosen", model: string }
 *   | { type: "use_case_chosen", id: string }
 *   | { type: "instructions_changed", text: string }
 *   | { type: "parameter_changed", name: string, value: number | null }
 *   | { type: "parameters_reset" }
 *   | { type: "draft_changed", text: string }
 *   | { type: "sent", text: string }
 *   | { type: "edited", id: number, text: string }
 *   | { type: "retried", id?: number }
 *   | { type: "branch_selected", id: number }
 *   | { type: "requested", body: string }
 *   | { type: "answer_event", event: AnswerEvent, seconds: number }
 *   | { type: "answer_recovering" }
 *   | { type: "answer_restarted" }
 *   | { type: "answer_ended", status: "complete" | "stopped", seconds?: number }
 *   | { type: "answer_failed", problem: Problem, seconds?: number }
 *   | { type: "new_chat" }
 *   | { type: "chat_opened", chat: Chat }
 *   | { type: "history_requested", query: string }
 *   | { type: "history_loaded", rows: any[], next: string | null, isMore: boolean }
 *   | { type: "history_failed", problem: Problem }
 *   | { type: "renamed", root: string, title: string }
 *   | { type: "hidden", root: string }
 *   | { type: "dialog_shown", dialog: import("./state.mjs").Dialog | null }
 *   | { type: "keys_requested" }
 *   | { type: "keys_loaded", list: import("./client.mjs").OwnKey[] }
 *   | { type: "key_created", created: import("./state.mjs").CreatedKey }
 *   | { type: "keys_failed", problem: Problem }
 *   | { type: "notice_shown", text: string }} Action
 */

/**
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function reduce(state, action) {
  switch (action.type) {
    case "configured": {
      const { page, endpoint, hasToken } = action;
      const status = endpoint?.api === "gateway" ? "loading" : "absent";
      const models = endpoint === null ? "refused" : "loading";
      return { ...state, page, endpoint, hasToken, models, history: { ...initialState().history, status } };
    }
    case "restored": {
      const { chat, parked, drafts, choices } = action;
      const ids = [chat, ...Object.values(parked)].flatMap((each) => each.messages.map((message) => message.id));
      return { ...state, chat, parked, drafts, choices, model: choices.model, nextId: Math.max(0, ...ids) + 1 };
    }
    case "models_listed":
      return { ...state, models: "listed", modelIds: action.ids, isDemo: action.isDemo, model: modelAmong(state, action.ids) };
    case "models_unlisted":
      return { ...state, models: "unlisted", modelIds: [], isDemo: false, model: state.model || state.page.defaultModel };
    case "models_refused":
      return { ...state, models: "refused", modelIds: [], isDemo: false };
    case "model_chosen":
      return { ...state, model: action.model, choices: { ...state.choices, model: action.model } };
    case "use_case_chosen":
      return { ...state, chat: { ...state.chat, instructions: null },
        choices: { ...state.choices, useCase: action.id, instructions: null } };
    case "instructions_changed":
      return { ...state, chat: { ...state.chat, instructions: null },
        choices: { ...state.choices, instructions: action.text === useCaseOf(state).prompt ? null : action.text } };
    case "parameter_changed": {
      const { [action.name]: _, ...values } = state.choices.values;
      return { ...state, choices: { ...state.choices,
        values: action.value === null ? values : { ...values, [action.name]: action.value } } };
    }
    case "parameters_reset":
      return { ...state, choices: { ...state.choices, values: {} } };
    case "draft_changed":
      return { ...state, drafts: { ...state.drafts, [draftKey(state)]: action.text } };
    case "sent":
      return canSend(state, action.text) ? withQuestion(withoutDraft(state), action.text.trim(), state.chat.leaf) : state;
    case "edited": {
      const old = state.chat.messages.find((message) => message.id === action.id);
      return old && canSend(state, action.text) ? withQuestion(state, action.text.trim(), old.parent) : state;
    }
    case "retried":
      return withVariant(state, action.id ?? state.chat.leaf);
    case "branch_selected":
      return isStreaming(state) ? state : { ...state, chat: selectBranch(state.chat, action.id) };
    case "requested":
      return { ...state, chat: { ...state.chat, pending: action.body } };
    case "answer_event":
      return withDraftOf(state, { ...state, chat: applyAnswerEvent(state.chat, action.event, action.seconds) });
    case "answer_recovering":
      return { ...state, chat: updateAnswer(state.chat, (answer) => ({ ...answer, phase: "recovering" })) };
    case "answer_restarted":
      return { ...state, chat: updateAnswer(state.chat, ({ phase: _, ...answer }) => ({ ...answer, text: "", reasoning: undefined })) };
    case "answer_ended":
      return { ...state, chat: endAnswer(state.chat, action.status, action.seconds) };
    case "answer_failed": {
      const { problem, seconds } = action;
      return { ...state, chat: updateAnswer(state.chat, ({ phase: _, ...answer }) => ({ ...answer, status: "failed", problem, seconds })) };
    }
    case "new_chat":
      return { ...parkChat(state), chat: emptyChat(), notice: "" };
    case "chat_opened":
      return openChat(parkChat(state), action.chat);
    case "history_requested": {
      const list = action.query === state.history.query ? state.history.list : [];
      return { ...state, history: { ...state.history, status: "loading", query: action.query, list, problem: null } };
    }
    case "history_loaded": {
      const page = action.rows.map(conversationOf);
      const roots = new Set(page.map((each) => each.root));
      const list = action.isMore ? [...state.history.list.filter((each) => !roots.has(each.root)), ...page] : page;
      return { ...state, history: { ...state.history, status: "loaded", list, next: action.next, problem: null } };
    }
    case "history_failed":
      return { ...state, history: { ...state.history, status: "failed", problem: action.problem } };
    case "renamed": {
      const { root, title } = action;
      const list = state.history.list.map((each) => (each.root === root ? { ...each, title } : each));
      const chat = state.chat.root === root ? { ...state.chat, title } : state.chat;
      return { ...state, chat, history: { ...state.history, list } };
    }
    case "hidden": {
      const list = state.history.list.filter((each) => each.root !== action.root);
      return { ...state, history: { ...state.history, list } };
    }
    case "dialog_shown":
      return { ...state, dialog: action.dialog, keys: initialState().keys };
    case "keys_requested":
      return { ...state, keys: { ...state.keys, problem: null, isBusy: true } };
    case "keys_loaded":
      return { ...state, keys: { ...state.keys, list: action.list, isBusy: false } };
    case "key_created":
      return { ...state, keys: { ...state.keys, created: action.created, problem: null, isBusy: false } };
    case "keys_failed":
      return { ...state, keys: { ...state.keys, problem: action.problem, isBusy: false } };
    case "notice_shown":
      return { ...state, notice: action.text };
  }
}

/**
 * @param {State} state
 * @param {string[]} ids
 */
function modelAmong(state, ids) {
  return [state.model, state.page.defaultModel].find((model) => ids.includes(model)) ?? defaultModel(ids);
}

/**
 * @param {State} state
 * @returns {State}
 */
function withoutDraft(state) {
  const { [draftKey(state)]: _, ...drafts } = state.drafts;
  return { ...state, drafts };
}

/**
 * Moves the draft along when a new conversation gets its id.
 * @param {State} before
 * @param {State} after
 * @returns {State}
 */
function withDraftOf(before, after) {
  const draft = draftOf(before);
  if (draftKey(before) === draftKey(after) || draft === "") return after;
  return { ...after, drafts: { ...withoutDraft(before).drafts, [draftKey(after)]: draft } };
}

/**
 * @param {State} state
 * @param {string} text
 * @param {number | null} parent
 * @returns {State}
 */
function withQuestion(state, text, parent) {
  const chat = appendMessage(state.chat, { id: state.nextId, parent, role: "user", text, status: "complete" });
  return withAnswerTo({ ...state, chat, nextId: state.nextId + 1, notice: "" }, state.nextId);
}

/**
 * @param {State} state
 * @param {number | null} question
 * @returns {State}
 */
function withAnswerTo(state, question) {
  /** @type {Message} */
  const answer = { id: state.nextId, parent: question, role: "assistant", text: "", status: "streaming", model: state.model };
  return { ...state, nextId: state.nextId + 1, chat: appendMessage(state.chat, answer) };
}

/**
 * Begins another answer to the same question. It replaces an answer without content; any other answer stays as a variant.
 * @param {State} state
 * @param {number | null} id of the old answer
 * @returns {State}
 */
function withVariant(state, id) {
  const old = state.chat.messages.find((message) => message.id === id);
  if (!old || old.role !== "assistant" || isStreaming(state)) return state;
  const isEmpty = old.text === "" && !old.reasoning;
  const messages = isEmpty ? state.chat.messages.filter((message) => message !== old) : state.chat.messages;
  return withAnswerTo({ ...state, chat: { ...state.chat, messages }, notice: "" }, old.parent);
}

/**
 * @param {Chat} chat
 * @param {AnswerEvent} event
 * @param {number} seconds since the request; NaN: unknown
 * @returns {Chat}
 */
function applyAnswerEvent(chat, event, seconds) {
  if (event.kind === "started" && isAnswering(chat)) {
    return updateAnswer({ ...chat, root: chat.root ?? event.conversation }, (answer) => ({
      ...answer, interaction: event.interaction ?? answer.interaction, policy: event.policy ?? answer.policy,
    }));
  }
  return updateAnswer(chat, (answer) => {
    const firstSeconds = answer.firstSeconds ?? (Number.isFinite(seconds) ? seconds : undefined);
    switch (event.kind) {
      case "text":
        return { ...answer, text: answer.text + event.text, firstSeconds };
      case "reasoning":
        return { ...answer, reasoning: (answer.reasoning ?? "") + event.text, firstSeconds };
      case "finish":
        return { ...answer, finishReason: event.reason };
      case "usage":
        return { ...answer, usage: event.usage };
      default:
        return answer;
    }
  });
}

/**
 * @param {Chat} chat
 * @param {"complete" | "stopped"} status
 * @param {number} [seconds]
 * @returns {Chat}
 */
function endAnswer(chat, status, seconds) {
  return updateAnswer(chat, ({ phase: _, ...answer }) => {
    const { reasoning, text } = splitReasoning(answer.text);
    return { ...answer, status, seconds, ...(reasoning ? { reasoning: (answer.reasoning ?? "") + reasoning, text } : {}) };
  });
}

/**
 * Parks the open conversation if its answer streams: the gateway continues the answer, and the page recovers it later.
 * @param {State} state
 * @returns {State}
 */
function parkChat(state) {
  const { chat } = state;
  if (!chat.root || !isAnswering(chat)) return state;
  return { ...state, parked: { ...state.parked, [chat.root]: chat } };
}

/**
 * @param {State} state
 * @param {Chat} chat from the history; a parked conversation with the same id replaces it
 * @returns {State}
 */
function openChat(state, chat) {
  const { [chat.root ?? ""]: own, ...parked } = state.parked;
  const opened = own ?? chat;
  const ids = opened.messages.map((message) => message.id);
  return { ...state, parked, chat: opened, notice: "", nextId: Math.max(state.nextId, ...ids.map((id) => id + 1)) };
}
