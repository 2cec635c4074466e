// One answer of a model as a stream, and how fast it came.

import { headers, Refused, url } from "./api.js";
import { batches } from "./sse.js";

const NO_TEMPLATE = "no_chat_template"; // the gateway's error code

/**
 * asked: {model, messages, temperature, maxTokens}. Yields {text, numTokens}: further text, and tokens so far. A model
 * without a chat template continues the last message; onCompletion is called before it does. Raises Refused.
 */
export async function* answer(asked, { signal, onCompletion }) {
  try {
    yield* streamed("v1/chat/completions", { messages: asked.messages }, asked, signal, chatText);
  } catch (error) {
    if (error.code !== NO_TEMPLATE) throw error;
    onCompletion();
    yield* streamed("v1/completions", { prompt: asked.messages.at(-1).content }, asked, signal, (choice) => choice.text);
  }
}

function chatText({ delta }) {
  return (delta.reasoning ?? "") + (delta.content ?? "");
}

async function* streamed(path, prompt, { model, temperature, maxTokens }, signal, textOf) {
  const body = {
    model,
    ...prompt,
    temperature,
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  const response = await fetch(url(path), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers() },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await Refused.of(response);
  for await (const events of batches(response)) {
    for (const data of events) {
      if (data === "[DONE]") return;
      const { choices, usage, error } = JSON.parse(data);
      if (error) throw new Refused(error.message, { code: error.code });
      yield { text: choices.map(textOf).join(""), numTokens: usage?.completion_tokens ?? 0 };
    }
  }
  throw new Refused("The connection ended before the answer did.");
}

/** When tokens came, as the client saw it. Instants in seconds. */
export class Pace {
  #askedAtS;
  #firstAtS = null;
  #lastAtS = null;
  #numFirst = 0; // tokens that came with the first one: their time is not known

  numTokens = 0;

  constructor(askedAtS) {
    this.#askedAtS = askedAtS;
  }

  observe(numTokens, atS) {
    if (numTokens <= this.numTokens) return;
    this.numTokens = numTokens;
    this.#lastAtS = atS;
    if (this.#firstAtS === null) [this.#firstAtS, this.#numFirst] = [atS, numTokens];
  }

  /** Null before the first token. */
  get ttftS() {
    return this.#firstAtS === null ? null : this.#firstAtS - this.#askedAtS;
  }

  /** From the first token on; null while there is no other. */
  get tokensPerS() {
    const seconds = this.#lastAtS - this.#firstAtS;
    return this.numTokens > this.#numFirst && seconds > 0 ? (this.numTokens - this.#numFirst) / seconds : null;
  }
}

/** What went wrong, in words. */
export function inWords(error) {
  if (error instanceof Refused) return error.message;
  if (error instanceof TypeError) return "The gateway can't be reached."; // what fetch raises
  return "The answer can't be read.";
}
