// Server-sent events (WHATWG HTML, section 9.2) out of a body that is read by fetch, so that headers can go along.

/** Takes text in any pieces and gives the data of each event that is complete. */
export class EventParser {
  #rest = "";
  #data = [];

  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    return events;
  }
}

/** Yields, for each piece of the body that arrives, the data of the events in it: none, when it is only a comment. */
export async function* batches(response) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
