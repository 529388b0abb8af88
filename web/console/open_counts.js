/**
 * The open orders by merchant and status, and those of them that are overdue, as the service counts them, updated by the stream. The answer has the cursor
 * at which it was counted; the stream goes on after it, so each change is counted once.
 *
 * @module open_counts
 */

import { Refusal } from "./api.js";

const PATH = "/v1/reports/open-counts";
const ATTEMPTS = 3;
const PATIENCE_MS = 10_000;

export class OpenCounts {
  #api;
  #counts = null; // merchant → status → { open, overdue }; null: unknown
  #byMerchant = true; // false: there are too many merchants, and all are counted under one name
  #why = "Being counted";

  constructor(api) {
    this.#api = api;
  }

  /**
   * Requests the numbers anew.
   * @returns {Promise<{total: number, cursor: string}|null>} Null: they stay unknown.
   */
  async read() {
    this.#counts = null;
    this.#byMerchant = true;
    try {
      return this.#take(await this.#ask([["group_by", "merchant"]]));
    } catch (error) {
      this.#why = `Not known: ${error.message}`;
      return null;
    }
  }

  async #ask(parameters) {
    try {
      return await this.#api.get(PATH, new URLSearchParams(parameters), { signal: AbortSignal.timeout(PATIENCE_MS), attempts: ATTEMPTS });
    } catch (error) {
      const isTooLong = this.#byMerchant && error instanceof Refusal && error.slug === "validation-failed";
      if (!isTooLong) throw error;
      this.#byMerchant = false;
      return this.#ask([]);
    }
  }

  #take({ cursor, rows }) {
    this.#counts = new Map();
    for (const { merchant_id, status, count, overdue } of rows) this.#of(merchant_id).set(status, { open: count, overdue });
    return { cursor, total: rows.reduce((sum, { count }) => sum + count, 0) };
  }

  /** The merchants that have, or had, open orders. */
  get merchants() {
    return this.#byMerchant ? [...(this.#counts?.keys() ?? [])] : [];
  }

  /** Counts the changes of these events. */
  add(events) {
    if (this.#counts === null) return;
    for (const { data } of events) {
      const counts = this.#of(data.merchant_id);
      const before = counts.get(data.previous_status);
      if (before?.open > 0) before.open -= 1;
      if (data.previous_overdue && before?.overdue > 0) before.overdue -= 1;
      if (data.active) add(counts, data.status, { open: 1, overdue: data.overdue ? 1 : 0 });
    }
  }

  #of(merchant) {
    const key = this.#byMerchant ? merchant : "";
    if (!this.#counts.has(key)) this.#counts.set(key, new Map());
    return this.#counts.get(key);
  }

  /**
   * The open orders of these merchants by status; none: of all.
   * @returns {{counts: Map<string, number>|null, overdue: Map<string, number>|null, why: string}} `overdue`: those of
   *   them that are; `why`: the reason if they are unknown, for people.
   */
  of(merchants) {
    const unknown = { counts: null, overdue: null };
    if (this.#counts === null) return { ...unknown, why: this.#why };
    if (merchants.length && !this.#byMerchant) return { ...unknown, why: "Not counted by merchant: there are too many" };
    const sums = new Map();
    for (const key of merchants.length ? merchants : this.#counts.keys()) {
      for (const [status, count] of this.#counts.get(key) ?? []) add(sums, status, count);
    }
    const only = (name) => new Map([...sums].map(([status, sum]) => [status, sum[name]]));
    return { counts: only("open"), overdue: only("overdue"), why: "" };
  }
}

function add(sums, status, { open, overdue }) {
  const before = sums.get(status) ?? { open: 0, overdue: 0 };
  sums.set(status, { open: before.open + open, overdue: before.overdue + overdue });
}
