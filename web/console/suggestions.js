/**
 * Suggestions for a field during typing: values of the orders on the board at once, then of those
 * that the API finds. Both contain only what the token may see.
 *
 * @module suggestions
 */

import { h } from "./dom.js";

const MAX_SUGGESTIONS = 20;
const MAX_FOUND_ORDERS = 50;
const TYPING_MS = 250;

/** The number of orders of the board that are examined per keystroke. */
const MAX_LOOKED_AT = 20_000;

/** A field with suggestions. */
export class SuggestingInput {
  element;

  #api;
  #orders;
  #valueOf;
  #input;
  #list;
  #timer = null;
  #request = null;

  /**
   * @param {{api: Object, orders: () => Iterable<Object>, valueOf: (order: Object) => string|null}} use  `orders`: those
   *   of the board.
   * @param {Object} attributes  Of the input; it needs a `name`.
   */
  constructor({ api, orders, valueOf }, attributes) {
    this.#api = api;
    this.#orders = orders;
    this.#valueOf = valueOf;
    const id = `suggested-${attributes.name}`;
    this.#list = h("datalist", { id });
    this.#input = h("input", { autocomplete: "off", spellcheck: "false", ...attributes, list: id });
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("focus", () => this.#offer(this.#known()), { once: true });
    this.element = h("span", { class: "suggesting" }, this.#input, this.#list);
  }

  #typed() {
    this.#request?.abort();
    clearTimeout(this.#timer);
    const known = this.#known();
    this.#offer(known);
    if (this.#text) this.#timer = setTimeout(() => this.#find(known), TYPING_MS);
  }

  get #text() {
    return this.#input.value.trim().toLowerCase();
  }

  #known() {
    const values = new Set();
    let looked = 0;
    for (const order of this.#orders()) {
      if ((looked += 1) > MAX_LOOKED_AT || values.size === MAX_SUGGESTIONS) break;
      this.#take(values, order);
    }
    return values;
  }

  async #find(values) {
    const request = (this.#request = new AbortController());
    const parameters = new URLSearchParams([["q", this.#text], ["limit", String(MAX_FOUND_ORDERS)]]);
    try {
      const { items } = await this.#api.get("/v1/orders", parameters, { signal: request.signal });
      if (request.signal.aborted) return;
      for (const order of items) this.#take(values, order);
      this.#offer(values);
    } catch {
      // the suggestions of the board remain; any other value can be typed
    }
  }

  #take(values, order) {
    const value = this.#valueOf(order);
    if (value && value.toLowerCase().startsWith(this.#text)) values.add(value);
  }

  #offer(values) {
    const options = [...values].sort().slice(0, MAX_SUGGESTIONS);
    this.#list.replaceChildren(...options.map((value) => h("option", { value })));
  }
}
