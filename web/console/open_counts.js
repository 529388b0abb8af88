/**
 * The open orders by status, if the page does not have them all: requested from the service, updated by the
 * stream, and requested again from time to time. The report is read in pages while orders change, so it may miss
 * changes of those moments, until the next request.
 *
 * @module open_counts
 */

const REFRESH_MS = 5 * 60_000;

/** Cached counts: of all merchants, and of the newest merchant filters. */
const MAX_KEPT = 4;

/** Dispatches `change` after each answer. */
export class OpenCounts extends EventTarget {
  #reports;
  #store;
  #kept = new Map(); // merchants → their counts

  constructor({ reports, store }) {
    super();
    this.#reports = reports;
    this.#store = store;
    store.addEventListener("events", ({ detail }) => this.#count(detail));
    store.addEventListener("reset", () => this.#kept.clear());
  }

  /**
   * The open orders of these merchants; none: of all. Requests them if that is due.
   * @returns {{counts: Map<string, number>|null, why: string}} `why`: the reason if they are unknown, for people.
   */
  of(merchants) {
    const key = [...merchants].sort().join("\n");
    let kept = this.#kept.get(key);
    if (!kept) {
      kept = { merchants, counts: null, why: "Being counted", askedAt: -Infinity, since: "", pending: null };
      this.#kept.set(key, kept);
      if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value);
    }
    const due = performance.now() - kept.askedAt > REFRESH_MS;
    if (due && !kept.pending && this.#store.isComplete) this.#ask(kept);
    return kept;
  }

  async #ask(kept) {
    kept.askedAt = performance.now();
    kept.pending = [];
    const parameters = new URLSearchParams(kept.merchants.map((merchant) => ["merchant_id", merchant]));
    try {
      const { as_of, rows } = await this.#reports.get("open-orders", parameters);
      kept.counts = new Map();
      for (const { status, count } of rows) kept.counts.set(status, (kept.counts.get(status) ?? 0) + count);
      kept.since = as_of ?? "";
      for (const data of kept.pending) add(kept, data);
    } catch (error) {
      if (kept.counts === null) kept.why = `Not known: ${error.message}`;
    }
    kept.pending = null;
    this.dispatchEvent(new CustomEvent("change"));
  }

  #count(events) {
    for (const kept of this.#kept.values()) {
      for (const { data } of events) {
        if (kept.merchants.length && !kept.merchants.includes(data.merchant_id)) continue;
        kept.pending?.push(data);
        add(kept, data);
      }
    }
  }
}

function add({ counts, since }, { previous_status, status, active, recorded_at }) {
  if (counts === null || recorded_at < since) return;
  if (counts.get(previous_status) > 0) counts.set(previous_status, counts.get(previous_status) - 1);
  if (active) counts.set(status, (counts.get(status) ?? 0) + 1);
}
