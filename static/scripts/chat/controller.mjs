// @ts-check
// The one controller: takes what a person does, asks the gateway, and turns both into actions on the state.

import { requestBody, wireMessages } from "../shared/completions.mjs";
import { emptyChat, isAnswering, lastOf, pathOf } from "./chats.mjs";
import { createGateway, Failure, readPageJson } from "./client.mjs";
import { chatOf } from "./history.mjs";
import { readValues } from "./parameters.mjs";
import { placeOf, programsUrl, readPageConfig, typedAddress } from "./config.mjs";
import { problemOfNetwork, problemOfNowhere } from "./problems.mjs";
import { pause, recover } from "./recovery.mjs";
import { draftOf, initialState, instructionsOf, isStreaming, reduce } from "./state.mjs";
import { tokenName } from "../shared/storage.mjs";

/** @typedef {import("./state.mjs").State} State */
/** @typedef {import("./state.mjs").Action} Action */
/** @typedef {import("./recovery.mjs").Recovered} Recovered */
/** @typedef {import("../shared/storage.mjs").Drawer} Drawer */
/** @typedef {ReturnType<typeof createController>} Actions what components may ask for */

const LISTED_SOON = [0.2, 0.5, 1, 2]; // s

/**
 * What the controller needs of its surroundings; tests have others.
 * @typedef {object} Surroundings
 * @property {import("./client.mjs").Send} [send]
 * @property {() => number} [now] milliseconds
 * @property {Drawer} lasting
 * @property {Drawer} passing
 * @property {string} [address] that the page's URL names
 * @property {string} [here] the page's own URL
 * @property {import("./recovery.mjs").Sleep} [sleep]
 */

/**
 * @param {(state: State) => void} show called after each change
 * @param {Surroundings} around
 */
