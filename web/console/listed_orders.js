/**
 * The orders of a filter that are listed by the API, not by the stream: pages of closed orders, or results of a search.
 *
 * @module listed_orders
 */

import { apiParameters } from "./filters.js";
import { number } from "./format.js";

const PAGE = 200;

/** The largest page of the API, for what is listed again. */
const MAX_PAGE = 500;

/** The limit of all pages together: closed orders have no end. */
export const MAX_ORDERS = 5000;

/** Before the snapshot is complete, only as many as fit a screen: they are shown first. */
const FIRST_PAGE = 50;

/** Changes that a search may be behind without a note. */
const MAX_BEHIND = 500;

export class ListedOrders {
  #api;
  #isPaged;
  #isFirst;
  #asked;
  #answered;
  #filter = null;
  #orders = new Map(); // by id
  #next = null; // cursor of the next page
  #complete = true;
  #outdated = false; // the next answer replaces the orders
  #lastListed = null; // the last listed order
  #search = null; // the service's information about the search
  #fault = "";
  #request = null; // the AbortController of the running request

  /**
   * @param {Object} api
   * @param {{isPaged: (filter: Object) => boolean, isFirst: () => boolean, asked: () => void, answered: (fault: string) => void}} use  `isPaged`: not
   *   all orders that may match are in the page; `isFirst`: nothing is on the screen yet; `fault`: for people; empty: none.
   */
  constructor(api, { isPaged, isFirst, asked, answered }) {
    this.#api = api;
    this.#isPaged = isPaged;
    this.#isFirst = isFirst;
    this.#asked = asked;
    this.#answered = answered;
  }

  /** True while a request is running. */
  get isAsking() {
    return this.#request !== null;
  }

  /** The last listed order, if more follow; orders after it are unknown. */
  get lastListed() {
    return this.#complete ? null : this.#lastListed;
  }

  /** True if orders are listed by pages and none was received yet. */
  get isUnknown() {
    return !this.#complete && this.#lastListed === null;
  }

  /** True if the last request succeeded and none is running. */
  get isAnswered() {
    return this.#request === null && this.#fault === "";
  }

  /** True if more orders match a search than were examined. */
  get isCut() {
    return this.#search?.complete === false;
  }

  /** The part of a search that was not examined, for people; empty: none. */
  get left() {
    if (!this.#search) return "";
    const { complete, behind } = this.#search;
    const most = complete ? [] : ["More orders match than are looked through: only the newest 2,000 are here. Type more to see others."];
    if (behind > MAX_BEHIND) most.push(`The search is catching up: ${number(behind)} changes are not searched yet.`);
    return most.join(" ");
  }

  get size() {
    return this.#orders.size;
  }

  get(id) {
    return this.#orders.get(id);
  }

  entries() {
    return this.#orders.entries();
  }

  /** True if the limit is reached and there are more orders. */
  get isFull() {
    return !this.#complete && this.#orders.size >= MAX_ORDERS;
  }

  /** Starts again with this filter. */
  forget(filter) {
    this.outdate();
    this.#filter = filter;
    this.#orders.clear();
    this.#lastListed = null;
    this.#search = null;
    this.#fault = "";
    this.#complete = !this.#isPaged(filter);
  }

  /** Starts again with the same filter. The orders are kept until as many are listed again. */
  outdate() {
    this.#request?.abort();
    this.#request = null;
    this.#next = null;
    this.#outdated = true;
  }

  /** Updates an order that is listed. */
  update(order) {
    if (this.#orders.get(order.order_id)?.version < order.version) this.#orders.set(order.order_id, order);
  }

  /** Requests the first page after this delay in ms. */
  askSoon(milliseconds) {
    const request = (this.#request = new AbortController());
    setTimeout(() => {
      if (request.signal.aborted) return;
      this.#page(request.signal);
    }, milliseconds);
  }

  /** Requests the next page, if there is one. */
  more() {
    if (this.#complete || this.isFull || this.#request || !this.#next) return;
    this.#request = new AbortController();
    this.#page(this.#request.signal);
  }

  async #page(signal) {
    await this.#ask(signal, async () => {
      const again = this.#outdated ? this.#orders.size : 0;
      const found = [];
      let answer;
      do {
        answer = await this.#get(signal, answer?.next_cursor ?? this.#next, again - found.length);
        found.push(...answer.items);
      } while (found.length < again && answer.next_cursor !== null);
      if (this.#outdated) this.#orders.clear();
      this.#outdated = false;
      for (const order of found) this.#orders.set(order.order_id, order);
      this.#search = answer.search ?? null;
      this.#next = answer.next_cursor;
      this.#complete = this.#next === null;
      this.#lastListed = found.at(-1) ?? this.#lastListed;
    });
  }

  #get(signal, cursor, number) {
    const parameters = apiParameters(this.#filter);
    parameters.set("limit", String(this.#isFirst() ? FIRST_PAGE : Math.max(PAGE, Math.min(MAX_PAGE, number))));
    if (cursor) parameters.set("cursor", cursor);
    return this.#api.get("/v1/orders", parameters, { signal });
  }

  async #ask(signal, act) {
    this.#asked();
    let fault = "";
    try {
      await act();
    } catch (error) {
      fault = error.message;
    }
    if (signal.aborted) return;
    this.#request = null;
    this.#fault = fault;
    this.#answered(fault);
  }
}
