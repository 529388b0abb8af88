/**
 * How many orders stand in each status: the open ones as the stream tells, the closed ones since midnight. Each
 * count is a button that filters by it. What is not known is a dash.
 *
 * @module status_counts
 */

import { h, icon, setAttribute, setText } from "./dom.js";
import { matchesScope } from "./filters.js";
import { byProgress, number, statusIcon, statusName } from "./format.js";
import { midnight } from "./today.js";

const UNKNOWN = "–";

/** Open statuses that have a button although no order is in them. */
const MAX_EMPTY = 8;

export class StatusCounts {
  element = h("div", { class: "chips", role: "group", "aria-label": "Orders by status" });

  #store;
  #today;
  #statuses;
  #navigate;
  #filter = null;

  /**
   * @param {{store: Object, today: Object, statuses: {open: string[], final: string[]}, navigate: Function}} use
   *   `statuses`: those of the workflow.
   */
  constructor({ store, today, statuses, navigate }) {
    this.#store = store;
    this.#today = today;
    this.#statuses = statuses;
    this.#navigate = navigate;
  }

  /** Counts what matches this filter from now on. */
  set filter(filter) {
    this.#filter = filter;
  }

  /** Shows how it stands now. */
  draw() {
    const known = this.#store.isComplete;
    const counts = new Map(this.#statuses.open.slice(0, MAX_EMPTY).map((status) => [status, 0]));
    let all = 0;
    for (const order of this.#store.open.values()) {
      if (!matchesScope(this.#filter, order)) continue;
      all += 1;
      counts.set(order.status, (counts.get(order.status) ?? 0) + 1);
    }
    const why = known ? "" : "The orders are being loaded";
    this.#chip("open", "Open", { count: known ? all : null, why, pressed: this.#filter.active === true && !this.#filter.status.length });
    for (const status of byProgress(counts.keys())) {
      this.#chip(status, statusName(status), { count: known ? counts.get(status) : null, why, pressed: this.#filter.status.includes(status) });
    }
    this.drawToday();
  }

  /** The same of the counts since midnight alone. */
  drawToday() {
    if (!this.#filter) return;
    const { counts, why } = this.#closedToday();
    for (const status of byProgress(this.#statuses.final)) {
      const pressed = this.#isToday && this.#filter.status.includes(status);
      this.#chip(status, statusName(status), { count: counts?.get(status) ?? null, why, pressed, closed: true });
    }
  }

  /** They are counted by merchant only: of a narrower filter nothing is said, since the click keeps it. */
  #closedToday() {
    const { q, customer_ref, times, merchant_id } = this.#filter;
    const { updated_from, ...others } = times;
    if (q || customer_ref) return { counts: null, why: "Not counted within a search" };
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

  #toggle(key) {
    if (this.#statuses.final.includes(key)) this.#toggleClosed(key);
    else this.#toggleOpen(key);
  }

  /** What the count says: these statuses, since midnight. The rest of the filter stays. */
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

function toggled(chosen, key) {
  const others = chosen.filter((status) => status !== key);
  return others.length === chosen.length ? [...others, key] : others;
}
