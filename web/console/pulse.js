/**
 * The activity of the last minutes: changes a second, and the numbers of open orders by status.
 *
 * @module pulse
 */

export const WINDOW_SECONDS = 300;
export const LIVE_MINUTES = 10;

const BUCKET_SECONDS = 5;
const SAMPLE_SECONDS = 5;
const LEAST_MS = 30_000; // a shorter axis would change all the time

/** Counts events, from the opening of the console on. */
export class Pulse {
  #store;
  #openByStatus;
  #buckets = new Map(); // start in bucket units → events
  samples = []; // {time, counts} of open orders by status
  startedAt = Date.now();

  /** @param {() => Map<string, number>|null} openByStatus  Open orders by status; null: unknown. */
  constructor(store, openByStatus) {
    this.#store = store;
    this.#openByStatus = openByStatus;
    store.addEventListener("events", ({ detail }) => this.#count(detail));
    setInterval(() => this.#sample(), SAMPLE_SECONDS * 1000);
    store.addEventListener("reset", () => this.#sample());
  }

  #count(events) {
    if (this.#store.status.state !== "live") return; // missed events did not happen just now
    const bucket = Math.floor(Date.now() / 1000 / BUCKET_SECONDS);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + events.length);
    const oldest = bucket - WINDOW_SECONDS / BUCKET_SECONDS;
    for (const old of this.#buckets.keys()) if (old < oldest) this.#buckets.delete(old);
  }

  #sample() {
    const time = Date.now();
    const counts = this.#openByStatus();
    if (counts) this.samples.push({ time, counts: new Map(counts) });
    while (this.samples[0]?.time < time - LIVE_MINUTES * 60_000) this.samples.shift();
  }

  /** The part of this time span, in ms, for which there is data by now. */
  reach(milliseconds) {
    return Math.min(milliseconds, Math.max(LEAST_MS, Date.now() - this.startedAt));
  }

  /** Changes a second in each bucket of the window, oldest first; without the current one. */
  get rates() {
    const last = Math.floor(Date.now() / 1000 / BUCKET_SECONDS);
    const count = Math.ceil(this.reach(WINDOW_SECONDS * 1000) / 1000 / BUCKET_SECONDS);
    return Array.from({ length: count }, (_, index) => (this.#buckets.get(last - count + index) ?? 0) / BUCKET_SECONDS);
  }

  /** Changes a second over the last half minute, or since the start if that is less. */
  get rate() {
    const now = Date.now() / 1000;
    const first = Math.max(Math.floor(now / BUCKET_SECONDS) - 6, Math.ceil(this.startedAt / 1000 / BUCKET_SECONDS));
    const seconds = now - first * BUCKET_SECONDS;
    if (seconds < 1) return null;
    let count = 0;
    for (const [bucket, events] of this.#buckets) if (bucket >= first) count += events;
    return count / seconds;
  }
}
