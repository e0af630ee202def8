// @ts-check
// Reads the interactions that the gateway's live endpoints send. Pure.

import { policyResult } from "../shared/outcomes.mjs";
import { parseTimestamp, stringOf } from "../shared/values.mjs";

/**
 * @typedef {object} Interaction a recorded request with its answer, both shortened
 * @property {string} id
 * @property {string} source
 * @property {string} kind
 * @property {number} at end of the answer, in milliseconds
 * @property {string} user
 * @property {string} title
 * @property {string} model
 * @property {string} outcome
 * @property {import("../shared/outcomes.mjs").PolicyResult | null} policy
 * @property {string} question
 * @property {string} answer
 * @property {string} error
 * @property {boolean} isNew it arrived while the page was open
 * @property {boolean} isLate it arrived long after its end
 */

/**
 * @typedef {object} RunningAnswer
 * @property {string} id
 * @property {string} user
 * @property {string} title
 * @property {string} model or the path, if the request has no model
 * @property {number} startedAt in milliseconds of the browser's clock
 */

/** @typedef {{ interactions: Interaction[], next: string | null }} Page `next` is a cursor */

/**
 * @param {any} row
 * @returns {Interaction | null} null: the row is not an interaction
 */
export function interactionOf(row) {
  if (typeof row?.id !== "string") return null;
  return {
    id: row.id, source: stringOf(row.source), kind: stringOf(row.kind), at: parseTimestamp(row.response_time),
    user: stringOf(row.user_name), title: stringOf(row.title), model: stringOf(row.model) || stringOf(row.answered_model),
    outcome: stringOf(row.outcome) || "complete", policy: policyResult(row.policy_outcome, row.policy_rules),
    question: stringOf(row.asked), answer: stringOf(row.said), error: stringOf(row.error), isNew: false, isLate: false,
  };
}

/** @param {any} json the response of a search @returns {Page} */
export function pageOf(json) {
  const rows = Array.isArray(json?.data) ? json.data : [];
  const interactions = /** @type {Interaction[]} */ (rows.map(interactionOf).filter(Boolean));
  return { interactions, next: typeof json?.next_before === "string" ? json.next_before : null };
}

/**
 * @param {any} json the gateway's list, with the time of the gateway's clock
 * @param {number} now
 * @returns {RunningAnswer[]}
 */
export function runningAnswersOf(json, now) {
  const rows = Array.isArray(json?.data) ? json.data : [];
  return rows.filter((/** @type {any} */ row) => typeof row?.id === "string").map((/** @type {any} */ row) => {
    const seconds = Number.isFinite(json.now) && Number.isFinite(row.started_at) ? Math.max(0, json.now - row.started_at) : 0;
    return { id: row.id, user: stringOf(row.user_name), title: stringOf(row.title), model: stringOf(row.model) || stringOf(row.path), startedAt: now - seconds * 1000 };
  });
}
