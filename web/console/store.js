/**
 * The orders of this page: the open ones, kept current by the stream, and those that closed since it was opened. Of a
 * large board, or on a small device, it holds only what changes; the rest is listed when needed.
 *
 * @module store
 */

import { LiveOrders, orderAfter } from "./tracking-live.js";

/** With more open orders than this when the page is opened, they are listed in pages. */
const MAX_HELD = 20_000;

/** After so many changes, what is listed must be listed again, and older changes are dropped. */
const MAX_CHANGES = 4000;

/** Orders that closed while the page was open; the oldest are dropped, never one of the last `MAX_CHANGES`. */
const MAX_CLOSED = 5000;

/**
 * | event | detail |
 * |---|---|
 * | `events` | the CloudEvents of one message, after the orders were updated |
 * | `reset` | all orders were replaced |
 * | `outdated` | what was listed before must be listed again soon |
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
  /** True if the orders are complete, or every change to what is listed and counted follows; before, they cannot be counted. */
  isComplete = false;
  /** True if it keeps only open orders that have changed; the others must be listed when needed. */
  isPartial;
  /** True while the open orders are being counted: what is listed now would be from before the stream. */
  isCounting = false;

  #stream;
  #token;
  #count;
  #isSmall;
  #live = null; // null before the open orders were counted
  #start = 0; // increases with each start, so that an earlier one is given up
  #changed = new Map(); // if partial: open orders that changed
  #recent = new Set(); // ids that changed since `outdated`
  #changes = 0; // since `outdated`

  /**
   * @param {string} stream  The address of the notifier's stream.
   * @param {() => Promise<string|null>} token
   * @param {{isSmall: boolean, count: () => Promise<{total: number, cursor: string}|null>}} use  `isSmall`: the device
   *   is too small for all open orders; `count`: their number and where the stream goes on; null: unknown.
   */
  constructor(stream, token, { isSmall, count }) {
    super();
    this.#stream = stream;
    this.#token = async () => {
      const text = await token();
      if (text === null) throw new Error("signed out");
      return text;
    };
    this.#count = count;
    this.isPartial = this.#isSmall = isSmall;
  }

  /** Starts with a new connection, and all orders are loaded again. */
  async #begin() {
    const start = (this.#start += 1);
    const before = this.#live;
    this.#live = null;
    before?.stop();
    this.isComplete = false;
    this.isCounting = true;
    this.#dispatch("status", this.status);
    const counted = await this.#count();
    if (start !== this.#start) return;
    this.isCounting = false;
    this.isPartial = this.#isSmall || counted?.total > MAX_HELD;
    for (const each of [this.#changed, this.#recent]) each.clear();
    this.#changes = 0;
    this.#connect(this.isPartial ? { after: counted?.cursor, snapshot: false } : {});
    // The stream brings what happens after the count, so that what is listed from now on becomes current with it.
    if (this.isPartial && counted) this.#complete();
    else this.#dispatch("outdated");
  }

  #complete() {
    this.isComplete = true;
    this.#dispatch("reset");
  }

  #connect(from) {
    const live = new LiveOrders(this.#stream, this.#token, { filter: { active: true }, ...from });
    this.#live = live;
    live.addEventListener("events", ({ detail }) => this.#onEvents(detail));
    live.addEventListener("snapshot", () => this.#complete());
    live.addEventListener("status", ({ detail }) => live === this.#live && this.#onStatus(detail));
    live.addEventListener("gap", ({ detail }) => live === this.#live && this.#dispatch("gap", detail));
    live.start();
  }

  get status() {
    return this.#live?.status ?? { state: this.isCounting ? "connecting" : "stopped", reason: "" };
  }

  /** @returns {Map<string, Object>} The open orders; if partial, those that changed. */
  get open() {
    return this.isPartial || !this.#live ? this.#changed : this.#live.orders;
  }

  /** The newest known state of the order, or undefined. */
  get(id) {
    return this.open.get(id) ?? this.closed.get(id);
  }

  /** Starts, or goes on where it was stopped. */
  start() {
    if (this.#live) this.#live.start();
    else this.#begin();
  }

  stop() {
    this.#start += 1;
    this.isCounting = false;
    this.#live?.stop();
  }

  reconnect() {
    this.#live?.reconnect();
  }

  /** Replaces all orders by a new snapshot. */
  loadAgain() {
    this.#begin();
  }

  #onEvents(events) {
    for (const event of events) {
      const { order_id, active } = event.data;
      if (active) this.closed.delete(order_id);
      else this.#addClosed(event);
      if (this.isPartial) this.#keep(event);
    }
    if (this.status.state === "live") this.currentAt = Date.now();
    else {
      this.caughtUp += events.length;
      this.#dispatch("status", this.status);
    }
    this.#dispatch("events", events);
    if (this.#changes >= MAX_CHANGES) this.#forget();
  }

  /** Keeps a changed order. The client alone would keep every one. */
  #keep(event) {
    const { order_id, active } = event.data;
    this.#live.orders.delete(order_id);
    this.#changes += 1;
    if (!active) {
      this.#changed.delete(order_id);
      return;
    }
    this.#changed.set(order_id, orderAfter(event));
    this.#recent.add(order_id);
  }

  /** Drops what was listed again since it changed, and has the rest listed. */
  #forget() {
    for (const id of this.#changed.keys()) if (!this.#recent.has(id)) this.#changed.delete(id);
    this.#recent.clear();
    this.#changes = 0;
    this.#dispatch("outdated");
  }

  /** Adds the order of an event, with the time at which it closed as `closed_at`; null: that was before this page knew it. */
  #addClosed(event) {
    const { order_id, status, previous_status, recorded_at } = event.data;
    const before = this.closed.get(order_id)?.closed_at ?? null;
    const order = { ...orderAfter(event), closed_at: status === previous_status ? before : recorded_at };
    this.closed.delete(order_id); // to the end
    this.closed.set(order_id, order);
    if (this.closed.size > MAX_CLOSED) this.closed.delete(this.closed.keys().next().value);
  }

  #onStatus(status) {
    if (status.state === "connecting") this.caughtUp = 0;
    if (status.state === "live") this.currentAt = Date.now();
    const isLost = this.isPartial && status.state === "catching-up" && status.reason;
    if (isLost) queueMicrotask(() => this.#begin());
    this.#dispatch("status", status);
    if (this.isPartial && status.state === "live" && !this.isComplete) this.#complete();
  }

  #dispatch(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
