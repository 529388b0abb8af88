/**
 * The orders of this page: the open ones as the stream keeps them, and those that it saw close.
 *
 * @module store
 */

import { LiveOrders, orderAfter } from "./tracking-live.js";

/** Orders that closed while the page was open; the oldest are forgotten. */
const MAX_DEPARTED = 5000;

/**
 * | event | detail |
 * |---|---|
 * | `events` | the CloudEvents of one message, after the orders were brought up to date |
 * | `reset` | the orders are others altogether |
 * | `status` | the `Status` of the stream |
 */
export class Store extends EventTarget {
  /** Orders that nothing can happen to any more, by id, in the order in which they closed. */
  departed = new Map();
  /** Events that came since the connection was opened and before it was live. */
  caughtUp = 0;
  /** When what is shown was last known to be current; null before it ever was. */
  currentAt = null;
  /** Whether all open orders are here: until then, nothing can be counted. */
  isComplete = false;

  #live;

  /**
   * @param {string} stream  The address of the notifier's stream.
   * @param {() => string|null} token
   */
  constructor(stream, token) {
    super();
    const ask = () => {
      const text = token();
      if (text === null) throw new Error("signed out");
      return text;
    };
    this.#live = new LiveOrders(stream, ask, { filter: { active: true } });
    this.#live.addEventListener("events", ({ detail }) => this.#taken(detail));
    this.#live.addEventListener("snapshot", () => {
      this.isComplete = true;
      this.#tell("reset");
    });
    this.#live.addEventListener("status", ({ detail }) => this.#became(detail));
  }

  get status() {
    return this.#live.status;
  }

  /** How often the stream was found to miss something; never, unless the server is at fault. */
  get gaps() {
    return this.#live.gaps;
  }

  /** @returns {Map<string, Object>} The open orders. */
  get open() {
    return this.#live.orders;
  }

  /** The order as it was last heard of, or undefined. */
  get(id) {
    return this.#live.orders.get(id) ?? this.departed.get(id);
  }

  start() {
    this.#live.start();
  }

  stop() {
    this.#live.stop();
  }

  reconnect() {
    this.#live.reconnect();
  }

  #taken(events) {
    for (const event of events) {
      const { order_id, active } = event.data;
      if (active) this.departed.delete(order_id);
      else this.#depart(orderAfter(event));
    }
    if (this.status.state === "live") this.currentAt = Date.now();
    else {
      this.caughtUp += events.length;
      this.#tell("status", this.status);
    }
    this.#tell("events", events);
  }

  #depart(order) {
    this.departed.delete(order.order_id); // to the end
    this.departed.set(order.order_id, order);
    if (this.departed.size > MAX_DEPARTED) this.departed.delete(this.departed.keys().next().value);
  }

  #became(status) {
    if (status.state === "connecting") this.caughtUp = 0;
    if (status.state === "live") this.currentAt = Date.now();
    this.#tell("status", status);
  }

  #tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