export function createController(show, around) {
  const { send, now = () => performance.now(), lasting, passing, sleep = pause } = around;
  let state = initialState();
  let gateway = createGateway({ api: "gateway", base: "" }, "", send);
  /** @type {{ abort: AbortController, isStopped: boolean } | null} */
  let running = null;
  let searches = 0;
  let isEager = false;

  /** @param {Action} action */
  function dispatch(action) {
    state = reduce(state, action);
    show(state);
  }

  /** What a reload must not lose. */
  function keep() {
    passing.write("chat", state.chat.messages.length > 0 ? state.chat : null);
    passing.write("parked", state.parked);
    passing.write("drafts", state.drafts);
    lasting.write("choices", state.choices);
  }

  /** @param {Action} action */
  function keepDispatching(action) {
    dispatch(action);
    keep();
  }

  // --- answers ---

  /**
   * Hears an answer to its end, or until it is left.
   * @param {(signal: AbortSignal) => AsyncGenerator<Recovered>} tell
   * @param {number} began on the clock; NaN when that was before a reload
   */
  async function hear(tell, began) {
    const own = { abort: new AbortController(), isStopped: false };
    running = own;
    const seconds = () => (Number.isFinite(began) ? (now() - began) / 1000 : undefined);
    try {
      let status = /** @type {"complete" | "stopped"} */ ("complete");
      for await (const said of tell(own.abort.signal)) {
        if (own.isStopped) {
          if (said.kind === "begun" && said.interaction) stopAtGateway(said.interaction, own.abort);
          continue;
        }
        if (said.kind === "problem") keepDispatching({ type: "failed", problem: said.problem, seconds: seconds() });
        else if (said.kind === "restarted") dispatch({ type: "restarted" });
        else if (said.kind === "stopped") status = "stopped";
        else dispatch({ type: "said", said, seconds: seconds() ?? NaN });
        if (said.kind === "begun") keep();
      }
      if (!own.isStopped) keepDispatching({ type: "ended", status, seconds: seconds() });
    } catch (error) {
      if (own.abort.signal.aborted || own.isStopped) return;
      if (error instanceof Failure && error.status === 0 && state.place?.api === "gateway" && lastOf(state.chat)?.phase !== "recovering") {
        keepDispatching({ type: "recovering" });
        return void hear(recovery, began);
      }
      if (error instanceof Failure && error.problem.action === "sign_in") dispatch({ type: "dialog", dialog: { kind: "sign_in" } });
      keepDispatching({ type: "failed", problem: problemOf(error), seconds: seconds() });
    } finally {
      if (running === own) running = null;
    }
    void refreshUntilListed();
  }

  /** @param {AbortSignal} signal */
  function recovery(signal) {
    const answer = state.chat.messages.find((message) => message.status === "streaming");
    return recover(gateway, { interaction: answer?.interaction, body: state.chat.pending ?? "" }, signal, sleep);
  }

  /** @param {Action} action begins an answer, if the state allows it */
  function begin(action) {
    if (isStreaming(state)) return;
    dispatch(action);
    if (!isStreaming(state)) return;
    const path = pathOf(state.chat).slice(0, -1);
    const messages = wireMessages(instructionsOf(state), path);
    const root = state.place?.api === "gateway" ? state.chat.root : null;
    const body = requestBody({ model: state.model, messages, values: state.choices.values, root });
    keepDispatching({ type: "asked", body });
    void hear((signal) => gateway.chat(body, signal), now());
  }

  /**
   * @param {string} id
   * @param {AbortController} abort
   */
  function stopAtGateway(id, abort) {
    gateway.stop(id).catch(() => {}).finally(() => abort.abort()); // it may just have ended
  }

  function stop() {
    if (!running || !isStreaming(state)) return;
    const id = state.chat.messages.find((message) => message.status === "streaming")?.interaction;
    running.isStopped = true;
    if (state.place?.api !== "gateway") running.abort.abort();
    else if (id) stopAtGateway(id, running.abort);
    keepDispatching({ type: "ended", status: "stopped" }); // an answer without an id yet is stopped when it has one
  }

  /** Leaves what is running to the gateway, which finishes and keeps it. */
  function leave() {
    running?.abort.abort();
    running = null;
  }

  function reset() {
    leave();
    keepDispatching({ type: "reset" });
  }

  function recoverIfCut() {
    if (!isAnswering(state.chat)) return;
    if (state.place?.api !== "gateway") return keepDispatching({ type: "ended", status: "stopped" });
    dispatch({ type: "recovering" });
    void hear(recovery, NaN);
  }

  // --- history ---

  /** @param {{ query?: string, isMore?: boolean }} [wanted] */
  async function refreshHistory({ query = state.history.query, isMore = false } = {}) {
    if (state.history.status === "absent") return;
    const own = (searches += 1);
    const before = isMore ? state.history.next : null;
    dispatch({ type: "history_asked", query });
    try {
      const page = await gateway.history(query, before);
      if (own === searches) dispatch({ type: "history_known", rows: page.rows, next: page.next, isMore });
    } catch (error) {
      if (own === searches) dispatch({ type: "history_failed", problem: problemOf(error) });
    }
  }

  /** What has just been said stands in the gateway's database a moment later. */
  async function refreshUntilListed() {
    const { root, messages } = state.chat;
    const said = messages.findLast((message) => message.interaction)?.interaction;
    for (const seconds of LISTED_SOON) {
      await refreshHistory();
      const isListed = state.history.list.some((each) => each.root === root && (!said || each.row?.id === said));
      if (isListed || state.history.query || state.chat.root !== root || !root) return;
      await sleep(seconds, new AbortController().signal);
    }
    await refreshHistory();
  }

  /** @param {string} root */
  async function open(root) {
    if (root === state.chat.root) return;
    const row = state.history.list.find((each) => each.root === root)?.row;
    if (!row && !state.parked[root]) return;
    leave();
    keepDispatching({ type: "opened", chat: row ? chatOf(row, state.nextId) : { ...emptyChat(), root } });
    recoverIfCut();
  }

  /**
   * @param {() => Promise<void>} change
   */
  async function changing(change) {
    try {
      await change();
    } catch (error) {
      const problem = problemOf(error);
      dispatch({ type: "noticed", text: `${problem.title} ${problem.advice}` });
    }
  }

  // --- where and who ---

  /** @param {Action & { type: "page_known" }} known */
  async function connect(known) {
    const token = known.place ? (passing.read(tokenName(known.place.base)) ?? "") : "";
    gateway = createGateway(known.place ?? { api: "gateway", base: "" }, String(token), send);
    dispatch({ ...known, hasToken: token !== "" });
    if (!known.place) return dispatch({ type: "dialog", dialog: { kind: "sign_in" } });
    try {
      const models = await gateway.models();
      dispatch({ type: "models_known", ...models });
    } catch (error) {
      const isRefused = error instanceof Failure && error.problem.action === "sign_in";
      dispatch({ type: isRefused ? "models_refused" : "models_unknown" }); // many servers list none; then the name is typed
      if (isRefused) return dispatch({ type: "dialog", dialog: { kind: "sign_in" } });
      if (error instanceof Failure && error.status === 0) dispatch({ type: "noticed", text: `${error.problem.title} ${error.problem.advice}` });
    }
    recoverIfCut();
    if (isEager) begin({ type: "sent", text: draftOf(state) });
    isEager = false;
    await refreshHistory();
  }

  // --- keys ---

  async function listKeys() {
    dispatch({ type: "keys_known", list: await gateway.ownKeys() });
  }

  /** @param {() => Promise<void>} change */
  async function changingKeys(change) {
    dispatch({ type: "key_asked" });
    try {
      await change();
      await listKeys();
    } catch (error) {
      dispatch({ type: "keys_failed", problem: problemOf(error) });
    }
  }

  return {
    state: () => state,

    async start() {
      const choices = lasting.read("choices") ?? {};
      dispatch({
        type: "restored",
        chat: passing.read("chat") ?? emptyChat(), parked: passing.read("parked") ?? {}, drafts: passing.read("drafts") ?? {},
        choices: {
          model: String(choices.model ?? ""), useCase: String(choices.useCase ?? ""), values: readValues(choices.values),
          instructions: typeof choices.instructions === "string" ? choices.instructions : null,
        },
      });
      const page = readPageConfig(await readPageJson(send));
      const address = around.address ? typedAddress(around.address) : (lasting.read("address") ?? "");
      const place = page.place ?? (address ? placeOf(String(address)) : null);
      await connect({ type: "page_known", page, place, hasToken: false });
    },

    /**
     * Signs in, or out with an empty token.
     * @param {string} address of a page that has none of its own
     * @param {string} token
     * @returns {string} what is wrong with it
     */
    signIn(address, token) {
      const { page } = state;
      const typed = typedAddress(address);
      const place = page.isFixed ? page.place : typed ? placeOf(typed) : null;
      if (!place) return "Enter an address such as https://gateway.example or https://api.example/v1.";
      if (/[^\x21-\x7e]/.test(token.trim())) return "A key or token has no spaces or special characters.";
      if (!page.isFixed) lasting.write("address", typed);
      passing.write(tokenName(place.base), token.trim() || null);
      dispatch({ type: "dialog", dialog: null });
      void connect({ type: "page_known", page, place, hasToken: false });
      return "";
    },

    /** @param {string} text */
    send(text) {
      if (state.place === null && state.models !== "asking") return dispatch({ type: "noticed", text: `${problemOfNowhere().title} ${problemOfNowhere().advice}` });
      if (state.models === "asking") isEager = true; // sent as soon as it is known to whom
      else begin({ type: "sent", text });
    },
    /** @param {number} [id] */
    retry: (id) => begin({ type: "retried", id }),
    /** @param {number} id @param {string} text */
    edit: (id, text) => begin({ type: "edited", id, text }),
    /** @param {number} id */
    turnTo: (id) => keepDispatching({ type: "turned", id }),
    stop,
    reset,
    open,
    /** @param {string} model */
    chooseModel: (model) => keepDispatching({ type: "model_chosen", model }),
    /** @param {string} id */
    chooseUseCase: (id) => keepDispatching({ type: "use_case_chosen", id }),
    /** @param {string} text */
    changeInstructions: (text) => keepDispatching({ type: "instructions_changed", text }),
    /** @param {string} name @param {number | null} value */
    changeValue: (name, value) => keepDispatching({ type: "value_changed", name, value }),
    resetValues: () => keepDispatching({ type: "values_reset" }),
    /** @param {string} text */
    changeDraft(text) {
      dispatch({ type: "draft_changed", text });
      passing.write("drafts", state.drafts);
    },
    /** @param {string} query */
    search: (query) => refreshHistory({ query }),
    showMore: () => refreshHistory({ isMore: true }),
    refreshHistory: () => refreshHistory(),
    /** @param {string} root @param {string} title */
    rename: (root, title) => changing(async () => keepDispatching({ type: "renamed", root, title: await gateway.rename(root, title) })),
    /** @param {string} root */
    suggestTitle: (root) => changing(async () => keepDispatching({ type: "renamed", root, title: await gateway.suggestTitle(root) })),
    /** @param {string} root */
    hide: (root) => changing(async () => {
      await gateway.hide(root);
      dispatch({ type: "hidden", root });
      if (state.chat.root === root) reset();
      dispatch({ type: "noticed", text: "The conversation is hidden from your history. Nothing is deleted." });
    }),
    /** @param {import("./state.mjs").Dialog | null} dialog */
    showDialog: (dialog) => dispatch({ type: "dialog", dialog }),
    async showKeys() {
      dispatch({ type: "dialog", dialog: { kind: "keys" } });
      await listKeys().catch(() => {}); // one can be made all the same
    },
    /** @param {string} name */
    makeKey: (name) => changingKeys(async () => {
      const made = await gateway.makeKey(name);
      if (state.dialog?.kind === "keys") dispatch({ type: "key_made", made: { ...made, baseUrl: programsUrl(gateway.place, around.here ?? "") } });
    }),
    /** @param {string} id */
    revokeKey: (id) => changingKeys(async () => void (await gateway.revokeKey(id))),
    /** @param {string} text */
    notice: (text) => dispatch({ type: "noticed", text }),
    keep,
  };
}

/** @param {unknown} error */
function problemOf(error) {
  if (error instanceof Failure) return error.problem;
  console.error(error);
  return problemOfNetwork();
}
