// @ts-check
// What the page knows, and how it changes: `(state, action) → state`. Pure.

import { firstChoice } from "../shared/completions.mjs";
import { emptyChat, isAnswering, lastOf, pathOf, turnedTo, withAnswer, withMessage } from "./chats.mjs";
import { conversationOf } from "./history.mjs";
import { splitThought } from "./markdown.mjs";
import { readPageConfig } from "./config.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("../shared/completions.mjs").Said} Said */
/** @typedef {import("./chats.mjs").Chat} Chat */
/** @typedef {import("./chats.mjs").Message} Message */
/** @typedef {import("./history.mjs").Conversation} Conversation */
/** @typedef {import("./config.mjs").Place} Place */
/** @typedef {import("./config.mjs").PageConfig} PageConfig */

/**
 * @typedef {object} History
 * @property {"absent" | "asking" | "known" | "failed"} status absent: there is none at this place
 * @property {Conversation[]} list
 * @property {string | null} next where the list goes on
 * @property {string} query
 * @property {Problem | null} problem
 */

/**
 * @typedef {object} Choices what a person has chosen, and keeps
 * @property {string} model
 * @property {string} useCase
 * @property {string | null} instructions own words instead of the use case's
 * @property {import("./parameters.mjs").Values} values
 */

/** @typedef {{ kind: "parameters" } | { kind: "sign_in" } | { kind: "keys" } | { kind: "conversation", root: string }} Dialog */
/** @typedef {{ value: string, expiresAt: number, baseUrl: string }} MadeKey */

/**
 * @typedef {object} Keys while their dialog is open; a key itself is nowhere else, and gone with it
 * @property {import("./client.mjs").OwnKey[]} list
 * @property {MadeKey | null} made
 * @property {Problem | null} problem
 * @property {boolean} isBusy
 */

/**
 * @typedef {object} State
 * @property {PageConfig} page
 * @property {Place | null} place
 * @property {boolean} hasToken
 * @property {"asking" | "known" | "unknown" | "refused"} models
 * @property {string[]} modelIds
 * @property {boolean} isDemo
 * @property {Choices} choices
 * @property {string} model
 * @property {Chat} chat
 * @property {Record<string, Chat>} parked conversations that were left while their answers were being made
 * @property {Record<string, string>} drafts by conversation
 * @property {History} history
 * @property {Dialog | null} dialog
 * @property {Keys} keys
 * @property {string} notice something to be told in passing
 * @property {boolean} isOpening a conversation of the history is on its way
 * @property {number} nextId
 */

/**
 * @typedef {{ type: "page_known", page: PageConfig, place: Place | null, hasToken: boolean }
 *   | { type: "restored", chat: Chat, parked: Record<string, Chat>, drafts: Record<string, string>, choices: Choices }
 *   | { type: "models_known", ids: string[], isDemo: boolean }
 *   | { type: "models_unknown" }
 *   | { type: "models_refused" }
 *   | { type: "model_chosen", model: string }
 *   | { type: "use_case_chosen", id: string }
 *   | { type: "instructions_changed", text: string }
 *   | { type: "value_changed", name: string, value: number | null }
 *   | { type: "values_reset" }
 *   | { type: "draft_changed", text: string }
 *   | { type: "sent", text: string }
 *   | { type: "edited", id: number, text: string }
 *   | { type: "retried", id?: number }
 *   | { type: "turned", id: number }
 *   | { type: "asked", body: string }
 *   | { type: "said", said: Said, seconds: number }
 *   | { type: "recovering" }
 *   | { type: "restarted" }
 *   | { type: "ended", status: "complete" | "stopped", seconds?: number }
 *   | { type: "failed", problem: Problem, seconds?: number }
 *   | { type: "reset" }
 *   | { type: "opening" }
 *   | { type: "opened", chat: Chat }
 *   | { type: "history_asked", query: string }
 *   | { type: "history_known", rows: any[], next: string | null, isMore: boolean }
 *   | { type: "history_failed", problem: Problem }
 *   | { type: "renamed", root: string, title: string }
 *   | { type: "hidden", root: string }
 *   | { type: "dialog", dialog: Dialog | null }
 *   | { type: "keys_known", list: import("./client.mjs").OwnKey[] }
 *   | { type: "key_asked" }
 *   | { type: "key_made", made: MadeKey }
 *   | { type: "keys_failed", problem: Problem }
 *   | { type: "noticed", text: string }} Action
 */

/** @returns {State} */
export function initialState() {
  return {
    page: readPageConfig(null), place: null, hasToken: false,
    models: "asking", modelIds: [], isDemo: false, model: "",
    choices: { model: "", useCase: "", instructions: null, values: {} },
    chat: emptyChat(), parked: {}, drafts: {},
    history: { status: "absent", list: [], next: null, query: "", problem: null },
    dialog: null, keys: { list: [], made: null, problem: null, isBusy: false }, notice: "", isOpening: false, nextId: 1,
  };
}

