// @ts-check
// Error messages for users: what happened, and what to do next. Pure.

/**
 * @typedef {object} Problem
 * @property {string} title what happened
 * @property {string} advice what to do next
 * @property {string} detail the message of the gateway or the model, if any
 * @property {"retry" | "sign_in" | "edit" | "new_chat"} [action] the button that follows the advice; `retry` by default
 */

/** @typedef {{ message?: unknown, code?: unknown, type?: unknown }} ErrorBody */
/** @typedef {[title: string, advice: string, action?: Problem["action"]]} Words */

const AGAIN = "Try again in a moment.";
/** @type {Words} */
const NOT_SIGNED_IN = ["You are not signed in, or no longer.", "Sign in with a key or token, then try again.", "sign_in"];

/** @type {Record<string, Words>} by the gateway's error codes, which are more precise than the status */
const BY_CODE = {
  upstream_unreachable: ["The model cannot be reached.", "Check the address that the gateway is set to, or try again."],
  upstream_timeout: ["The model stayed silent for too long.", AGAIN],
  upstream_cut: ["The answer was cut off on the model's side.", "What you see is what arrived. Try again."],
  truncated: ["The answer was cut off on the model's side.", "What you see is what arrived. Try again."],
  upstream_garbled: ["The model's side sent something that is not an answer.", "Check which address the gateway uses."],
  upstream_error: ["The model's side failed.", AGAIN],
  upstream_not_configured: ["No model is connected.", "Set OPENAI_API_KEY or LLM_ENDPOINT and start the gateway again."],
  interrupted: ["The gateway stopped in the middle of the answer.", "What you see is what was kept of it. Try again."],
  journal_full: ["The gateway has no room to keep a record, so it sends nothing.", "Tell whoever runs it: the disk is full."],
  store_unavailable: ["The gateway cannot reach its database.", "Chats go on and are kept; the history comes back with the database."],
  policy_rejected: ["Your company's policy does not allow this message.", "Change it and send it again.", "edit"],
  policy_blocked: ["Your company's policy does not allow this message.", "Change it and send it again.", "edit"],
  refused: ["The gateway refused this request.", "Choose another model, or ask whoever runs the gateway."],
  model_not_allowed: ["Your key may not use this model.", "Choose another model, or ask whoever runs the gateway."],
  too_many_keys: ["You have as many keys as one may have.", "Revoke one, or wait until they expire."],
  not_allowed: ["You are not allowed to do this.", "Choose another model, or ask whoever runs the gateway."],
  cross_origin: ["The gateway does not take requests from pages of this address.", "Whoever runs it can allow it (page.allowed_origins)."],
  identity_unavailable: ["The gateway cannot tell now who you are.", AGAIN],
  shutting_down: ["The gateway is stopping.", "Try again when it is back."],
  demo_only_chats: ["The demo model cannot do that.", "Connect a real model first."],
  context_length_exceeded: ["The conversation is too long for this model.", "Start a new chat.", "new_chat"],
};

/** @type {Record<number, Words>} */
const BY_STATUS = {
  400: ["The request was not understood.", "If you changed the model's name or its settings, check them; otherwise start a new chat."],
  401: ["The key was not accepted.", "Check OPENAI_API_KEY or LLM_API_AUTHORIZATION of the gateway."],
  403: ["This is not allowed with the gateway's key.", "Choose another model, or ask whoever runs the gateway."],
  404: ["The model's side knows no such model or address.", "Choose another model above."],
  413: ["The conversation is too large to send.", "Start a new chat.", "new_chat"],
  429: ["Too many requests, or the account's quota is used up.", "Wait a little, then try again."],
};

/**
 * The problem of an HTTP response with an error status.
 * @param {number} status
 * @param {string} body
 * @param {boolean} [isDirect] without a gateway: the user's key goes to the server
 * @returns {Problem}
 */
export function responseProblem(status, body, isDirect = false) {
  const error = errorIn(body);
  const isOurs = status === 401 && (isDirect || error?.type === "authentication_error");
  const ours = isOurs ? NOT_SIGNED_IN : (BY_CODE[String(error?.code)] ?? BY_STATUS[status]);
  /** @type {Words} */
  const words = ours ?? (status >= 500 ? ["The model's side failed.", AGAIN] : ["That did not work.", AGAIN]);
  return problem(words, detailOf(error) || `HTTP ${status}`);
}

/**
 * The problem of an error event in a stream.
 * @param {unknown} error
 * @returns {Problem}
 */
export function streamProblem(error) {
  const body = /** @type {ErrorBody} */ (typeof error === "object" && error !== null ? error : { message: error });
  return problem(BY_CODE[String(body.code)] ?? ["The answer ended with an error.", "Try again."], detailOf(body));
}

/**
 * The problem of an answer whose outcome is not `complete`.
 * @param {string} outcome
 * @param {string} detail
 */
export function outcomeProblem(outcome, detail) {
  return problem(BY_CODE[outcome] ?? ["The answer did not end well.", "Try again."], detail);
}

/** @returns {Problem} the request has no response, or its connection broke */
export function networkProblem() {
  return problem(["The gateway cannot be reached.", "Is it still running? Then try again."], "");
}

/** @returns {Problem} the stream has no end */
export function truncatedProblem() {
  return problem(["The answer was cut off.", "What you see is what arrived. Try again."], "");
}

/** @returns {Problem} recovery did not find the answer */
export function lostProblem() {
  return problem(["The connection was cut, and the rest of the answer could not be found.", "What you see is what arrived. Try again."], "");
}

/** @returns {Problem} the page is on a static host and has no endpoint */
export function noEndpointProblem() {
  return problem(["This page does not know which gateway to use.", "Enter its address.", "sign_in"], "");
}

/**
 * @param {Words} words
 * @param {string} detail
 * @returns {Problem}
 */
function problem([title, advice, action], detail) {
  return { title, advice, detail, action: action ?? "retry" };
}

/**
 * @param {string} body
 * @returns {ErrorBody | null}
 */
function errorIn(body) {
  try {
    const error = JSON.parse(body)?.error;
    return typeof error === "string" ? { message: error } : (error ?? null);
  } catch {
    return null; // a proxy's HTML, or an empty body
  }
}

/**
 * @param {ErrorBody | null} error
 * @returns {string}
 */
function detailOf(error) {
  return typeof error?.message === "string" ? error.message.slice(0, 500) : "";
}
