// @ts-check
// What the live page knows and shows, and how that changes. Pure.

import { policyOf } from "../shared/completions.mjs";
import { OUTCOMES } from "../report/numbers.mjs";

/**
 * @typedef {object} Line one interaction, as the gateway tells it
 * @property {string} id
 * @property {string} source
 * @property {string} kind
 * @property {number} at when the answer ended, in milliseconds
 * @property {string} user
 * @property {string} title
 * @property {string} model
 * @property {string} outcome
 * @property {import("../shared/completions.mjs").Policy | null} policy
 * @property {string} asked
 * @property {string} said
 * @property {string} error
 * @property {number | null} seconds
 * @property {number | null} tokens
 * @property {boolean} isNew it came while the page was looking
 * @property {boolean} isLate it ended long before it came
 */

/**
 * @typedef {object} Underway what is being answered
 * @property {string} id
 * @property {string} user
 * @property {string} title
 * @property {string} model or, where the request does not show it, the path
 * @property {number} since when it began, in milliseconds of this machine's clock
 */

/** @typedef {"signed_out" | "connecting" | "live" | "paused" | "searching" | "away" | "lost" | "ended"} Standing */
/** @typedef {Record<string, string>} Wanted what stands in the address: q, user, model, outcome, policy, kind, from */
/** @typedef {{ lines: Line[], next: string | null }} Page */

/**
 * @typedef {object} State
 * @property {Standing} standing how new ones come, if they come
 * @property {Wanted} wanted
 * @property {Line[]} lines newest first
 * @property {Line[]} waiting came while the reader was looking elsewhere, newest first
 * @property {Underway[]} underway the oldest first
 * @property {string | null} next where the page after these begins
 * @property {"reading" | "read" | "failed"} search
 * @property {string} fault why something is not there, for people
 * @property {boolean} isLinkNeeded nobody logs in at this gateway: a link opens this page
 * @property {boolean} isPaused
 * @property {boolean} isScrolled the newest are out of sight
 * @property {string | null} open the interaction whose conversation is shown
 * @property {import("./turns.mjs").Conversation | null} conversation null: it is being read
 */

/**
 * @typedef {{ type: "wanted", wanted: Wanted }
 *   | { type: "found", page: Page, isMore: boolean }
 *   | { type: "not_found", fault: string }
 *   | { type: "arrived", line: Line }
 *   | { type: "underway", underway: Underway[] }
 *   | { type: "standing", standing: Standing, fault?: string, isLinkNeeded?: boolean }
 *   | { type: "paused", isPaused: boolean }
 *   | { type: "scrolled", isScrolled: boolean }
 *   | { type: "revealed" }
 *   | { type: "opened", id: string | null }
 *   | { type: "conversation", id: string, conversation: import("./turns.mjs").Conversation }} Action
 */

export const FILTERS = /** @type {const} */ (["q", "user", "model", "outcome", "policy", "kind", "from"]);
export const POLICIES = /** @type {const} */ ([["any", "Anything"], ["masked", "Masked"], ["redirected", "Redirected"], ["rejected", "Refused"]]);
export const KINDS = /** @type {const} */ ([["chat", "Chats"], ["image", "Images"], ["api", "Other calls"]]);
const MOST_SHOWN = 1000; // lines on the page; older ones are found by a search
const LATE_MS = 60_000;

/** @param {Wanted} wanted @param {string | null} open @returns {State} */
export function firstState(wanted, open) {
  return {
    standing: "connecting", wanted, lines: [], waiting: [], underway: [], next: null, search: "reading", fault: "",
    isLinkNeeded: false, isPaused: false, isScrolled: false, open, conversation: null,
  };
}

/**
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function reduce(state, action) {
  switch (action.type) {
    case "wanted":
      return { ...state, wanted: action.wanted, lines: [], waiting: [], underway: [], next: null, search: "reading", fault: "" };
    case "found":
      return found(state, action.page, action.isMore);
    case "not_found":
      return { ...state, search: "failed", fault: action.fault };
    case "arrived":
      return arrived(state, action.line);
    case "underway":
      return { ...state, underway: action.underway };
    case "standing":
      return { ...standing(state, action.standing, action.fault), isLinkNeeded: action.isLinkNeeded ?? false };
    case "paused":
      return revealedIf({ ...state, isPaused: action.isPaused });
    case "scrolled":
      return revealedIf({ ...state, isScrolled: action.isScrolled });
    case "revealed":
      return revealed(state);
    case "opened":
      return { ...state, open: action.id, conversation: null };
    case "conversation":
      return action.id === state.open ? { ...state, conversation: action.conversation } : state;
  }
}

/**
 * What a search found goes below what has come meanwhile; what is known already stays where it is.
 * @param {State} state @param {Page} page @param {boolean} isMore
 * @returns {State}
 */
function found(state, page, isMore) {
  const known = new Set([...state.lines, ...state.waiting].map((line) => line.id));
  const fresh = page.lines.filter((line) => !known.has(line.id));
  const missed = isMore ? [] : fresh.filter((line) => line.at > (state.lines[0]?.at ?? Infinity));
  const lines = [...missed, ...state.lines, ...fresh.filter((line) => !missed.includes(line))];
  const next = isMore || state.next === null || state.lines.length === 0 ? page.next : state.next;
  return { ...state, lines, next, search: "read", fault: "" };
}

/**
 * Who does not hear from the gateway does not know what it is answering.
 * @param {State} state @param {Standing} now @param {string} [fault]
 * @returns {State}
 */
