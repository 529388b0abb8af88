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
