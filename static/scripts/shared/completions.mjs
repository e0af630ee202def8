// @ts-check
// The dialect of chat completions and of /v1/models, as far as the page speaks it. Pure.

import { parameterFields } from "../chat/parameters.mjs";
import { problemOfEvent } from "../chat/problems.mjs";

/** @typedef {import("../chat/problems.mjs").Problem} Problem */
/** @typedef {import("../chat/chats.mjs").Message} Message */
/** @typedef {{ role: string, content: unknown }} WireMessage */
/** @typedef {{ prompt: number, completion: number }} Usage */
/** @typedef {{ ids: string[], isDemo: boolean }} Models */
/** @typedef {{ verdict: "masked" | "redirected" | "rejected" | "changed", detail: string }} Policy */

/**
 * One thing that was said of an answer.
 * @typedef {{ kind: "begun", interaction: string | null, conversation: string | null, policy: Policy | null }
 *   | { kind: "text", text: string }
 *   | { kind: "thought", text: string }
 *   | { kind: "model", model: string }
 *   | { kind: "reason", reason: string }
 *   | { kind: "usage", usage: Usage }
 *   | { kind: "problem", problem: Problem }
 *   | { kind: "done" }} Said
 */

/**
 * @param {{ model: string, messages: WireMessage[], values: import("../chat/parameters.mjs").Values, root: string | null }} asked
 * @returns {string} the body of a streamed request
 */
export function requestBody({ model, messages, values, root }) {
  const fields = parameterFields(model, values);
  const own = root === null ? {} : { root_id: root };
  return JSON.stringify({ model, messages, ...fields, stream: true, stream_options: { include_usage: true }, ...own });
}

/**
 * The conversation as it goes to the model: answers of which nothing arrived are left out.
 * @param {string} instructions
 * @param {Message[]} path
 * @returns {WireMessage[]}
 */
export function wireMessages(instructions, path) {
  const said = path
    .filter((message) => message.role === "user" || message.content !== undefined || message.text !== "")
    .map((message) => /** @type {WireMessage} */ (
      message.role === "other" ? message.content : { role: message.role, content: message.content ?? message.text }
    ));
  return instructions.trim() === "" ? said : [{ role: "system", content: instructions }, ...said];
}

/**
 * What one event's data says; an event that is no JSON object says nothing, unless it is an error.
 * @param {string} data
 * @param {string} [type] the event's name
 * @returns {Said[]}
 */
export function readChunk(data, type = "message") {
  if (data === "[DONE]") return [{ kind: "done" }];
  const chunk = parseObject(data);
  if (!chunk) return type === "error" ? [{ kind: "problem", problem: problemOfEvent(data) }] : [];
  /** @type {Said[]} */
  const said = [];
  const choice = Array.isArray(chunk.choices) ? chunk.choices.find((/** @type {any} */ each) => !each?.index) : null;
  said.push(...wordsOf(choice?.delta));
  const error = errorOf(chunk, type);
  if (error) return [...said, { kind: "problem", problem: problemOfEvent(error) }];
  if (typeof choice?.finish_reason === "string") said.push({ kind: "reason", reason: choice.finish_reason });
  said.push(...countsOf(chunk.usage));
  return said;
}

/**
 * The error that an event reports, in any form that upstreams have; the gateway records the same ones.
 * @param {any} chunk
 * @param {string} type
 * @returns {unknown} falsy: it reports none
 */
function errorOf(chunk, type) {
  if (chunk.error) return chunk.error;
  if (type === "error" || chunk.type === "error" || chunk.object === "error") return chunk;
  if (Array.isArray(chunk.choices)) {
    const failed = chunk.choices.find((/** @type {any} */ each) => each?.error || each?.finish_reason === "error");
    return failed && (failed.error || chunk);
  }
  if (chunk.detail || chunk.errors) return { message: JSON.stringify(chunk.detail || chunk.errors) };
  const isFault = ![undefined, null, "", 0, "0", 200, "200"].includes(chunk.code) && typeof chunk.message === "string";
  return isFault && chunk;
}

/**
 * What a whole completion says, in the order in which a stream would.
 * @param {any} completion
 * @returns {Said[]}
 */
export function readCompletion(completion) {
  const choice = Array.isArray(completion?.choices) ? completion.choices[0] : null;
  /** @type {Said[]} */
  const said = wordsOf(choice?.message);
  if (typeof completion?.model === "string") said.push({ kind: "model", model: completion.model });
  if (typeof choice?.finish_reason === "string") said.push({ kind: "reason", reason: choice.finish_reason });
  return [...said, ...countsOf(completion?.usage)];
}

/**
 * @param {any} words a delta or a message
 * @returns {Said[]}
 */
function wordsOf(words) {
  const thought = [words?.reasoning_content, words?.reasoning].find((each) => typeof each === "string" && each !== "");
  const text = [textOf(words?.content), textOf(words?.refusal)].join("");
  return [
    .../** @type {Said[]} */ (thought ? [{ kind: "thought", text: thought }] : []),
    .../** @type {Said[]} */ (text ? [{ kind: "text", text }] : []),
  ];
}

/**
 * @param {any} usage
 * @returns {Said[]}
 */
function countsOf(usage) {
  const { prompt_tokens: prompt, completion_tokens: completion } = usage ?? {};
  return Number.isFinite(prompt) && Number.isFinite(completion) ? [{ kind: "usage", usage: { prompt, completion } }] : [];
}

/**
 * The text of a message's content: a string, or the parts of a list that have one.
 * @param {unknown} content
 * @returns {string}
 */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part?.text === "string" ? part.text : part?.image_url ? "[image]" : "")).join("\n").trim();
}

/**
 * What the company's policy did, as the gateway's answer says in its headers.
 * @param {Headers} headers
 * @returns {Policy | null}
 */
export function readPolicy(headers) {
  return policyOf(headers.get("x-policy-outcome"), headers.get("x-policy-rule"));
}

/**
 * What the company's policy did, as headers or rows say: nothing, or it masked, redirected or refused.
 * @param {unknown} outcome
 * @param {unknown} rules by which it did so: one text, or a list
 * @returns {Policy | null}
 */
export function policyOf(outcome, rules) {
  const verdict = typeof outcome === "string" ? outcome.trim().toLowerCase() : "";
  if (verdict === "" || verdict === "allow" || verdict === "allowed") return null;
  const detail = Array.isArray(rules) ? rules.join(", ") : typeof rules === "string" ? rules : "";
  if (verdict.startsWith("mask")) return { verdict: "masked", detail };
  if (verdict.startsWith("redirect")) return { verdict: "redirected", detail };
  return { verdict: verdict.startsWith("reject") ? "rejected" : "changed", detail };
}

/**
 * @param {string} body
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
 * The model to begin with: the first that is likely to chat.
 * @param {string[]} ids
 * @returns {string}
 */
export function firstChoice(ids) {
  return ids.find((id) => !NOT_FOR_CHAT.test(id)) ?? ids[0] ?? "";
}

/**
 * @param {string} text
 * @returns {any} an object, or null
 */
export function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
