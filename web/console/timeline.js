/**
 * The order of a timeline. Steps are ordered by their version, which is a total order; times are not: the steps of
 * one batch may share a millisecond, and clocks of two servers differ. Pure.
 *
 * @module timeline
 */

/**
 * Puts refused attempts between the steps that were accepted.
 *
 * An attempt follows the last step that was not recorded later. For example, steps 1 to 3 recorded
 * at 10:00, 10:05, 10:05 and an attempt refused at 10:05 give 1, 2, 3, attempt.
 *
 * @param {Array<{version: number, recorded_at: string}>} history  In any order.
 * @param {Array<{update_id: string, recorded_at: string}>} refusals  In any order.
 * @returns {Array<{item: Object, before?: Object}|{update: Object}>} Oldest first; `before` is the step before.
 */
export function timelineOf(history, refusals) {
  const steps = [...history].sort((a, b) => a.version - b.version);
  const attempts = [...refusals].sort(
    (a, b) => Date.parse(a.recorded_at) - Date.parse(b.recorded_at) || (a.update_id < b.update_id ? -1 : 1),
  );
  const entries = [];
  let placed = 0;
  for (const update of attempts) {
    const at = Date.parse(update.recorded_at);
    const last = steps.findLastIndex((item) => Date.parse(item.recorded_at) <= at);
    for (; placed <= last; placed += 1) entries.push({ item: steps[placed], before: steps[placed - 1] });
    entries.push({ update });
  }
  for (; placed < steps.length; placed += 1) entries.push({ item: steps[placed], before: steps[placed - 1] });
  return entries;
}

/** The types of events, without checkpoints, that leave the status as it is. */
const NO_STEPS = new Set(["order.overdue", "order.customer_erased"]);

/**
 * The steps that corrections have taken back.
 *
 * A correction to a status that the order had before takes back the steps since then, and one from a final status to
 * another one takes back the first. Any other one is a step: what came before may be right. For example, in transit (1),
 * delivered (2), corrected to in transit (3) gives 2. The reports count so, too.
 *
 * @param {Array<{version: number, status: string, kind?: string, reason?: string, type?: string}>} history  In any order.
 * @param {string[]} final  The statuses in which nothing follows.
 * @returns {Set<number>} Their versions.
 */
export function takenBackIn(history, final) {
  const found = new Set();
  if (!history.some(({ reason }) => reason)) return found;
  let steps = [];
  for (const item of [...history].sort((a, b) => a.version - b.version)) {
    if (item.kind || NO_STEPS.has(item.type)) continue;
    if (!item.reason) {
      steps.push(item);
      continue;
    }
    const last = steps.findLastIndex(({ status }) => status === item.status);
    const isOtherEnd = last < 0 && final.includes(item.status) && final.includes(steps.at(-1)?.status);
    const kept = last < 0 ? steps.length - (isOtherEnd ? 1 : 0) : last + 1;
    for (const { version } of steps.slice(kept)) found.add(version);
    steps = steps.slice(0, kept);
    if (last < 0) steps.push(item);
  }
  return found;
}
