/**
 * The numbers of orders by status: open ones from the stream, closed ones since midnight. Each
 * count is a button that filters by it. An unknown count is a dash.
 *
 * @module status_counts
 */

import { h, icon, setAttribute, setText } from "./dom.js";
import { byProgress, number, statusIcon, statusName } from "./format.js";
import { midnight } from "./today.js";

const UNKNOWN = "–";

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
  #known = null; // open orders by status; null while unknown

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
    const { counts: found, why } = totals ? { counts: totals.counts, why: "" } : this.#countedByService();
    this.#known = this.#store.isComplete ? found : null;
    const known = this.#known !== null;
    const counts = new Map(this.#statuses.open.slice(0, MAX_EMPTY).map((status) => [status, 0]));
    for (const [status, count] of found ?? []) if (count || this.#hasChip(status)) counts.set(status, count);
    this.#drawOpen(counts, known, known ? "" : why || "The orders are being loaded");
  }

  #drawOpen(counts, known, why) {
    const all = sumOf(counts);
    this.#chip("open", "Open", { count: known ? all : null, why, pressed: this.#filter.active === true && !this.#filter.status.length });
    for (const status of byProgress(counts.keys())) {
      this.#chip(status, statusName(status), { count: known ? counts.get(status) : null, why, pressed: this.#filter.status.includes(status) });
    }
    this.drawToday();
  }

  /** Shows the counts since midnight. */
  drawToday() {
    if (!this.#filter) return;
    const { counts, why } = this.#closedToday();
    for (const status of byProgress(this.#statuses.final)) {
      const pressed = this.#isToday && this.#filter.status.includes(status);
      this.#chip(status, statusName(status), { count: counts?.get(status) ?? null, why, pressed, closed: true });
    }
  }

  /** The service counts by merchant only, as for closed orders. */
  #countedByService() {
    const { q, customer_ref, source_id, times, merchant_id } = this.#filter;
    if (q || customer_ref || source_id) return { counts: null, why: "Not counted within a search" };
    if (Object.keys(times).length) return { counts: null, why: "Not counted within a range of time" };
    return this.#open.of(merchant_id);
  }

  /** Counted by merchant only. With a narrower filter the count is unknown, because a click keeps the filter. */
  #closedToday() {
    const { q, customer_ref, source_id, times, merchant_id } = this.#filter;
    const { updated_from, ...others } = times;
    if (q || customer_ref || source_id) return { counts: null, why: "Not counted within a search" };
    if (Object.keys(others).length || (updated_from && !this.#isToday)) return { counts: null, why: "Not counted within a range of time" };
    return this.#today.of(merchant_id);
  }

  get #isToday() {
    return this.#filter.times.updated_from === midnight();
  }

  #chip(key, name, { count, why, pressed, closed = false }) {
    let chip = this.element.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!chip) {
      const mark = key === "open" ? null : icon(statusIcon(key), "status-icon");
      chip = h(
        "button",
        { class: "chip", type: "button", "data-key": key, "data-status": key, "data-testid": `count-${key}` },
        ...[mark, h("span", { class: "chip-name" }, name), h("span", { class: "chip-count" })],
      );
      if (closed) chip.append(h("span", { class: "chip-note" }, "today"));
      chip.addEventListener("click", () => this.#toggle(key));
      this.element.append(chip);
    }
    chip.dataset.closed = String(closed);
    setAttribute(chip, "aria-pressed", String(pressed));
    setText(chip.querySelector(".chip-count"), count === null ? UNKNOWN : number(count));
    setAttribute(chip, "title", count === null ? why : "");
  }

  #hasChip(key) {
    return this.element.querySelector(`[data-key="${CSS.escape(key)}"]`) !== null;
  }

  #toggle(key) {
    if (this.#statuses.final.includes(key)) this.#toggleClosed(key);
    else this.#toggleOpen(key);
  }

  /** Filters by these statuses, since midnight. The rest of the filter is kept. */
  #toggleClosed(key) {
    const chosen = this.#isToday ? this.#filter.status.filter((status) => this.#statuses.final.includes(status)) : [];
    const status = toggled(chosen, key);
    const times = { ...this.#withoutToday(), ...(status.length && { updated_from: midnight() }) };
    this.#navigate({ filter: { ...this.#filter, status, times, active: status.length ? null : true } });
  }

  #toggleOpen(key) {
    const chosen = this.#isToday ? this.#filter.status.filter((status) => !this.#statuses.final.includes(status)) : this.#filter.status;
    const status = key === "open" ? [] : toggled(chosen, key);
    this.#navigate({ filter: { ...this.#filter, status, times: this.#withoutToday(), active: status.length ? null : true } });
  }

  #withoutToday() {
    const { updated_from, ...others } = this.#filter.times;
    return this.#isToday || !updated_from ? others : this.#filter.times;
  }
}

const sumOf = (counts) => [...counts.values()].reduce((sum, count) => sum + count, 0);

function toggled(chosen, key) {
  const others = chosen.filter((status) => status !== key);
  return others.length === chosen.length ? [...others, key] : others;
}
