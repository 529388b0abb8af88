/**
 * The numbers of orders by status: open and overdue ones from the stream, closed ones since midnight. Each count is a
 * button that filters by it, and is the number of orders that the button shows. An unknown count is a dash.
 *
 * @module status_counts
 */

import { h, icon, setAttribute, setText } from "./dom.js";
import { byProgress, number, statusIcon, statusName } from "./format.js";
import { isByDueTime, withoutClosing } from "./filters.js";
import { midnight } from "./today.js";

const UNKNOWN = "–";

/** The key of the button for overdue orders, which is no name of a status. */
const OVERDUE = "is-overdue";

/** The number of open statuses that have a button even without orders. */
const MAX_EMPTY = 8;

export class StatusCounts {
  element = h("div", { class: "chips", role: "group", "aria-label": "Orders by status" });

  #store;
  #today;
  #open;
  #statuses;
  #navigate;
  #filter = null;
  #known = null; // open orders by status, within the filter of overdue ones; null while unknown

  /**
   * @param {{store: Object, today: Object, open: Object, statuses: {open: string[], final: string[]}, navigate: Function}} use
   *   `open`: the `OpenCounts`; `statuses`: those of the workflow.
   */
  constructor({ store, today, open, statuses, navigate }) {
    this.#store = store;
    this.#today = today;
    this.#open = open;
    this.#statuses = statuses;
    this.#navigate = navigate;
  }

  /** Counts the orders of this filter from now on. */
  set filter(filter) {
    this.#filter = filter;
  }

