/**
 * How many orders stand in each status: the open ones as the stream tells, the closed ones since midnight. Each
 * count is a button that filters by it.
 *
 * @module status_counts
 */

import { h, icon, setAttribute, setText } from "./dom.js";
import { matchesScope } from "./filters.js";
import { byProgress, number, statusIcon, statusName } from "./format.js";

export class StatusCounts {
  element = h("div", { class: "chips", role: "group", "aria-label": "Orders by status" });

  #store;
  #reports;
  #now;
  #navigate;
  #changed;
  #filter = null;
  #today = new Map(); // closed status → orders that came into it since midnight
  #todayUntil = ""; // up to when the report counted them; the stream counts on from there
  #closed = null; // what the stream told of since the newest report was asked for, while it is on its way
  #askedFor = null; // the parameters of the newest report

  /**
   * @param {{store: Object, reports: Object, now: () => number, navigate: Function, changed: () => void}} use
   *   `changed` is called when a report has come.
   */
  constructor({ store, reports, now, navigate, changed }) {
    this.#store = store;
    this.#reports = reports;
    this.#now = now;
    this.#navigate = navigate;
    this.#changed = changed;
  }

  /** Counts what matches this filter from now on. */
  set filter(filter) {
    this.#filter = filter;
    this.ask();
  }

  /** Asks how many orders were closed today, if that is not known. */
  async ask() {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    const parameters = new URLSearchParams([["from", midnight.toISOString()]]);
    for (const merchant of this.#filter?.merchant_id ?? []) parameters.append("merchant_id", merchant);
    const key = parameters.toString();
    if (this.#askedFor === key && this.#store.status.state === "live") return;
    this.#askedFor = key;
    // Where report and stream meet: what closes while the report is on its way is in one of them, and in one only.
    const until = new Date(this.#now()).toISOString();
    parameters.set("to", until);
    const closed = [];
    this.#closed = closed; // and so an answer to an earlier question is not wanted any more
    try {
      const { rows } = await this.#reports.get("status-counts", parameters);
      if (this.#closed !== closed) return;
      const before = rows.filter(({ status }) => !this.#openStatuses.has(status));
      this.#today = new Map(before.map(({ status, entered }) => [status, entered]));
      this.#todayUntil = until;
      for (const data of closed) this.#add(data);
      this.#closed = null;
      this.#changed();
    } catch {
      if (this.#closed !== closed) return;
      this.#closed = null;
      this.#askedFor = null; // the counts of open orders are there without it
    }
  }

  /** Takes a change by which an order was closed. */
  count(data) {
    if (!this.#filter || !matchesScope({ ...this.#filter, q: "" }, { ...data, updated_at: data.recorded_at })) return;
    this.#closed?.push(data);
    this.#add(data);
  }

  #add({ status, recorded_at }) {
    if (recorded_at >= this.#todayUntil) this.#today.set(status, (this.#today.get(status) ?? 0) + 1);
  }

  get #openStatuses() {
    const statuses = new Set(["created", "picked_up", "in_transit"]);
    for (const order of this.#store.open.values()) statuses.add(order.status);
    return statuses;
  }

  /** Shows how it stands now. */
  draw() {
    const counts = new Map([...this.#openStatuses].map((status) => [status, 0]));
    let all = 0;
    for (const order of this.#store.open.values()) {
      if (!matchesScope(this.#filter, order)) continue;
      all += 1;
      counts.set(order.status, counts.get(order.status) + 1);
    }
    this.#chip("open", "Open", all, this.#filter.active === true && !this.#filter.status.length);
    for (const status of byProgress(counts.keys())) this.#statusChip(status, counts.get(status), false);
    for (const status of byProgress(this.#today.keys())) {
      if (!counts.has(status)) this.#statusChip(status, this.#today.get(status), true);
    }
  }

  #statusChip(status, count, closed) {
    const pressed = this.#filter.status.includes(status);
    this.#chip(status, statusName(status), count, pressed, closed);
  }

  #chip(key, name, count, pressed, closed = false) {
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
    setText(chip.querySelector(".chip-count"), number(count));
  }

  #toggle(key) {
    const filter = { ...this.#filter };
    if (key === "open") Object.assign(filter, { status: [], active: true });
    else {
      const others = filter.status.filter((status) => status !== key);
      filter.status = others.length === filter.status.length ? [...others, key] : others;
      filter.active = filter.status.length ? null : true;
    }
    this.#navigate({ filter });
  }
}
