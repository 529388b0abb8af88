/**
 * The time of a change from its commit to this screen. Measured as `commit-to-screen` (see `performance`).
 *
 * @module latency
 */

const MEASURE = "commit-to-screen";

/** The number of newest changes that are kept. */
const MAX_SAMPLES = 600;

/** The browser keeps measurements until they are cleared. */
const MAX_ENTRIES = 1000;

export class Latency {
  #samples = [];
  #offset = 0; // how far the server's clock is ahead of this one, in ms
  #uncertainty = null;
  #entries = 0;
  #waiting = [];

  /** The uncertainty of each figure in ms: half of the round trip in which the clocks were compared. */
  get uncertainty() {
    return this.#uncertainty;
  }

  /** @returns {number[]} Milliseconds, oldest first. */
  get samples() {
    return this.#samples;
  }

  /** The time by the server's clock, in ms. */
  now() {
    return performance.timeOrigin + performance.now() + this.#offset;
  }

  /** Compares the clocks: `serverTime` is from the answer to a request sent at `sent`, received at `got`. */
  compareClocks(serverTime, sent, got) {
    const uncertainty = (got - sent) / 2;
    if (this.#uncertainty !== null && uncertainty > this.#uncertainty * 2) return; // less exact than before
    this.#uncertainty = uncertainty;
    this.#offset = Date.parse(serverTime) - (performance.timeOrigin + (sent + got) / 2);
    if (Math.abs(this.#offset) <= uncertainty + 1) this.#offset = 0; // no measurable difference
  }

  /** Measures events that were applied just now, once the frame that shows them has been drawn. */
  measure(events) {
    if (document.visibilityState !== "visible") return; // nothing is drawn
    if (this.#uncertainty === null) return; // the clocks are not compared yet
    if (!this.#waiting.length) requestAnimationFrame(() => afterThisFrame(() => this.#drawn()));
    this.#waiting.push(...events);
  }

  #drawn() {
    const shown = this.now();
    for (const { id, time } of this.#waiting.splice(0)) {
      const took = Math.max(0, shown - Date.parse(time));
      this.#samples.push(took);
      this.#record(id, took);
    }
    if (this.#samples.length > MAX_SAMPLES) this.#samples.splice(0, this.#samples.length - MAX_SAMPLES);
  }

  #record(id, took) {
    const end = performance.now();
    performance.measure(MEASURE, { start: Math.max(0, end - took), end, detail: { id, milliseconds: took } });
    this.#entries += 1;
    if (this.#entries < MAX_ENTRIES) return;
    performance.clearMeasures(MEASURE);
    this.#entries = 0;
  }
}

function afterThisFrame(act) {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    channel.port1.close();
    act();
  };
  channel.port2.postMessage(null);
}

/** The quantile `share` of the values; null if there are none. */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
