// @ts-check
// The state of the chat page, and the questions that components ask it. `reducer.mjs` changes it. Pure.

import { emptyChat, isAnswering } from "./chats.mjs";
import { readPageConfig } from "./config.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("./chats.mjs").Chat} Chat */
/** @typedef {import("./history.mjs").Conversation} Conversation */
/** @typedef {import("./config.mjs").Endpoint} Endpoint */
/** @typedef {import("./config.mjs").PageConfig} PageConfig */

/**
 * @typedef {object} History
 * @property {"absent" | "loading" | "loaded" | "failed"} status absent: the endpoint has no history
 * @property {Conversation[]} list
 * @property {string | null} next cursor of the next page
 * @property {string} query
 * @property {Problem | null} problem
 */

/**
 * @typedef {object} Choices of the user, stored in the browser
 * @property {string} model
 * @property {string} useCase
 * @property {string | null} instructions null: those of the use case
 * @property {import("./parameters.mjs").ParameterValues} values
 */

/** @typedef {{ kind: "parameters" } | { kind: "sign_in" } | { kind: "keys" } | { kind: "conversation", root: string }} Dialog */
/** @typedef {{ value: string, expiresAt: number, baseUrl: string }} CreatedKey */

/**
 * @typedef {object} Keys emptied when their dialog is closed: no other part of the page has the created key
 * @property {import("./client.mjs").OwnKey[]} list
 * @property {CreatedKey | null} created
 * @property {Problem | null} problem
 * @property {boolean} isBusy
 */

/**
 * @typedef {object} State
 * @property {PageConfig} page
 * @property {Endpoint | null} endpoint
 * @property {boolean} hasToken
 * @property {"loading" | "listed" | "unlisted" | "refused"} models refused: the endpoint requires a (valid) key
 * @property {string[]} modelIds
 * @property {boolean} isDemo
 * @property {Choices} choices
 * @property {string} model
 * @property {Chat} chat the open conversation
 * @property {Record<string, Chat>} parked conversations that were left while their answers streamed
 * @property {Record<string, string>} drafts by conversation
 * @property {History} history
 * @property {Dialog | null} dialog
 * @property {Keys} keys
 * @property {string} notice a message that disappears by itself
 * @property {number} nextId
 */

/** @returns {State} */
export function initialState() {
  return {
    page: readPageConfig(null), endpoint: null, hasToken: false,
    models: "loading", modelIds: [], isDemo: false, model: "",
    choices: { model: "", useCase: "", instructions: null, values: {} },
    chat: emptyChat(), parked: {}, drafts: {},
    history: { status: "absent", list: [], next: null, query: "", problem: null },
    dialog: null, keys: { list: [], created: null, problem: null, isBusy: false }, notice: "", nextId: 1,
  };
}

/** @param {State} state */
export function isStreaming(state) {
  return isAnswering(state.chat);
}

/** @param {State} state @returns {boolean} the endpoint accepts the user */
export function isReady({ models }) {
  return models === "listed" || models === "unlisted";
}

/** @param {State} state @param {string} text */
export function canSend(state, text) {
  return text.trim() !== "" && !isStreaming(state) && isReady(state);
}

/** @param {State} state @returns {boolean} the gateway creates keys for this user */
export function canCreateKeys(state) {
  const { page, endpoint, hasToken } = state;
  return page.ownKeysS !== null && endpoint?.api === "gateway" && isReady(state) && (hasToken || page.auth.includes("header"));
}

/** @param {State} state @returns {string} the key of the draft */
export function draftKey(state) {
  return state.chat.root ?? "new";
}

/** @param {State} state */
export function draftOf(state) {
  return state.drafts[draftKey(state)] ?? "";
}

/** @param {State} state */
export function useCaseOf(state) {
  const { useCases } = state.page;
  return useCases.find((each) => each.id === state.choices.useCase) ?? useCases[0];
}

/** @param {State} state @returns {string} the system message */
export function instructionsOf(state) {
  return state.chat.instructions ?? state.choices.instructions ?? useCaseOf(state).prompt;
}
