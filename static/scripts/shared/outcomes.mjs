// @ts-check
// How a call ended, and what the company's policy did to it: the gateway's values and their labels. Pure.

/** @typedef {{ verdict: "masked" | "redirected" | "rejected" | "changed", detail: string }} PolicyResult `detail` names the rules */

export const OUTCOMES = /** @type {const} */ ([
  ["complete", "Complete"], ["truncated", "Broken off by the model"], ["upstream_error", "Failed by the model"],
  ["client_cancelled", "Stopped by the user"], ["policy_blocked", "Refused by policy"], ["interrupted", "Gateway ended"],
  ["refused", "Refused by the gateway"],
]);

export const POLICY_OUTCOMES = /** @type {const} */ ([["masked", "Masked"], ["redirected", "Redirected"], ["rejected", "Refused"]]);

/** @type {Map<string, string>} */
const LABELS = new Map(OUTCOMES);
/** @type {Map<string, string>} */
const POLICY_LABELS = new Map([...POLICY_OUTCOMES, ["changed", "Changed"]]);

/** @param {string} outcome @returns {string} its label */
export function outcomeText(outcome) {
  return LABELS.get(outcome) ?? outcome;
}

/** @param {string} outcome of the policy @returns {string} its label */
export function policyText(outcome) {
  return POLICY_LABELS.get(outcome) ?? outcome;
}

/**
 * @param {unknown} outcome from a response header or a row
 * @param {unknown} rules one text, or a list of names
 * @returns {PolicyResult | null} null: the policy changed nothing
 */
export function policyResult(outcome, rules) {
  const verdict = typeof outcome === "string" ? outcome.trim().toLowerCase() : "";
  if (verdict === "" || verdict === "allow" || verdict === "allowed") return null;
  const detail = Array.isArray(rules) ? rules.join(", ") : typeof rules === "string" ? rules : "";
  if (verdict.startsWith("mask")) return { verdict: "masked", detail };
  if (verdict.startsWith("redirect")) return { verdict: "redirected", detail };
  return { verdict: verdict.startsWith("reject") ? "rejected" : "changed", detail };
}
