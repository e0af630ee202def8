// @ts-check
// Reads the messages of OpenAI's Chat Completions as events. Pure.

/** @typedef {{ prompt: number, completion: number }} Usage in tokens */

/**
 * @typedef {{ kind: "text", text: string }
 *   | { kind: "reasoning", text: string }
 *   | { kind: "model", model: string }
 *   | { kind: "finish", reason: string }
 *   | { kind: "usage", usage: Usage }} CompletionEvent
 */

/**
 * The events of a whole completion, in the order in which a stream has them.
 * @param {any} completion
 * @returns {CompletionEvent[]}
 */
export function readCompletion(completion) {
  const choice = Array.isArray(completion?.choices) ? completion.choices[0] : null;
  const events = messageEvents(choice?.message);
  if (typeof completion?.model === "string") events.push({ kind: "model", model: completion.model });
  if (typeof choice?.finish_reason === "string") events.push({ kind: "finish", reason: choice.finish_reason });
  return [...events, ...usageEvents(completion?.usage)];
}

/**
 * @param {any} message or the delta of one
 * @returns {CompletionEvent[]}
 */
export function messageEvents(message) {
  const reasoning = [message?.reasoning_content, message?.reasoning].find((each) => typeof each === "string" && each !== "");
  const text = [contentText(message?.content), contentText(message?.refusal)].join("");
  return [
    .../** @type {CompletionEvent[]} */ (reasoning ? [{ kind: "reasoning", text: reasoning }] : []),
    .../** @type {CompletionEvent[]} */ (text ? [{ kind: "text", text }] : []),
  ];
}

/**
 * @param {any} usage
 * @returns {CompletionEvent[]}
 */
export function usageEvents(usage) {
  const { prompt_tokens: prompt, completion_tokens: completion } = usage ?? {};
  return Number.isFinite(prompt) && Number.isFinite(completion) ? [{ kind: "usage", usage: { prompt, completion } }] : [];
}

/**
 * The text of a message's content, which is a string or a list of parts.
 * @param {unknown} content
 * @returns {string}
 */
export function contentText(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part?.text === "string" ? part.text : part?.image_url ? "[image]" : "")).join("\n").trim();
}

/**
 * The text of an answer of OpenAI's Responses API.
 * @param {any} response
 * @returns {string}
 */
export function responsesText(response) {
  const items = Array.isArray(response?.output) ? response.output : [];
  return items.map((/** @type {any} */ item) => contentText(item?.content)).filter(Boolean).join("\n");
}
