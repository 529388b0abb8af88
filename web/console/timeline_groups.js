/**
 * Repeated scans of a timeline in one row: steps of the same status by the same source, one after the other. Pure.
 * Checkpoints, corrections and passed due times have rows of their own, since each tells something else.
 *
 * @module timeline_groups
 */

/** Fewer are not grouped: a row for two would save nothing. */
const MIN_REPEATS = 3;

/**
 * @typedef {{key: number, count: number, newest: Object, oldest: Object, isOpen: boolean}} Group  `key`: the version of
 *   its oldest step, which stays when newer ones follow.
 *
 * @param {Array<{item: Object, before?: Object}|{update: Object}>} newestFirst
 * @param {Set<number>} opened  Keys of the groups whose steps are shown, too, after the row of the group.
 * @returns {Array<{item: Object, before?: Object}|{update: Object}|{group: Group}>}
 */
export function withGroups(newestFirst, opened) {
  const entries = [];
  for (let start = 0; start < newestFirst.length; ) {
    const end = endOfRun(newestFirst, start);
    const run = newestFirst.slice(start, end);
    if (run.length >= MIN_REPEATS) {
      const [newest, oldest] = [run[0].item, run.at(-1).item];
      const isOpen = opened.has(oldest.version);
      entries.push({ group: { key: oldest.version, count: run.length, newest, oldest, isOpen } });
      if (isOpen) entries.push(...run);
    } else entries.push(...run);
    start = end;
  }
  return entries;
}

function endOfRun(entries, start) {
  const { item } = entries[start];
  let end = start + 1;
  while (item && isRepeat(entries[end]?.item, item)) end += 1;
  return end;
}

const isScan = ({ kind, reason, type }) => kind === undefined && reason === undefined && type !== "order.overdue";

const isRepeat = (other, item) =>
  other?.status === item.status &&
  isScan(other) &&
  isScan(item) &&
  other.source.type === item.source.type &&
  other.source.id === item.source.id;
