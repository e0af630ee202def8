// @ts-check
// The dialect of /v1/chat/completions and /v1/models, as far as the page speaks it. Pure.

import { problemOfEvent } from "./problems.mjs";

/** @typedef {import("./problems.mjs").Problem} Problem */
/** @typedef {{ role: "user" | "assistant", content: string }} WireMessage */
/** @typedef {{ prompt: number, completion: number }} Usage */
/** @typedef {{ ids: string[], isDemo: boolean }} Models */

/**
 * One thing that a stream said.
 * @typedef {{ kind: "text", text: string }
 *   | { kind: "reason", reason: string }
 *   | { kind: "usage", usage: Usage }
 *   | { kind: "problem", problem: Problem }
 *   | { kind: "done" }} Said
 */

/**
 * @param {string} model
 * @param {WireMessage[]} messages
 * @returns {string} the body of a streamed request
 */
export function requestBody(model, messages) {
  return JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } });
}

/**
 * What one event's data says; an event that is no JSON object says nothing.
 * @param {string} data
 * @returns {Said[]}
 */
export function readChunk(data) {
  if (data === "[DONE]") return [{ kind: "done" }];
  const chunk = parseObject(data);
  if (!chunk) return [];
  if (chunk.error) return [{ kind: "problem", problem: problemOfEvent(chunk.error) }];
  /** @type {Said[]} */
  const said = [];
  const choice = Array.isArray(chunk.choices) ? chunk.choices.find((/** @type {any} */ each) => !each?.index) : null;
  const text = [choice?.delta?.content, choice?.delta?.refusal].filter((each) => typeof each === "string").join("");
  if (text) said.push({ kind: "text", text });
  if (typeof choice?.finish_reason === "string") said.push({ kind: "reason", reason: choice.finish_reason });
  const { prompt_tokens: prompt, completion_tokens: completion } = chunk.usage ?? {};
  if (Number.isFinite(prompt) && Number.isFinite(completion)) said.push({ kind: "usage", usage: { prompt, completion } });
  return said;
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
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
