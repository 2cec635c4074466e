// One side of the playground: a model, the conversation with it, and how fast its last answer came.

import { answer, inWords, Pace } from "./chat_client.js";
import { element, setText } from "./dom.js";
import { duration, quantity } from "./format.js";

export class Pane {
  #root;
  #select;
  #log;
  #pace;
  #note;
  #stopButton;
  #messages = [];
  #answering = null; // AbortController while an answer comes
  #onChange;

  /** root: an element with the parts that index.html gives a pane. onChange: it begins or ends to answer. */
  constructor(root, { onChange, onLocked, colours }) {
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.#root = root;
    this.#select = part("model");
    this.#log = part("log");
    this.#pace = part("pace");
    this.#note = part("note");
    this.#stopButton = part("stop");
    this.#onChange = onChange;
    this.onLocked = onLocked;
    this.colours = colours;
    this.#select.addEventListener("change", () => this.#onModel());
    this.#stopButton.addEventListener("click", () => this.stop());
    part("clear").addEventListener("click", () => this.clear());
  }

  get isAnswering() {
    return this.#answering !== null;
  }

  get model() {
    return this.#select.value;
  }

  /** names: what can be chosen. preferred: its place among them, while nothing is chosen that is still there. */
  offer(names, preferred) {
    const chosen = this.model;
    this.#select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    this.#select.disabled = !names.length;
    this.#select.value = names.includes(chosen) ? chosen : (names[Math.min(preferred, names.length - 1)] ?? "");
    if (this.#select.value !== chosen) this.#onModel();
  }

  stop() {
    this.#answering?.abort();
  }

  clear() {
    this.stop();
    this.#messages = [];
    this.#log.replaceChildren();
    setText(this.#note, "");
    setText(this.#pace, "");
  }

  /** Returns when the answer has ended, in whatever way. */
  async ask(text, { temperature, maxTokens }) {
    if (!this.model || this.isAnswering) return;
    const stopping = (this.#answering = new AbortController());
    this.#onChange();
    const asked = [...this.#messages, { role: "user", content: text }];
    this.#say("user", text);
    const shown = this.#say("assistant", "");
    this.#setBusy(true);
    const pace = new Pace(now());
    let answered = "";
    try {
      const request = { model: this.model, messages: asked, temperature, maxTokens };
      for await (const piece of answer(request, { signal: stopping.signal, onCompletion: () => this.#continues() })) {
        answered += piece.text;
        pace.observe(piece.numTokens, now());
        this.#append(shown, piece.text);
        this.#showPace(pace);
      }
    } catch (error) {
      if (stopping.signal.aborted) shown.classList.add("stopped");
      else this.#fail(error);
    }
    if (this.#answering === stopping) this.#answering = null;
    this.#setBusy(false);
    if (!answered) shown.remove();
    else if (shown.isConnected) this.#messages = [...asked, { role: "assistant", content: answered }];
    this.#onChange();
  }

  #onModel() {
    this.clear();
    const slot = this.model ? this.colours.slot(this.model) : null;
    this.#root.style.setProperty("--accent", slot === null ? "var(--line)" : `var(--model-${slot})`);
  }

  #continues() {
    setText(this.#note, "This model has no chat template: it continues the text, and knows nothing of what was said before.");
  }

  #fail(error) {
    this.#say("error", inWords(error));
    if (error.status === 401) this.onLocked(error.message);
  }

  #say(role, text) {
    const said = element("p", { class: `said ${role}` }, text);
    if (role === "error") said.setAttribute("role", "alert");
    this.#log.append(said);
    this.#log.scrollTop = this.#log.scrollHeight;
    return said;
  }

  #append(shown, text) {
    const isAtEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 40;
    shown.append(text);
    if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #showPace(pace) {
    const parts = [];
    if (pace.ttftS !== null) parts.push(`first token ${duration(pace.ttftS)}`);
    if (pace.tokensPerS !== null) parts.push(`${quantity(pace.tokensPerS)} tokens/s`);
    if (pace.numTokens) parts.push(`${quantity(pace.numTokens)} tokens`);
    setText(this.#pace, parts.join(" · "));
  }

  #setBusy(isBusy) {
    this.#log.setAttribute("aria-busy", String(isBusy)); // so that screen readers read whole answers
    this.#stopButton.disabled = !isBusy;
    this.#root.classList.toggle("busy", isBusy);
  }
}

function now() {
  return performance.now() / 1000;
}