/**
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function reduce(state, action) {
  switch (action.type) {
    case "page_known": {
      const status = action.place?.api === "gateway" ? "asking" : "absent";
      const { page, place, hasToken } = action;
      const models = place === null ? "refused" : "asking";
      return { ...state, page, place, hasToken, models, history: { ...initialState().history, status } };
    }
    case "restored": {
      const { chat, parked, drafts, choices } = action;
      const ids = [chat, ...Object.values(parked)].flatMap((each) => each.messages.map((message) => message.id));
      return { ...state, chat, parked, drafts, choices, model: choices.model, nextId: Math.max(0, ...ids) + 1 };
    }
    case "models_known":
      return { ...state, models: "known", modelIds: action.ids, isDemo: action.isDemo, model: modelAmong(state, action.ids) };
    case "models_unknown":
      return { ...state, models: "unknown", modelIds: [], isDemo: false, model: state.model || state.page.defaultModel };
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
    case "value_changed": {
      const { [action.name]: _, ...values } = state.choices.values;
      return { ...state, choices: { ...state.choices,
        values: action.value === null ? values : { ...values, [action.name]: action.value } } };
    }
    case "values_reset":
      return { ...state, choices: { ...state.choices, values: {} } };
    case "draft_changed":
      return { ...state, drafts: { ...state.drafts, [draftName(state)]: action.text } };
    case "sent":
      return canSend(state, action.text) ? asked(withoutDraft(state), action.text.trim(), state.chat.leaf) : state;
    case "edited": {
      const old = state.chat.messages.find((message) => message.id === action.id);
      return old && canSend(state, action.text) ? asked(state, action.text.trim(), old.parent) : state;
    }
    case "retried":
      return retried(state, action.id);
    case "turned":
      return isStreaming(state) ? state : { ...state, chat: turnedTo(state.chat, action.id) };
    case "asked":
      return { ...state, chat: { ...state.chat, pending: action.body } };
    case "said":
      return withDraftOf(state, { ...state, chat: heard(state.chat, action.said, action.seconds) });
    case "recovering":
      return { ...state, chat: withAnswer(state.chat, (answer) => ({ ...answer, phase: "recovering" })) };
    case "restarted":
      return { ...state, chat: withAnswer(state.chat, ({ phase: _, ...answer }) => ({ ...answer, text: "", thought: undefined })) };
    case "ended":
      return { ...state, chat: ended(state.chat, action.status, action.seconds) };
    case "failed": {
      const { problem, seconds } = action;
      return { ...state, chat: withAnswer(state.chat, ({ phase: _, ...answer }) => ({ ...answer, status: "failed", problem, seconds })) };
    }
    case "reset":
      return { ...left(state), chat: emptyChat(), notice: "", isOpening: false };
    case "opening":
      return { ...state, isOpening: true, notice: "" };
    case "opened":
      return opened(state, action.chat);
    case "history_asked": {
      const list = action.query === state.history.query ? state.history.list : [];
      return { ...state, history: { ...state.history, status: "asking", query: action.query, list, problem: null } };
    }
    case "history_known": {
      const more = action.rows.map(conversationOf);
      const known = new Set(more.map((each) => each.root));
      const list = action.isMore ? [...state.history.list.filter((each) => !known.has(each.root)), ...more] : more;
      return { ...state, history: { ...state.history, status: "known", list, next: action.next, problem: null } };
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
    case "dialog":
      return { ...state, dialog: action.dialog, keys: initialState().keys };
    case "keys_known":
      return { ...state, keys: { ...state.keys, list: action.list, isBusy: false } };
    case "key_asked":
      return { ...state, keys: { ...state.keys, problem: null, isBusy: true } };
    case "key_made":
      return { ...state, keys: { ...state.keys, made: action.made, problem: null, isBusy: false } };
    case "keys_failed":
      return { ...state, keys: { ...state.keys, problem: action.problem, isBusy: false } };
    case "noticed":
      return { ...state, notice: action.text, isOpening: false };
  }
}

/** @param {State} state */
export function isStreaming(state) {
  return isAnswering(state.chat);
}

/**
 * @param {State} state
 * @param {string} text
 */
export function canSend(state, text) {
  return text.trim() !== "" && !isStreaming(state) && !state.isOpening && (state.models === "known" || state.models === "unknown");
}

/** @param {State} state */
export function canRetry(state) {
  return lastOf(state.chat)?.role === "assistant" && !isStreaming(state);
}

/** @param {State} state whether the gateway makes keys for who is signed in */
export function canMakeKeys({ page, place, models, hasToken }) {
  const isSignedIn = (models === "known" || models === "unknown") && (hasToken || page.auth.includes("header"));
  return page.ownKeysS !== null && place?.api === "gateway" && isSignedIn;
}

