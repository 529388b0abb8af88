/**
 * What the API tells of a filter beyond what is live: pages of closed orders, or what a search found.
 *
 * @module listed_orders
 */

import { apiParameters, includesClosed } from "./filters.js";

const PAGE = 200;

/** Before the stream has brought everything, what fits a screen: the first thing that is seen. */
const FIRST_PAGE = 50;

export class ListedOrders {
  #api;
  #isFirst;
  #asked;
  #answered;
  #filter = null;
  #orders = new Map(); // by id
  #next = null; // cursor of the next page
  #complete = true;
  #frontier = null; // the last order of the pages so far
  #request = null; // the AbortController of what is being asked

  /**
   * @param {Object} api
   * @param {{isFirst: () => boolean, asked: () => void, answered: (fault: string) => void}} use  `isFirst`: nothing is on
   *   the screen yet; `fault` is for people, and empty if all went well.
   */
  constructor(api, { isFirst, asked, answered }) {
    this.#api = api;
    this.#isFirst = isFirst;
    this.#asked = asked;
    this.#answered = answered;
  }

  /** Whether an answer is on its way. */
  get isAsking() {
    return this.#request !== null;
  }

  /** The last order of the pages so far, if more follow it; orders behind it are not known yet. */
  get frontier() {
    return this.#complete ? null : this.#frontier;
  }

  get(id) {
    return this.#orders.get(id);
  }

  entries() {
    return this.#orders.entries();
  }

  /** Begins anew, with another filter perhaps. */
  forget(filter) {
    this.#request?.abort();
    this.#request = null;
    this.#filter = filter;
    this.#orders.clear();
    this.#next = this.#frontier = null;
    this.#complete = !includesClosed(filter) || Boolean(filter.q);
  }

  /** Asks for the first orders, after so many milliseconds. */
  askSoon(milliseconds) {
    const request = (this.#request = new AbortController());
    setTimeout(() => {
      if (request.signal.aborted) return;
      if (this.#filter.q) this.#search(request.signal);
      else this.#page(request.signal);
    }, milliseconds);
  }

  /** Asks for the next page, if there is one. */
  more() {
    if (this.#complete || this.#request || !this.#next) return;
    this.#request = new AbortController();
    this.#page(this.#request.signal);
  }

  async #page(signal) {
    const parameters = apiParameters(this.#filter);
    parameters.set("limit", String(this.#isFirst() ? FIRST_PAGE : PAGE));
    if (this.#next) parameters.set("cursor", this.#next);
    await this.#ask(signal, async () => {
      const { items, next_cursor } = await this.#api.get("/v1/orders", parameters, { signal });
      for (const order of items) this.#orders.set(order.order_id, order);
      this.#next = next_cursor;
      this.#complete = next_cursor === null;
      this.#frontier = items.at(-1) ?? this.#frontier;
    });
  }

  async #search(signal) {
    const text = this.#filter.q;
    const list = (name) => new URLSearchParams([[name, text], ["limit", "100"]]);
    const asked = [this.#api.get(`/v1/orders/${encodeURIComponent(text)}`, undefined, { signal })];
    asked.push(this.#api.get("/v1/orders", list("customer_ref"), { signal }));
    await this.#ask(signal, async () => {
      const [one, several] = await Promise.allSettled(asked);
      if (one.status === "fulfilled") this.#orders.set(one.value.order_id, one.value);
      if (several.status === "fulfilled") for (const order of several.value.items) this.#orders.set(order.order_id, order);
    });
  }

  async #ask(signal, act) {
    this.#asked();
    let fault = "";
    try {
      await act();
    } catch (error) {
      fault = `Older orders could not be loaded: ${error.message}`;
    }
    if (signal.aborted) return;
    this.#request = null;
    this.#answered(fault);
  }
}
