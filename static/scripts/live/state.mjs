// @ts-check
// The state of the live page, and its reducer: `(state, action) → state`. Pure.

/** @typedef {import("./interactions.mjs").Interaction} Interaction */
/** @typedef {import("./interactions.mjs").RunningAnswer} RunningAnswer */
/** @typedef {import("./interactions.mjs").Page} Page */
/** @typedef {import("./address.mjs").Filters} Filters */
/** @typedef {import("./turns.mjs").Conversation} Conversation */

/** @typedef {"signed_out" | "connecting" | "live" | "searching" | "database_down" | "lost"} Status of the event stream */

/**
 * @typedef {object} State
 * @property {Status} status
 * @property {Filters} filters
 * @property {Interaction[]} interactions newest first
 * @property {Interaction[]} waiting newest first: they arrived while the user had paused or scrolled down
 * @property {RunningAnswer[]} running oldest first
 * @property {string | null} next cursor of the next page
 * @property {"loading" | "loaded" | "failed"} search
 * @property {string} error for the user
 * @property {boolean} isLinkNeeded the gateway has no sign-in: only a one-time link opens this page
 * @property {boolean} isPaused
 * @property {boolean} isScrolled the newest interactions are out of view
 * @property {string | null} open the interaction whose conversation is open
 * @property {Conversation | null} conversation null: it is loading
 */

/**
 * @typedef {{ type: "filtered", filters: Filters }
 *   | { type: "search_loaded", page: Page, isMore: boolean }
 *   | { type: "search_failed", error: string }
 *   | { type: "arrived", interaction: Interaction }
 *   | { type: "running", running: RunningAnswer[] }
 *   | { type: "status", status: Status, error?: string, isLinkNeeded?: boolean }
 *   | { type: "paused", isPaused: boolean }
 *   | { type: "scrolled", isScrolled: boolean }
 *   | { type: "revealed" }
 *   | { type: "opened", id: string | null }
 *   | { type: "conversation", id: string, conversation: Conversation }} Action
 */

const MAX_INTERACTIONS = 1000; // on the page; a search finds older ones
const LATE_MS = 60_000;

/** @param {Filters} filters @param {string | null} open @returns {State} */
export function initialState(filters, open) {
  return {
    status: "connecting", filters, interactions: [], waiting: [], running: [], next: null, search: "loading", error: "",
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
    case "filtered":
      return { ...state, filters: action.filters, interactions: [], waiting: [], running: [], next: null, search: "loading", error: "" };
    case "search_loaded":
      return withPage(state, action.page, action.isMore);
    case "search_failed":
      return { ...state, search: "failed", error: action.error };
    case "arrived":
      return withArrival(state, action.interaction);
    case "running":
      return { ...state, running: action.running };
    case "status":
      return { ...withStatus(state, action.status, action.error), isLinkNeeded: action.isLinkNeeded ?? false };
    case "paused":
      return revealUnlessHeld({ ...state, isPaused: action.isPaused });
    case "scrolled":
      return revealUnlessHeld({ ...state, isScrolled: action.isScrolled });
    case "revealed":
      return reveal(state);
    case "opened":
      return { ...state, open: action.id, conversation: null };
    case "conversation":
      return action.id === state.open ? { ...state, conversation: action.conversation } : state;
  }
}

/**
 * Adds the page below the interactions that have arrived meanwhile. Those that are already shown keep their place.
 * @param {State} state @param {Page} page @param {boolean} isMore
 * @returns {State}
 */
function withPage(state, page, isMore) {
  const ids = new Set([...state.interactions, ...state.waiting].map((each) => each.id));
  const added = page.interactions.filter((each) => !ids.has(each.id));
  const missed = isMore ? [] : added.filter((each) => each.at > (state.interactions[0]?.at ?? Infinity));
  const interactions = [...missed, ...state.interactions, ...added.filter((each) => !missed.includes(each))];
  const next = isMore || state.next === null || state.interactions.length === 0 ? page.next : state.next;
  return { ...state, interactions, next, search: "loaded", error: "" };
}

/**
 * Without the event stream, the running answers are unknown.
 * @param {State} state @param {Status} status @param {string} [error]
 * @returns {State}
 */
function withStatus(state, status, error) {
  const running = status === "live" || status === "database_down" ? state.running : [];
  return { ...state, status, running, error: error ?? (status === "live" ? "" : state.error) };
}

/** @param {State} state @param {Interaction} interaction @returns {State} */
function withArrival(state, interaction) {
  if ([...state.waiting, ...state.interactions].some((each) => each.id === interaction.id)) return state;
  const isLate = interaction.at < (state.waiting[0] ?? state.interactions[0])?.at - LATE_MS;
  const waiting = [{ ...interaction, isNew: true, isLate }, ...state.waiting].slice(0, MAX_INTERACTIONS);
  return revealUnlessHeld({ ...state, waiting });
}

/** @param {State} state */
function revealUnlessHeld(state) {
  return state.isPaused || state.isScrolled ? state : reveal(state);
}

/** @param {State} state @returns {State} */
function reveal(state) {
  if (state.waiting.length === 0) return state;
  return { ...state, interactions: [...state.waiting, ...state.interactions].slice(0, MAX_INTERACTIONS), waiting: [] };
}

/**
 * @param {State} state
 * @returns {string} the status of the event stream for users
 */
export function statusText(state) {
  if (state.isPaused && (state.status === "live" || state.status === "connecting")) return "Paused";
  return {
    signed_out: "Not signed in", connecting: "Connecting…", live: "Watching", searching: "Search",
    database_down: "The database is away; what is said meanwhile comes when it is back", lost: "Connection lost; trying again…",
  }[state.status];
}
