// Asks for an API key where the gateway wants one.

import { apiKey, setApiKey } from "./api.js";
import { byId, setText } from "./dom.js";

export class KeyDialog {
  #dialog = byId("key-dialog");
  #input = byId("key");
  #button = byId("key-button");

  /** onKey: another key is used from now on, or none. */
  constructor(onKey) {
    this.#button.addEventListener("click", () => this.ask(""));
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#use(this.#input.value.trim(), onKey);
    });
    byId("key-cancel").addEventListener("click", () => this.#dialog.close());
    byId("key-forget").addEventListener("click", () => this.#use("", onKey));
    this.#button.hidden = !apiKey();
  }

  /** why: what the gateway said of the last try. */
  ask(why) {
    this.#button.hidden = false;
    // Without a key yet there is nothing to be wrong: the dialog's own words say what it is for.
    setText(byId("key-problem"), apiKey() ? why : "");
    byId("key-forget").hidden = !apiKey();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#input.focus();
  }

  #use(key, onKey) {
    setApiKey(key);
    this.#input.value = "";
    this.#dialog.close();
    onKey();
  }
}
