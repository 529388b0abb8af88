/**
 * Long work in short parts, so that the page draws and answers in between.
 *
 * @module slices
 */

/** The longest part. A frame has 16 ms, and drawing needs a part of it. */
const SLICE_MS = 8;

/**
 * Runs a generator to its end. The first part runs at once, so short work is complete on return.
 *
 * @param {Iterator} work  Yields wherever it may be interrupted: every few tens of µs.
 * @param {() => void} done  Called at the end.
 * @returns {() => void} Cancels the work; `done` is not called then.
 */
export function inSlices(work, done) {
  let cancelled = false;
  const step = () => {
    if (cancelled) return;
    const until = performance.now() + SLICE_MS;
    do {
      if (work.next().done) {
        done();
        return;
      }
    } while (performance.now() < until);
    later(step);
  };
  step();
  return () => {
    cancelled = true;
  };
}

/** Runs after the waiting tasks. A timer would wait 4 ms each time. */
function later(act) {
  if (globalThis.scheduler?.yield) {
    globalThis.scheduler.yield().then(act);
    return;
  }
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    act();
  };
  port2.postMessage(null);
}