function standing(state, now, fault) {
  const underway = now === "live" || now === "away" ? state.underway : [];
  return { ...state, standing: now, underway, fault: fault ?? (now === "live" ? "" : state.fault) };
}

/** @param {State} state @param {Line} line @returns {State} */
function arrived(state, line) {
  if ([...state.waiting, ...state.lines].some((each) => each.id === line.id)) return state;
  const isLate = line.at < (state.waiting[0] ?? state.lines[0])?.at - LATE_MS;
  const waiting = [{ ...line, isNew: true, isLate }, ...state.waiting].slice(0, MOST_SHOWN);
  return revealedIf({ ...state, waiting });
}

/** @param {State} state */
function revealedIf(state) {
  return state.isPaused || state.isScrolled ? state : revealed(state);
}

/** @param {State} state @returns {State} */
function revealed(state) {
  if (state.waiting.length === 0) return state;
  return { ...state, lines: [...state.waiting, ...state.lines].slice(0, MOST_SHOWN), waiting: [] };
}

/**
 * @param {any} row as the gateway tells it
 * @returns {Line | null} null for what is none
 */
export function lineOf(row) {
  if (typeof row?.id !== "string") return null;
  const isCounted = Number.isFinite(row.prompt_tokens) && Number.isFinite(row.completion_tokens);
  return {
    id: row.id, source: text(row.source), kind: text(row.kind), at: momentOf(row.response_time),
    user: text(row.user_name), title: text(row.title), model: text(row.model) || text(row.answered_model),
    outcome: text(row.outcome) || "complete", policy: policyOf(row.policy_outcome, row.policy_rules),
    asked: text(row.asked), said: text(row.said), error: text(row.error),
    seconds: Number.isFinite(row.duration_ms) ? row.duration_ms / 1000 : null,
    tokens: isCounted ? row.prompt_tokens + row.completion_tokens : null, isNew: false, isLate: false,
  };
}

/**
 * @param {any} told by the gateway, whose clock may differ from ours
 * @param {number} now
 * @returns {Underway[]}
 */
export function underwayOf(told, now) {
  const rows = Array.isArray(told?.data) ? told.data : [];
  return rows.filter((/** @type {any} */ row) => typeof row?.id === "string").map((/** @type {any} */ row) => {
    const seconds = Number.isFinite(told.now) && Number.isFinite(row.started_at) ? Math.max(0, told.now - row.started_at) : 0;
    return { id: row.id, user: text(row.user_name), title: text(row.title), model: text(row.model) || text(row.path), since: now - seconds * 1000 };
  });
}

/** @param {number} milliseconds */
export function secondsText(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

/** @param {any} answer of a search @returns {Page} */
export function pageOf(answer) {
  const rows = Array.isArray(answer?.data) ? answer.data : [];
  const lines = /** @type {Line[]} */ (rows.map(lineOf).filter(Boolean));
  return { lines, next: typeof answer?.next_before === "string" ? answer.next_before : null };
}

/** @param {string} search the address's query @returns {{ wanted: Wanted, open: string | null }} */
export function readAddress(search) {
  const given = new URLSearchParams(search);
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, given.get(name)?.trim() ?? ""]).filter(([, value]) => value !== ""));
  return { wanted, open: given.get("open") || null };
}

/** @param {Wanted} wanted @param {string | null} open @returns {string} with its question mark; empty when there is nothing to say */
export function addressOf(wanted, open) {
  const said = new URLSearchParams(FILTERS.filter((name) => wanted[name]).map((name) => [name, wanted[name]]));
  if (open) said.set("open", open);
  return said.size > 0 ? `?${said}` : "";
}

/**
 * The query of a search or a watch. A day is the reader's own.
 * @param {Wanted} wanted @param {Record<string, string>} [more]
 */
export function queryOf(wanted, more = {}) {
  const { from, ...rest } = wanted;
  const begun = from ? new Date(`${from}T00:00`) : null;
  const since = begun && !Number.isNaN(begun.getTime()) ? { from: begun.toISOString() } : {};
  return new URLSearchParams({ ...rest, ...since, ...more }).toString();
}

/**
 * The column is UTC and does not say so.
 * @param {unknown} value
 */
export function momentOf(value) {
  if (typeof value !== "string") return 0;
  const moment = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(value) ? value : `${value.replace(" ", "T")}Z`);
  return Number.isNaN(moment) ? 0 : moment;
}

/**
 * The time of the day; of another day, that as well.
 * @param {number} at @param {number} now
 */
export function timeOf(at, now) {
  if (at === 0) return "–";
  const moment = new Date(at);
  const time = moment.toLocaleTimeString("en-GB");
  const isToday = moment.toDateString() === new Date(now).toDateString();
  return isToday ? time : `${moment.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time.slice(0, 5)}`;
}

/**
 * What is told about how new ones come, for eyes and ears.
 * @param {State} state
 */
export function standingText(state) {
  if (state.isPaused && (state.standing === "live" || state.standing === "connecting")) return "Paused";
  return {
    signed_out: "Not signed in", connecting: "Connecting…", live: "Watching", paused: "Paused", searching: "Search",
    away: "The database is away; what is said meanwhile comes when it is back", lost: "Connection lost; trying again…",
    ended: "Ended",
  }[state.standing];
}

const ENDS = new Map(OUTCOMES);

/**
 * How an answer ended, in words.
 * @param {string} outcome
 */
export function outcomeText(outcome) {
  return ENDS.get(/** @type {any} */ (outcome)) ?? outcome;
}

/** @param {unknown} value */
function text(value) {
  return typeof value === "string" ? value : "";
}
