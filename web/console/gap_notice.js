/**
 * The notice that the server left out changes. It stays until all orders are loaded again.
 *
 * @module gap_notice
 */

import { byId, setText } from "./dom.js";

export class GapNotice {
  #element = byId("gap");
  #text = byId("gap-text");
  #gaps = 0;

  constructor(store) {
    store.addEventListener("gap", ({ detail }) => this.#show(detail));
    store.addEventListener("reset", () => this.#hide());
    byId("gap-load").addEventListener("click", () => store.loadAgain());
  }

  #show({ order_id }) {
    this.#gaps += 1;
    const more = this.#gaps > 1 ? ` and ${this.#gaps - 1} more` : "";
    setText(this.#text, `The server left out changes of ${order_id}${more}. Orders may be missing or out of date.`);
    this.#element.hidden = false;
  }

  #hide() {
    this.#gaps = 0;
    this.#element.hidden = true;
  }
}