  /** The number of orders on the board; null if unknown. */
  get total() {
    const { status, active } = this.#filter;
    if (this.#known === null || active === false || (active === null && !status.length) || this.#filter.q) return null;
    if (status.some((name) => this.#statuses.final.includes(name))) return null;
    return status.length ? status.reduce((sum, name) => sum + (this.#known.get(name) ?? 0), 0) : sumOf(this.#known);
  }

  /**
   * Shows the current counts.
   * @param {StatusTotals|null} totals  Of the open orders in the filter's scope; null: the page does not have them, and the service counts.
   */
  draw(totals) {
    const found = totals ? { counts: totals.open.counts, overdue: totals.overdue.counts, why: "" } : this.#countedByService();
    const { counts, overdue } = this.#store.isComplete ? found : { counts: null, overdue: null };
    const { status: chosen, active } = this.#filter;
    const why = found.why || "The orders are being loaded";
    this.#known = within(this.#filter.overdue, counts, overdue);
    this.#chip("open", "Open", { count: counts && sumOf(counts), why, pressed: active === true && !chosen.length && this.#filter.overdue === null });
    this.#drawOverdue(overdue, why);
    const shown = new Set(this.#statuses.open.slice(0, MAX_EMPTY));
    for (const [status, count] of this.#known ?? []) if (count || this.#hasChip(status)) shown.add(status);
    for (const status of byProgress(shown)) {
      const count = this.#known && (this.#known.get(status) ?? 0);
      this.#chip(status, statusName(status), { count, why, pressed: chosen.includes(status), mark: statusIcon(status) });
    }
    this.drawToday();
  }

  /** Those of the open statuses that are chosen, since the button keeps them. */
  #drawOverdue(overdue, why) {
    const chosen = this.#openChosen();
    const count = overdue && sumOf(chosen.length ? new Map(chosen.map((status) => [status, overdue.get(status) ?? 0])) : overdue);
    this.#chip(OVERDUE, "Overdue", { count, why, pressed: this.#filter.overdue === true, mark: "late" });
  }

  /** Shows the counts since midnight. */
  drawToday() {
    if (!this.#filter) return;
    const { counts, why } = this.#closedToday();
    for (const status of byProgress(this.#statuses.final)) {
      const pressed = this.#isToday && this.#filter.status.includes(status);
      this.#chip(status, statusName(status), { count: counts?.get(status) ?? null, why, pressed, mark: statusIcon(status), closed: true });
    }
  }

  /** The service counts by merchant only, as for closed orders. */
  #countedByService() {
    const { q, customer_ref, source_id, merchant_id } = this.#filter;
    const unknown = { counts: null, overdue: null };
    if (q || customer_ref || source_id) return { ...unknown, why: "Not counted within a search" };
    if (this.#isTimed) return { ...unknown, why: "Not counted within a range of time" };
    const found = this.#open.of(merchant_id);
    return isByDueTime(this.#filter) ? { ...found, counts: null, why: found.why || "Orders with a due time are not counted" } : found;
  }

  /** Counted by merchant only. With a narrower filter the count is unknown, because a click keeps the filter. */
  #closedToday() {
    const { q, customer_ref, source_id, merchant_id } = this.#filter;
    if (q || customer_ref || source_id) return { counts: null, why: "Not counted within a search" };
    if (this.#isTimed) return { counts: null, why: "Not counted within a range of time" };
    if (isByDueTime(this.#filter)) return { counts: null, why: "Orders with a due time are not counted" };
    return this.#today.of(merchant_id);
  }

  get #isToday() {
    const { closed_from, closed_to } = this.#filter.times;
    return closed_from === midnight() && !closed_to;
  }

  /** True within a range of time that a click keeps. It does not keep times of closing. */
  get #isTimed() {
    return Object.keys(withoutClosing(this.#filter).times).length > 0;
  }

  #chip(key, name, { count, why, pressed, mark = null, closed = false }) {
    let chip = this.element.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!chip) {
      chip = h(
        "button",
        { class: "chip", type: "button", "data-key": key, "data-status": key, "data-testid": `count-${key}` },
        ...[mark && icon(mark, "status-icon"), h("span", { class: "chip-name" }, name), h("span", { class: "chip-count" })],
      );
      if (closed) chip.append(h("span", { class: "chip-note" }, "today"));
      chip.addEventListener("click", () => this.#toggle(key));
      this.element.append(chip);
    }
    chip.dataset.closed = String(closed);
    chip.dataset.some = String(count > 0);
    setAttribute(chip, "aria-pressed", String(pressed));
    setText(chip.querySelector(".chip-count"), count === null ? UNKNOWN : number(count));
    setAttribute(chip, "title", count === null ? why : "");
  }

  #hasChip(key) {
    return this.element.querySelector(`[data-key="${CSS.escape(key)}"]`) !== null;
  }

  #toggle(key) {
    if (key === OVERDUE) this.#toggleOverdue();
    else if (this.#statuses.final.includes(key)) this.#toggleClosed(key);
    else this.#toggleOpen(key);
  }

  /** Filters by these statuses, since midnight. The rest of the filter is kept. */
  #toggleClosed(key) {
    const chosen = this.#isToday ? this.#filter.status.filter((status) => this.#statuses.final.includes(status)) : [];
    const status = toggled(chosen, key);
    const { times } = withoutClosing(this.#filter);
    if (status.length) times.closed_from = midnight();
    this.#navigate({ filter: { ...this.#filter, status, times, overdue: null, active: status.length ? null : true } });
  }

  /** All open orders, or those of one status more or less. */
  #toggleOpen(key) {
    const chosen = this.#isToday ? this.#openChosen() : this.#filter.status;
    const status = key === "open" ? [] : toggled(chosen, key);
    const overdue = key === "open" ? null : this.#filter.overdue;
    this.#navigate({ filter: { ...withoutClosing(this.#filter), status, overdue, active: status.length ? null : true } });
  }

  #toggleOverdue() {
    const status = this.#openChosen();
    const overdue = this.#filter.overdue === true ? null : true;
    this.#navigate({ filter: { ...withoutClosing(this.#filter), status, overdue, active: status.length ? null : true } });
  }

  #openChosen() {
    return this.#filter.status.filter((status) => !this.#statuses.final.includes(status));
  }
}

/** The counts that are left by a filter: of overdue orders, of the others, or of all. Null: unknown. */
function within(isOverdue, counts, overdue) {
  if (isOverdue === null) return counts;
  if (isOverdue) return overdue;
  return counts && new Map([...counts].map(([status, count]) => [status, count - (overdue.get(status) ?? 0)]));
}

const sumOf = (counts) => [...counts.values()].reduce((sum, count) => sum + count, 0);

function toggled(chosen, key) {
  const others = chosen.filter((status) => status !== key);
  return others.length === chosen.length ? [...others, key] : others;
}
