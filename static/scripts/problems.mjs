// @ts-check
// What went wrong, in words for a person, with what to do next. Pure.

/**
 * @typedef {object} Problem
 * @property {string} title what happened
 * @property {string} advice what to do next
 * @property {string} detail the gateway's or the model's own words, if there are any
 */

/** @typedef {{ message?: unknown, code?: unknown, type?: unknown }} ErrorBody */

const AGAIN = "Try again in a moment.";

/** @type {Record<string, [string, string]>} by the gateway's own error codes, which say more than a status */
const BY_CODE = {
  upstream_unreachable: ["The model cannot be reached.", "Check the address that the gateway is set to, or try again."],
  upstream_timeout: ["The model stayed silent for too long.", AGAIN],
  upstream_cut: ["The answer was cut off on the model's side.", "What you see is what arrived. Try again."],
  upstream_garbled: ["The model's side sent something that is not an answer.", "Check which address the gateway uses."],
  upstream_not_configured: ["No model is connected.", "Set OPENAI_API_KEY or LLM_ENDPOINT and start the gateway again."],
  journal_full: ["The gateway has no room to keep a record, so it sends nothing.", "Tell whoever runs it: the disk is full."],
  policy_rejected: ["Your company's policy does not allow this message.", "Change it and send it again."],
  shutting_down: ["The gateway is stopping.", "Try again when it is back."],
  demo_only_chats: ["The demo model cannot do that.", "Connect a real model first."],
  context_length_exceeded: ["The conversation is too long for this model.", "Start a new chat."],
};

/** @type {Record<number, [string, string]>} */
const BY_STATUS = {
  400: ["The request was not understood.", "If you changed the model's name, check it; otherwise start a new chat."],
  401: ["The key was not accepted.", "Check OPENAI_API_KEY or LLM_API_AUTHORIZATION of the gateway."],
  403: ["This is not allowed with the gateway's key.", "Choose another model, or ask whoever runs the gateway."],
  404: ["The model's side knows no such model or address.", "Choose another model above."],
  413: ["The conversation is too large to send.", "Start a new chat."],
  429: ["Too many requests, or the account's quota is used up.", "Wait a little, then try again."],
};

/**
 * From an answer that is an error: its status and its body as text.
 * @param {number} status
 * @param {string} body
 * @returns {Problem}
 */
export function problemOfAnswer(status, body) {
  const error = errorIn(body);
  const known = BY_CODE[String(error?.code)] ?? BY_STATUS[status];
  const [title, advice] = known ?? (status >= 500 ? ["The model's side failed.", AGAIN] : ["That did not work.", AGAIN]);
  return { title, advice, detail: detailOf(error) || `HTTP ${status}` };
}

/**
 * From an error event in a stream that had begun well.
 * @param {unknown} error
 * @returns {Problem}
 */
export function problemOfEvent(error) {
  const body = /** @type {ErrorBody} */ (typeof error === "object" && error !== null ? error : { message: error });
  const [title, advice] = BY_CODE[String(body.code)] ?? ["The answer ended with an error.", "Try again."];
  return { title, advice, detail: detailOf(body) };
}

/** @returns {Problem} for a request that never came through, or whose connection broke */
export function problemOfNetwork() {
  return { title: "The gateway cannot be reached.", advice: "Is it still running? Then try again.", detail: "" };
}

/** @returns {Problem} for a stream that stopped before its own last word */
export function problemOfCut() {
  return { title: "The answer was cut off.", advice: "What you see is what arrived. Try again.", detail: "" };
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
    return null; // HTML of a proxy, or nothing
  }
}

/**
 * @param {ErrorBody | null} error
 * @returns {string}
 */
function detailOf(error) {
  return typeof error?.message === "string" ? error.message.slice(0, 500) : "";
}
