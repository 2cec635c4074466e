// Two panes and one message to both of them.

import { modelNames } from "./api.js";
import { inWords } from "./chat_client.js";
import { byId, setText } from "./dom.js";
import { Pane } from "./pane.js";

const MOST_TEMPERATURE = 2; // what the gateway allows

export class Playground {
  #form = byId("composer");
  #prompt = byId("prompt");
  #problem = byId("playground-problem");
  #colours;
  #onLocked;
  #told = ""; // the models that the feed named last

  /** onLocked(message): the gateway wants an API key. */
  constructor({ colours, onLocked }) {
    this.#colours = colours;
    this.#onLocked = onLocked;
    const common = { colours, onLocked, onChange: () => this.#update() };
    this.panes = [byId("left-pane"), byId("right-pane")].map((root) => new Pane(root, common));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(event.submitter?.value ?? "both");
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#form.requestSubmit(byId("send-both"));
    });
    byId("stop-all").addEventListener("click", () => this.panes.forEach((pane) => pane.stop()));
    this.#update();
  }

  /** Asks again which models there are; what can be chosen stays where that fails. */
  async refresh() {
    let names;
    try {
      names = await modelNames();
      setText(this.#problem, names.length ? "" : "No model is served yet: kottos models add NAME PATH.");
    } catch (error) {
      setText(this.#problem, inWords(error));
      if (error.status === 401) this.#onLocked(error.message);
      return;
    }
    [...names].sort().forEach((name) => this.#colours.slot(name));
    this.panes.forEach((pane, index) => pane.offer(names, index));
    this.#update();
  }

  /** What the feed names, whenever it does. */
  expect(names) {
    const told = names.join("\n");
    if (told === this.#told) return;
    this.#told = told;
    this.refresh();
  }

  #send(to) {
    const text = this.#prompt.value.trim();
    const settings = { temperature: number("temperature"), maxTokens: number("max-tokens") };
    if (!text || !isValid(settings)) {
      if (text) this.#form.reportValidity();
      this.#prompt.focus();
      return;
    }
    const panes = this.panes.filter((pane, index) => to === "both" || to === ["left", "right"][index]);
    if (!panes.length || panes.some((pane) => pane.isAnswering || !pane.model)) return;
    this.#prompt.value = "";
    panes.forEach((pane) => pane.ask(text, settings));
  }

  #update() {
    const [left, right] = this.panes.map((pane) => pane.isAnswering || !pane.model);
    byId("send-both").disabled = left || right;
    byId("send-left").disabled = left;
    byId("send-right").disabled = right;
    byId("stop-all").disabled = !this.panes.some((pane) => pane.isAnswering);
  }
}

function number(id) {
  return byId(id).valueAsNumber;
}

function isValid({ temperature, maxTokens }) {
  return temperature >= 0 && temperature <= MOST_TEMPERATURE && Number.isInteger(maxTokens) && maxTokens > 0;
}
