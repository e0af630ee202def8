// @ts-check
// OpenAI's Chat Completions and Models APIs as the chat page uses them: request body, stream chunks, list of models. Pure.

import { messageEvents, usageEvents } from "../shared/completions.mjs";
import { parseObject } from "../shared/values.mjs";
import { parameterFields } from "./parameters.mjs";
import { streamProblem } from "./problems.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {import("./chats.mjs").Message} Message */
/** @typedef {import("../shared/completions.mjs").CompletionEvent} CompletionEvent */
/** @typedef {import("../shared/outcomes.mjs").PolicyResult} PolicyResult */
/** @typedef {{ role: string, content: unknown }} WireMessage */
/** @typedef {{ ids: string[], isDemo: boolean }} Models */

/**
 * An event of a streamed answer; a complete answer is read as the same events.
 * @typedef {CompletionEvent
 *   | { kind: "started", interaction: string | null, conversation: string | null, policy: PolicyResult | null }
 *   | { kind: "problem", problem: Problem }
 *   | { kind: "done" }} AnswerEvent
 */

/**
 * @param {{ model: string, messages: WireMessage[], values: import("./parameters.mjs").ParameterValues, root: string | null }} chat
 * @returns {string} the body of a streamed request
 */
export function requestBody({ model, messages, values, root }) {
  const fields = parameterFields(model, values);
  const ids = root === null ? {} : { root_id: root };
  return JSON.stringify({ model, messages, ...fields, stream: true, stream_options: { include_usage: true }, ...ids });
}

/**
 * The messages of a request. Answers without content are left out.
 * @param {string} instructions
 * @param {Message[]} path
 * @returns {WireMessage[]}
 */
export function wireMessages(instructions, path) {
  const messages = path
    .filter((message) => message.role === "user" || message.content !== undefined || message.text !== "")
    .map((message) => /** @type {WireMessage} */ (
      message.role === "other" ? message.content : { role: message.role, content: message.content ?? message.text }
    ));
  return instructions.trim() === "" ? messages : [{ role: "system", content: instructions }, ...messages];
}

/**
 * The events of one chunk. Data that is not a JSON object has none, unless the server marks it as an error.
 * @param {string} data
 * @param {string} [type] the name of the server-sent event
 * @returns {AnswerEvent[]}
 */
export function readChunk(data, type = "message") {
  if (data === "[DONE]") return [{ kind: "done" }];
  const chunk = parseObject(data);
  if (!chunk) return type === "error" ? [{ kind: "problem", problem: streamProblem(data) }] : [];
  const choice = Array.isArray(chunk.choices) ? chunk.choices.find((/** @type {any} */ each) => !each?.index) : null;
  /** @type {AnswerEvent[]} */
  const events = messageEvents(choice?.delta);
  const error = errorOf(chunk, type);
  if (error) return [...events, { kind: "problem", problem: streamProblem(error) }];
  if (typeof choice?.finish_reason === "string") events.push({ kind: "finish", reason: choice.finish_reason });
  return [...events, ...usageEvents(chunk.usage)];
}

/**
 * The error that a chunk reports, in any form that upstreams use. The gateway records the same forms.
 * @param {any} chunk
 * @param {string} type
 * @returns {unknown} falsy: the chunk reports no error
 */
function errorOf(chunk, type) {
  if (chunk.error) return chunk.error;
  if (type === "error" || chunk.type === "error" || chunk.object === "error") return chunk;
  if (Array.isArray(chunk.choices)) {
    const failed = chunk.choices.find((/** @type {any} */ each) => each?.error || each?.finish_reason === "error");
    return failed && (failed.error || chunk);
  }
  if (chunk.detail || chunk.errors) return { message: JSON.stringify(chunk.detail || chunk.errors) };
  const isError = ![undefined, null, "", 0, "0", 200, "200"].includes(chunk.code) && typeof chunk.message === "string";
  return isError && chunk;
}

/**
 * @param {string} body of a list of models
 * @returns {Models}
 */
export function readModels(body) {
  const list = parseObject(body)?.data;
  const models = (Array.isArray(list) ? list : []).filter((each) => typeof each?.id === "string");
  const isDemo = models.length === 1 && models[0].id === "demo" && models[0].owned_by === "llm-gateway";
  return { ids: models.map((each) => each.id), isDemo };
}

const NOT_FOR_CHAT = /embed|whisper|tts|dall-e|image|moderation|audio|realtime|transcribe|speech|sora|babbage|davinci/i;

/**
 * @param {string[]} ids
 * @returns {string} the first model that is likely to chat
 */
export function defaultModel(ids) {
  return ids.find((id) => !NOT_FOR_CHAT.test(id)) ?? ids[0] ?? "";
}
