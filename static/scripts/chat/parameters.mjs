// @ts-check
// What a person may set for a chat, each with its explanation; and the use cases that the page knows by itself. Pure.

/** @typedef {{ id: string, name: string, prompt: string, description: string }} UseCase */
/** @typedef {{ name: string, label: string, low: number, high: number, step: number, usual: number | null, help: string }} Parameter */
/** @typedef {Record<string, number>} Values those that were set; what is not is left to the model */

/** @type {Parameter[]} */
export const PARAMETERS = [
  { name: "temperature", label: "Temperature", low: 0, high: 2, step: 0.1, usual: 1,
    help: "How freely words are chosen. Low for facts and code, high for ideas." },
  { name: "top_p", label: "Top P", low: 0, high: 1, step: 0.05, usual: 1,
    help: "Only the likeliest words that together reach this share are considered. Change this or the temperature, not both." },
  { name: "presence_penalty", label: "Presence penalty", low: 0, high: 2, step: 0.1, usual: 0,
    help: "Higher values make the model turn to new subjects." },
  { name: "frequency_penalty", label: "Frequency penalty", low: 0, high: 2, step: 0.1, usual: 0,
    help: "Higher values keep the model from repeating the same words." },
  { name: "max_tokens", label: "Max tokens", low: 1, high: 1_000_000, step: 1, usual: null,
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
 * The value as it may be sent, or null when it says nothing or is none.
 * @param {string} name
 * @param {string} text
 * @returns {number | null}
 */
export function readValue(name, text) {
  const parameter = PARAMETERS.find((each) => each.name === name);
  const value = text.trim() === "" ? NaN : Number(text);
  if (!parameter || !Number.isFinite(value)) return null;
  const kept = Math.min(Math.max(value, parameter.low), parameter.high);
  return parameter.step === 1 ? Math.round(kept) : Math.round(kept * 100) / 100;
}

/**
 * As the body of a request has them. Newer models of OpenAI know the limit by another name, and refuse the old one.
 * @param {string} model
 * @param {Values} values
 */
export function parameterFields(model, values) {
  const { max_tokens: most, ...fields } = values;
  if (most === undefined) return fields;
  const name = /^(.*\/)?(o\d|gpt-5)/.test(model) ? "max_completion_tokens" : "max_tokens";
  return { ...fields, [name]: most };
}

/**
 * From what somebody else wrote down: a configuration, or what an older page has kept.
 * @param {unknown} list
 * @returns {UseCase[]} none of them is wrong
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
 * @param {unknown} values
 * @returns {Values}
 */
export function readValues(values) {
  const given = /** @type {Record<string, unknown>} */ (values && typeof values === "object" ? values : {});
  /** @type {Values} */
  const kept = {};
  for (const { name } of PARAMETERS) {
    const value = typeof given[name] === "number" ? readValue(name, String(given[name])) : null;
    if (value !== null) kept[name] = value;
  }
  return kept;
}
