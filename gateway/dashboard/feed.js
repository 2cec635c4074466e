// The feed of what happens, read as long as the page is looked at; connects again by itself.

import { batches } from "./sse.js";

const FIRST_RETRY_S = 0.5;
const LAST_RETRY_S = 10;
const SILENT_S = 15; // the gateway says something more often, so the connection is lost
const HIDDEN_S = 30; // a page that nobody sees lets go after that

/** Seconds until the next try, after that many failed in a row: doubled each time, and spread. random: in [0, 1). */
export function retryAfter(numFailed, random) {
  const mostS = Math.min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (numFailed - 1));
  return mostS * (0.75 + random / 4);
}

/** Why the feed was refused, in words. */
export function refusal(status, message) {
  if (status === 401) return { phase: "locked", message };
  if (status === 403) return { phase: "forbidden", message };
  return { phase: "retrying", message: message || `The gateway answered with status ${status}.` };
}

export class Feed {
  #url;
  #headers;
  #onEvents;
  #onStatus;
  #stopping = null; // AbortController of the present connection
  #hiddenTimer = null;

  /** onEvents(events); onStatus({phase, message, retryS}): connecting, live, retrying, locked, forbidden, paused. */
  constructor({ url, headers, onEvents, onStatus }) {
    this.#url = url;
    this.#headers = headers;
    this.#onEvents = onEvents;
    this.#onStatus = onStatus;
    document.addEventListener("visibilitychange", () => this.#onVisibility());
  }

  /** Also to begin anew at once, with another key. */
  start() {
    this.stop();
    const stopping = (this.#stopping = new AbortController());
    this.#run(stopping.signal).catch((error) => {
      if (!stopping.signal.aborted) throw error;
    });
  }

  stop() {
    this.#stopping?.abort();
    this.#stopping = null;
  }

  async #run(signal) {
    for (let numFailed = 0; ; ) {
      this.#onStatus({ phase: "connecting", message: "" });
      const ended = await this.#read(signal, () => (numFailed = 0));
      signal.throwIfAborted();
      if (ended.phase !== "retrying") {
        this.#onStatus(ended);
        return;
      }
      numFailed += 1;
      const retryS = retryAfter(numFailed, Math.random());
      this.#onStatus({ ...ended, retryS });
      await sleep(retryS, signal);
    }
  }

  /** Until the connection ends; says why. */
  async #read(signal, onLive) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENT_S * 1000);
    try {
      const either = AbortSignal.any([signal, silence.signal]);
      const response = await fetch(this.#url, { headers: this.#headers(), signal: either, cache: "no-store" });
      if (!response.ok) {
        const body = await response.json().catch(() => null);
        return refusal(response.status, body?.error?.message ?? "");
      }
      onLive();
      this.#onStatus({ phase: "live", message: "" });
      for await (const batch of batches(response)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENT_S * 1000);
        if (batch.length) this.#onEvents(batch.map((data) => JSON.parse(data)));
      }
      return { phase: "retrying", message: "The gateway closed the connection." };
    } catch (error) {
      const why = silence.signal.aborted ? "The gateway has gone silent." : "The gateway can't be reached.";
      if (error instanceof SyntaxError) return { phase: "retrying", message: "The gateway sent what is no event." };
      return { phase: "retrying", message: why };
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  #onVisibility() {
    clearTimeout(this.#hiddenTimer);
    if (!document.hidden) {
      if (this.#stopping === null) this.start();
      return;
    }
    this.#hiddenTimer = setTimeout(() => {
      this.stop();
      this.#onStatus({ phase: "paused", message: "Nobody was looking." });
    }, HIDDEN_S * 1000);
  }
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
