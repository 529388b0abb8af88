/**
 * Today's numbers: orders created, and orders that reached each final status, since midnight. Requested once
 * for all parts of the page, updated by the stream, and requested again from time to time.
 *
 * @module today
 */

const REFRESH_MS = 60_000;

/** Cached counts: of all merchants, and of the newest merchant filters. */
const MAX_KEPT = 4;

/** The last midnight in the time zone of the browser, in the format of the API. */
export function midnight() {
  const time = new Date();
  time.setHours(0, 0, 0, 0);
  return time.toISOString();
}

/**
 * @typedef {Object} Figures
 * @property {Map<string, number>|null} counts  By status; null: unknown.
 * @property {string} why  The reason if they are unknown, for people.
 */

/** Dispatches `change` after each answer. */
export class Today extends EventTarget {
  #api;
  #store;
  #kept = new Map(); // merchants → their counts

  constructor({ api, store }) {
    super();
    this.#api = api;
    this.#store = store;
    store.addEventListener("events", ({ detail }) => this.#count(detail));
    store.addEventListener("reset", () => this.#kept.clear());
  }

  /**
   * The figures of these merchants; none: of all. Requests them if that is due.
   * @returns {Figures}
   */
  of(merchants) {
    const key = [...merchants].sort().join("\n");
    let kept = this.#kept.get(key);
    if (kept?.from !== midnight()) {
      kept = { merchants, from: midnight(), counts: null, why: "Being counted", askedAt: -Infinity, since: "", pending: null };
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value);
    }
    const due = performance.now() - kept.askedAt > REFRESH_MS;
    if (due && !kept.pending && this.#store.isComplete) this.#ask(kept);
    return kept;
  }

  async #ask(kept) {
    kept.askedAt = performance.now();
    kept.pending = []; // events during the request: each is either in the answer or counted afterwards
    const parameters = new URLSearchParams([["from", kept.from]]);
    for (const merchant of kept.merchants) parameters.append("merchant_id", merchant);
    try {
      const { to, rows } = await this.#api.get("/v1/reports/created-and-closed", parameters);
      kept.counts = new Map(rows.map(({ status, entered }) => [status, entered]));
      kept.since = to;
      for (const data of kept.pending) add(kept, data);
    } catch (error) {
      if (kept.counts === null) kept.why = `Not known: ${error.message}`;
    }
    kept.pending = null;
    this.dispatchEvent(new CustomEvent("change"));
  }

  #count(events) {
    for (const kept of this.#kept.values()) {
      for (const { data, type } of events) {
        if (kept.merchants.length && !kept.merchants.includes(data.merchant_id)) continue;
        // It may take back what was counted, or not: the event does not tell when the order came into its status.
        if (type === "order.corrected") kept.askedAt = -Infinity;
        kept.pending?.push(data);
        add(kept, data);
      }
    }
  }
}

function add({ counts, since }, { status, previous_status, version, active, recorded_at }) {
  const counted = counts?.has(status) && (version === 1 || (!active && status !== previous_status));
  if (counted && recorded_at >= since) counts.set(status, counts.get(status) + 1);
}
