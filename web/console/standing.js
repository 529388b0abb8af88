/**
 * How many orders stand in each status: now, and before. Pure.
 *
 * @module standing
 */

import { byProgress } from "./format.js";

/** How many of these orders stand in each status. */
export function standing(orders) {
  const counts = new Map();
  for (const { status } of orders.values()) counts.set(status, (counts.get(status) ?? 0) + 1);
  return counts;
}

/** Open orders by status at the boundaries of a report's rows: from how it stands now, back in time. */
export function areasOf(rows, open, from, to, interval) {
  const now = standing(open);
  const closing = new Set(rows.filter(({ status }) => !now.has(status)).map(({ status }) => status));
  for (const { status, left } of rows) if (left > 0) closing.delete(status); // one that orders leave is none to end in
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
