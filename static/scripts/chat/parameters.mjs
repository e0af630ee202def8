// @ts-check
// The sampling parameters that a user can set, and the built-in use cases. Pure.

/** @typedef {{ id: string, name: string, prompt: string, description: string }} UseCase */
/** @typedef {{ name: string, label: string, min: number, max: number, step: number, initial: number | null, help: string }} Parameter */
/** @typedef {Record<string, number>} ParameterValues only the parameters that the user has set: the model has defaults for the others */

/** @type {Parameter[]} */
export const PARAMETERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.1, initial: 1,
    help: "How freely words are chosen. Low for facts and code, high for ideas." },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: 0.05, initial: 1,
    help: "Only the likeliest words that together reach this share are considered. Change this or the temperature, not both." },
  { name: "presence_penalty", label: "Presence penalty", min: 0, max: 2, step: 0.1, initial: 0,
    help: "Higher values make the model turn to new subjects." },
  { name: "frequency_penalty", label: "Frequency penalty", min: 0, max: 2, step: 0.1, initial: 0,
    help: "Higher values keep the model from repeating the same words." },
  { name: "max_tokens", label: "Max tokens", min: 1, max: 1_000_000, step: 1, initial: null,
    help: "The longest answer, in tokens; 1,000 tokens are about 750 English words. Empty: as long as the model likes." },
];

/** @type {UseCase[]} */
export const USE_CASES = [
  { id: "assistant", name: "Default assistant", prompt: "You are a helpful assistant.",
    description: "For anything." },
  { id: "coding", name: "Coding assistant",
    prompt: "You are an experienced software engineer. Answer with working code in fenced blocks that name their language. " +
      "Keep explanations short, name the assumptions you make, and point out errors and security problems that you see.",
    description: "Writes, explains and reviews code." },
  { id: "security", name: "Security investigator",
    prompt: "You are an investigator in a security operations centre. Help to analyse alerts, logs, mails and code. Say what is " +
      "evidence and what is assumption, how severe a finding is, and which steps should come next. Never run or " +
      "complete harmful code; explain it instead.",
    description: "Analyses alerts, logs and suspicious mails." },
];

/**
 * @param {string} name
 * @param {string} text
 * @returns {number | null} the value within the parameter's range; null: the text is not a number
 */
export function parseValue(name, text) {
  const parameter = PARAMETERS.find((each) => each.name === name);
  const value = text.trim() === "" ? NaN : Number(text);
  if (!parameter || !Number.isFinite(value)) return null;
  const inRange = Math.min(Math.max(value, parameter.min), parameter.max);
  return parameter.step === 1 ? Math.round(inRange) : Math.round(inRange * 100) / 100;
}

/**
 * The fields of a request's body. Newer models of OpenAI refuse `max_tokens` and take `max_completion_tokens`.
 * @param {string} model
 * @param {ParameterValues} values
 */
export function parameterFields(model, values) {
  const { max_tokens: limit, ...fields } = values;
  if (limit === undefined) return fields;
  const name = /^(.*\/)?(o\d|gpt-5)/.test(model) ? "max_completion_tokens" : "max_tokens";
  return { ...fields, [name]: limit };
}

/**
 * @param {unknown} list of a configuration
 * @returns {UseCase[]} the valid ones
 */
export function readUseCases(list) {
  if (!Array.isArray(list)) return [];
  return list
    .filter((each) => typeof each?.name === "string" && each.name !== "" && typeof each?.prompt === "string")
    .map(({ id, name, prompt, description }) => ({
      id: typeof id === "string" ? id : name, name, prompt, description: typeof description === "string" ? description : "",
    }));
}

/**
 * @param {unknown} values from the browser's storage
 * @returns {ParameterValues} the valid ones
 */
export function parseValues(values) {
  const stored = /** @type {Record<string, unknown>} */ (values && typeof values === "object" ? values : {});
  /** @type {ParameterValues} */
  const valid = {};
  for (const { name } of PARAMETERS) {
    const value = typeof stored[name] === "number" ? parseValue(name, String(stored[name])) : null;
    if (value !== null) valid[name] = value;
  }
  return valid;
}
