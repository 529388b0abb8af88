/**
 * What the API tells of a filter beyond what is live: pages of closed orders, or what a search found.
 *
 * @module listed_orders
 */

import { apiParameters, includesClosed } from "./filters.js";
import { number } from "./format.js";

const PAGE = 200;

/** Before the stream has brought everything, what fits a screen: the first thing that is seen. */
const FIRST_PAGE = 50;

/** Changes that a search may be behind without a word: a moment's. */
const MAX_BEHIND = 500;

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
  #search = null; // what the service says of the search
  #fault = "";
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

  /** Whether the API has said what it lists, all of it or a page. */
  get isAnswered() {
    return this.#request === null && this.#fault === "";
  }

  /** Whether more orders match a search than were looked through. */
  get isCut() {
    return this.#search?.complete === false;
  }

  /** What of a search was not looked at, for people; empty: nothing. */
  get left() {
    if (!this.#search) return "";
    const { complete, behind } = this.#search;
    const most = complete ? [] : ["More orders match than are looked through: only the newest 2,000 are here. Type more to see others."];
    if (behind > MAX_BEHIND) most.push(`The search is catching up: ${number(behind)} changes are not searched yet.`);
    return most.join(" ");
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
    this.#search = null;
    this.#fault = "";
    this.#complete = !includesClosed(filter);
  }

  /** Asks for the first orders, after so many milliseconds. */
  askSoon(milliseconds) {
    const request = (this.#request = new AbortController());
    setTimeout(() => {
      if (request.signal.aborted) return;
      this.#page(request.signal);
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
      const { items, next_cursor, search } = await this.#api.get("/v1/orders", parameters, { signal });
      for (const order of items) this.#orders.set(order.order_id, order);
      this.#search = search ?? null;
      this.#next = next_cursor;
      this.#complete = next_cursor === null;
      this.#frontier = items.at(-1) ?? this.#frontier;
    });
  }

  async #ask(signal, act) {
    this.#asked();
    let fault = "";
    try {
      await act();
    } catch (error) {
      fault = this.#filter.q ? `Only open orders were searched: ${error.message}` : `Older orders could not be loaded: ${error.message}`;
    }
    if (signal.aborted) return;
    this.#request = null;
    this.#fault = fault;
    this.#answered(fault || this.left);
  }
}
