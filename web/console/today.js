/**
 * What happened since midnight: how many orders were created, and how many reached each final status. Asked once
 * for all who show it, counted on by the stream, and asked again now and then.
 *
 * @module today
 */

const REFRESH_MS = 60_000;

/** Questions that are kept: everybody's, and those of the newest merchant filters. */
const MAX_KEPT = 4;

/** The midnight before now, by the reader's clock, as the API takes it. */
export function midnight() {
  const time = new Date();
  time.setHours(0, 0, 0, 0);
  return time.toISOString();
}

/**
 * @typedef {Object} Figures
 * @property {Map<string, number>|null} counts  By status; null: not known.
 * @property {string} why  Why they are not known, for people.
 */

/** `change` is dispatched when an answer has come. */
export class Today extends EventTarget {
  #api;
  #store;
  #kept = new Map(); // merchants → what is known of them

  constructor({ api, store }) {
    super();
    this.#api = api;
    this.#store = store;
    store.addEventListener("events", ({ detail }) => this.#count(detail));
    store.addEventListener("reset", () => this.#kept.clear());
  }

  /**
   * The figures of these merchants; none: of all. Asks for them where that is due.
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
    kept.pending = []; // what the stream tells while the answer is on its way is in one of them, and in one only
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
      for (const { data } of events) {
        if (kept.merchants.length && !kept.merchants.includes(data.merchant_id)) continue;
        kept.pending?.push(data);
        add(kept, data);
      }
    }
  }
}

function add({ counts, since }, { status, version, active, recorded_at }) {
  const counted = counts?.has(status) && (version === 1 || !active);
  if (counted && recorded_at >= since) counts.set(status, counts.get(status) + 1);
}
