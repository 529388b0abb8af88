/**
 * Numbers of orders by status: now, and in the past. Pure.
 *
 * @module status_totals
 */

import { byProgress } from "./format.js";

/** Counts these orders by status. */
export function countByStatus(orders) {
  const counts = new Map();
  for (const { status } of orders.values()) counts.set(status, (counts.get(status) ?? 0) + 1);
  return counts;
}

/** The number of orders in each status, updated with each change instead of counted again. */
export class StatusTotals {
  /** By status; 0 after the last order left it. */
  counts = new Map();
  #status = new Map(); // id → the status that it is counted in

  /** The number of all orders. */
  get all() {
    return this.#status.size;
  }

  /** Counts an order in this status; null: no longer. */
  set(id, status) {
    const before = this.#status.get(id);
    if (before === (status ?? undefined)) return;
    if (before !== undefined) this.counts.set(before, this.counts.get(before) - 1);
    if (status === null) this.#status.delete(id);
    else {
      this.#status.set(id, status);
      this.counts.set(status, (this.counts.get(status) ?? 0) + 1);
    }
  }
}

/** The numbers of open orders by status: of all, and of those that are overdue. */
export class OpenTotals {
  open = new StatusTotals();
  overdue = new StatusTotals();

  /** Counts an order; null: no longer. */
  set(id, order) {
    this.open.set(id, order && order.status);
    this.overdue.set(id, order?.overdue ? order.status : null);
  }
}

/** The first orders of an unsorted list, sorted, without sorting the rest. */
export function firstOf(orders, compare, number) {
  const first = [];
  for (const order of orders) {
    if (first.length === number && compare(order, first.at(-1)) >= 0) continue;
    const place = first.findIndex((other) => compare(order, other) < 0);
    first.splice(place < 0 ? first.length : place, 0, order);
    if (first.length > number) first.pop();
  }
  return first;
}

/** Open orders by status at the boundaries of a report's rows, computed from `now` back in time. */
export function areasOf(rows, now, from, to, interval) {
  const closing = new Set(rows.filter(({ status }) => !now.has(status)).map(({ status }) => status));
  for (const { status, left } of rows) if (left > 0) closing.delete(status); // a status that orders leave is not final
  const statuses = byProgress(new Set([...now.keys(), ...rows.map(({ status }) => status)])).filter((status) => !closing.has(status));
  const change = new Map(); // start of a bucket → status → entered - left
  for (const { start, status, entered, left } of rows) {
    const bucket = Date.parse(start);
    if (!change.has(bucket)) change.set(bucket, new Map());
    change.get(bucket).set(status, entered - left);
  }
  const step = interval === "hour" ? 3600_000 : 24 * 3600_000;
  const times = [to];
  const counts = [now];
  const starts = [...change.keys()];
  const anchor = starts.length ? starts.at(-1) : to;
  for (let time = anchor; time > from - step; time -= step) {
    const later = counts[0];
    const changed = [...change].filter(([start]) => start >= time && start < times[0]);
    const before = new Map(statuses.map((status) => [status, Math.max(0, (later.get(status) ?? 0) - changed.reduce((sum, [, deltas]) => sum + (deltas.get(status) ?? 0), 0))]));
    times.unshift(Math.max(time, from));
    counts.unshift(before);
  }
  const layers = statuses.map((name) => ({ name, values: counts.map((at) => at.get(name) ?? 0) }));
  return { times, layers, from, to };
}
