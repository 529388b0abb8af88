/**
 * The orders of this page: the open ones, kept current by the stream, and those that closed since it was opened.
 *
 * @module store
 */

import { LiveOrders, orderAfter } from "./tracking-live.js";

/** Changed orders that a small device keeps in addition to listed ones. */
const MAX_CHANGED = 2000;

/** Orders that closed while the page was open; the oldest are dropped. */
const MAX_CLOSED = 5000;

/**
 * | event | detail |
 * |---|---|
 * | `events` | the CloudEvents of one message, after the orders were updated |
 * | `reset` | all orders were replaced |
 * | `status` | the `Status` of the stream |
 * | `gap` | `{order_id, after, version}`: the server left out changes of this order, which is a fault of it |
 */
export class Store extends EventTarget {
  /** Closed orders by id, in the order in which they closed. */
  closed = new Map();
  /** Missed events that were received on this connection, before it was live. */
  caughtUp = 0;
  /** The last time when the page was current; null: never. */
  currentAt = null;
  /** True if the orders are complete; before, they cannot be counted. */
  isComplete = false;
  /** True if it keeps only open orders that have changed; the others must be listed when needed. */
  isSmall;

  #stream;
  #token;
  #live;
  #changed = new Map(); // of a small device: open orders that changed, the oldest change first
  #isListable = false; // of a small device: lists from now on are complete

  /**
   * @param {string} stream  The address of the notifier's stream.
   * @param {() => string|null} token
   * @param {boolean} isSmall  True if the device is too small for all open orders.
   */
  constructor(stream, token, isSmall = false) {
    super();
    this.isSmall = isSmall;
    this.#stream = stream;
    this.#token = () => {
      const text = token();
      if (text === null) throw new Error("signed out");
      return text;
    };
    this.#connect();
  }

  #connect() {
    const live = new LiveOrders(this.#stream, this.#token, { filter: { active: true }, snapshot: !this.isSmall });
    this.#live = live;
    live.addEventListener("events", ({ detail }) => this.#onEvents(detail));
    live.addEventListener("snapshot", () => {
      this.isComplete = true;
      this.#dispatch("reset");
    });
    live.addEventListener("status", ({ detail }) => live === this.#live && this.#onStatus(detail));
    live.addEventListener("gap", ({ detail }) => live === this.#live && this.#dispatch("gap", detail));
  }

  /** Starts with a new connection, and all orders are loaded again. */
  #restart() {
    const before = this.#live;
    this.#changed.clear();
    this.#isListable = false;
    this.#connect();
    before.stop();
    this.#live.start();
  }

  get status() {
    return this.#live.status;
  }

  /** @returns {Map<string, Object>} The open orders; on a small device those that changed. */
  get open() {
    return this.isSmall ? this.#changed : this.#live.orders;
  }

  /** The newest known state of the order, or undefined. */
  get(id) {
    return this.open.get(id) ?? this.closed.get(id);
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

  /** Replaces all orders by a new snapshot. */
  loadAgain() {
    this.isComplete = this.isSmall && this.isComplete;
    this.#restart();
  }

  #onEvents(events) {
    for (const event of events) {
      const { order_id, active } = event.data;
      if (active) this.closed.delete(order_id);
      else this.#addClosed(orderAfter(event));
      if (this.isSmall) this.#keep(event);
    }
    if (this.status.state === "live") this.currentAt = Date.now();
    else {
      this.caughtUp += events.length;
      this.#dispatch("status", this.status);
    }
    this.#dispatch("events", events);
  }

  /** Limits the memory: the client alone would keep every changed order. Dropped orders must be listed again. */
  #keep(event) {
    const { order_id, active } = event.data;
    this.#live.orders.delete(order_id);
    this.#changed.delete(order_id);
    if (active) this.#changed.set(order_id, orderAfter(event));
    if (this.#changed.size > MAX_CHANGED) {
      this.#changed.clear();
      queueMicrotask(() => this.#dispatch("reset"));
    }
  }

  #addClosed(order) {
    this.closed.delete(order.order_id); // to the end
    this.closed.set(order.order_id, order);
    if (this.closed.size > MAX_CLOSED) this.closed.delete(this.closed.keys().next().value);
  }

  #onStatus(status) {
    if (status.state === "connecting") this.caughtUp = 0;
    if (status.state === "live") this.currentAt = Date.now();
    const isLost = this.isSmall && status.state === "catching-up" && status.reason;
    if (isLost) queueMicrotask(() => this.#restart());
    this.#dispatch("status", status);
    if (!this.isSmall || status.state !== "live" || this.#isListable) return;
    this.isComplete = this.#isListable = true;
    this.#dispatch("reset");
  }

  #dispatch(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
