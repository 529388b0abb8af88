/**
 * How long a change takes from its commit to this screen. Measured as `commit-to-screen` (see `performance`).
 *
 * @module latency
 */

const MEASURE = "commit-to-screen";

/** Of the newest changes. */
const MAX_SAMPLES = 600;

/** The browser keeps what was measured until told otherwise. */
const MAX_ENTRIES = 1000;

export class Latency {
  #samples = [];
  #offset = 0; // what the server's clock is ahead of this one's, in ms
  #uncertainty = null;
  #entries = 0;
  #waiting = [];

  /** Half of the round trip in which the clocks were compared: how wrong each figure may be, in ms. */
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

  /** Compares the clocks: the server's time in an answer that was asked for at `sent`, and got at `got`. */
  compareClocks(serverTime, sent, got) {
    const uncertainty = (got - sent) / 2;
    if (this.#uncertainty !== null && uncertainty > this.#uncertainty * 2) return; // a worse look than before
    this.#uncertainty = uncertainty;
    this.#offset = Date.parse(serverTime) - (performance.timeOrigin + (sent + got) / 2);
    if (Math.abs(this.#offset) <= uncertainty + 1) this.#offset = 0; // no difference that can be told
  }

  /** Measures events that were applied just now, once the frame that shows them has been drawn. */
  measure(events) {
    if (document.visibilityState !== "visible") return; // nothing is drawn
    if (this.#uncertainty === null) return; // whose clock is right is not known yet
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

/** The smallest of the values that `share` of them do not exceed; null of none. */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
