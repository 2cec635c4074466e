// The head of the page: the fleet in a few numbers, and whether they are of now.

import { byId, setAttribute, setText } from "./dom.js";
import { duration, percent, quantity } from "./format.js";

const NUM_SAMPLES = 120; // a minute of states
const SPARK = { width: 64, height: 18 };

export class Summary {
  #samples = [];
  #countdown = null;

  /** state: an event of the feed. */
  show(state) {
    const tokensPerS = sum(state.workers, "tokens_per_s");
    setText(byId("num-workers"), quantity(state.workers.length));
    setText(byId("num-models"), quantity(state.models.length));
    setText(byId("tokens-per-s"), quantity(tokensPerS));
    setText(byId("switches-per-s"), quantity(sum(state.workers, "switches_per_s")));
    const worst = leastAttainment(state.models);
    setText(byId("attainment"), percent(worst?.attainment));
    setAttribute(byId("attainment-of"), "title", worst && `the least of all models: ${worst.model}`);
    this.#samples = [...this.#samples.slice(1 - NUM_SAMPLES), tokensPerS];
    setAttribute(byId("tokens-spark"), "points", sparkline(this.#samples, NUM_SAMPLES, SPARK));
  }

  /** status: of the feed. */
  connection({ phase, message, retryS }) {
    clearInterval(this.#countdown);
    const node = byId("connection");
    setAttribute(node, "data-phase", phase);
    setAttribute(node, "title", message || null);
    document.body.classList.toggle("stale", phase !== "live");
    setText(byId("problem"), PROBLEMS[phase]?.(message) ?? "");
    if (phase !== "retrying") {
      setText(byId("connection-text"), WORDS[phase]);
      return;
    }
    const atS = performance.now() / 1000 + retryS;
    const tell = () => {
      const leftS = Math.max(0, Math.ceil(atS - performance.now() / 1000));
      setText(byId("connection-text"), leftS ? `Retrying in ${duration(leftS)}` : "Retrying");
    };
    tell();
    this.#countdown = setInterval(tell, 500);
  }
}

const WORDS = {
  connecting: "Connecting",
  live: "Live",
  locked: "Key needed",
  forbidden: "Not an administrator's key",
  paused: "Paused",
};
/** What is said in the page itself, beside the short word. */
const PROBLEMS = {
  retrying: (message) => `Disconnected: ${message} What you see is from before.`,
  locked: () => "This gateway wants an API key.",
  forbidden: (message) => `This key can chat, but not watch. ${message}`,
};

/** The model whose tokens are on time least; null while none was due. */
export function leastAttainment(models) {
  const known = models.filter((model) => model.attainment !== null);
  return known.reduce((least, model) => (least && least.attainment <= model.attainment ? least : model), null);
}

/** Points of an SVG polyline, the newest at the right edge. */
export function sparkline(samples, numSamples, { width, height }) {
  const most = Math.max(...samples, 1e-9);
  return samples
    .map((value, index) => {
      const x = width - ((samples.length - 1 - index) / (numSamples - 1)) * width;
      return `${x.toFixed(1)},${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`;
    })
    .join(" ");
}

function sum(items, name) {
  return items.reduce((total, item) => total + item[name], 0);
}