/** @param {State} state */
export function draftOf(state) {
  return state.drafts[draftName(state)] ?? "";
}

/** @param {State} state */
export function useCaseOf(state) {
  const { useCases } = state.page;
  return useCases.find((each) => each.id === state.choices.useCase) ?? useCases[0];
}

/** @param {State} state what the model is told before the conversation */
export function instructionsOf(state) {
  return state.chat.instructions ?? state.choices.instructions ?? useCaseOf(state).prompt;
}

/** @param {State} state */
function draftName(state) {
  return state.chat.root ?? "new";
}

/**
 * @param {State} state
 * @returns {State}
 */
function withoutDraft(state) {
  const { [draftName(state)]: _, ...drafts } = state.drafts;
  return { ...state, drafts };
}

/**
 * What is being written stays where it is when a new conversation gets its id.
 * @param {State} before
 * @param {State} after
 * @returns {State}
 */
function withDraftOf(before, after) {
  const draft = draftOf(before);
  if (draftName(before) === draftName(after) || draft === "") return after;
  return { ...after, drafts: { ...withoutDraft(before).drafts, [draftName(after)]: draft } };
}

/**
 * @param {State} state
 * @param {string[]} ids
 */
function modelAmong(state, ids) {
  return [state.model, state.page.defaultModel].find((model) => ids.includes(model)) ?? firstChoice(ids);
}

/**
 * @param {State} state
 * @param {string} text
 * @param {number | null} parent
 * @returns {State}
 */
function asked(state, text, parent) {
  const chat = withMessage(state.chat, { id: state.nextId, parent, role: "user", text, status: "complete" });
  return answering({ ...state, chat, nextId: state.nextId + 1, notice: "" }, state.nextId);
}

/**
 * @param {State} state
 * @param {number | null} parent the question
 * @returns {State}
 */
function answering(state, parent) {
  /** @type {Message} */
  const answer = { id: state.nextId, parent, role: "assistant", text: "", status: "streaming", model: state.model };
  return { ...state, nextId: state.nextId + 1, chat: withMessage(state.chat, answer) };
}

/**
 * Another answer to the same question. One that failed before its first word goes; any other stays as a variant.
 * @param {State} state
 * @param {number} [id]
 * @returns {State}
 */
function retried(state, id = state.chat.leaf ?? 0) {
  const old = state.chat.messages.find((message) => message.id === id);
  if (!old || old.role !== "assistant" || isStreaming(state)) return state;
  const isEmpty = old.text === "" && !old.thought;
  const messages = isEmpty ? state.chat.messages.filter((message) => message !== old) : state.chat.messages;
  return answering({ ...state, chat: { ...state.chat, messages }, notice: "" }, old.parent);
}

/**
 * @param {Chat} chat
 * @param {Said} said
 * @param {number} seconds since the question was sent
 * @returns {Chat}
 */
function heard(chat, said, seconds) {
  if (said.kind === "begun" && isAnswering(chat)) {
    const begun = { ...chat, root: chat.root ?? said.conversation };
    return withAnswer(begun, (answer) => ({
      ...answer, interaction: said.interaction ?? answer.interaction, policy: said.policy ?? answer.policy,
    }));
  }
  return withAnswer(chat, (answer) => {
    const firstSeconds = answer.firstSeconds ?? (Number.isFinite(seconds) ? seconds : undefined);
    switch (said.kind) {
      case "text":
        return { ...answer, text: answer.text + said.text, firstSeconds };
      case "thought":
        return { ...answer, thought: (answer.thought ?? "") + said.text, firstSeconds };
      case "reason":
        return { ...answer, reason: said.reason };
      case "usage":
        return { ...answer, usage: said.usage };
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
function ended(chat, status, seconds) {
  return withAnswer(chat, ({ phase: _, ...answer }) => {
    const { thought, text } = splitThought(answer.text);
    return { ...answer, status, seconds, ...(thought ? { thought: (answer.thought ?? "") + thought, text } : {}) };
  });
}

/**
 * What is left behind: an answer that is being made goes on at the gateway, and is found again.
 * @param {State} state
 * @returns {State}
 */
function left(state) {
  const { chat } = state;
  if (!chat.root || !isAnswering(chat)) return state;
  return { ...state, parked: { ...state.parked, [chat.root]: chat } };
}

/**
 * @param {State} state
 * @param {Chat} chat
 * @returns {State}
 */
function opened(state, chat) {
  const before = left(state);
  const { [chat.root ?? ""]: parked, ...others } = before.parked;
  const shown = parked ?? chat;
  const ids = shown.messages.map((message) => message.id);
  return { ...before, parked: others, chat: shown, notice: "", isOpening: false, nextId: Math.max(before.nextId, ...ids.map((id) => id + 1)) };
}

/** @param {State} state @returns {Message[]} */
export function shownMessages(state) {
  return pathOf(state.chat);
}
