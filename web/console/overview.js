/**
 * The overview: the present from the stream, and the past from the reports.
 *
 * @module overview
 */

import { Chart, columns, histogram, stackedAreas } from "./charts.js";
import { h, icon, setAttribute, setIcon, setText } from "./dom.js";
import { comparison } from "./filters.js";
import { age, byProgress, compactNumber, dayName, decimal, hourAndMinute, number, orderName, statusIcon, statusName, timeOfDay } from "./format.js";
import { percentile } from "./latency.js";
import { barRow, card, legRow, oldestRow, tile } from "./overview_parts.js";
import { LIVE_MINUTES, WINDOW_SECONDS } from "./pulse.js";
import { areasOf, firstOf } from "./status_totals.js";

const REPORTS_SECONDS = 60;
const OLDEST = 8;

/** Upper bounds of the classes of commit-to-screen times, in ms; a last class has all longer times. */
const CLASSES_MS = [5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 500, 1000];

const RANGES = {
  live: { name: "10 minutes", hours: LIVE_MINUTES / 60 },
  day: { name: "24 hours", hours: 24, interval: "hour" },
  week: { name: "7 days", hours: 7 * 24, interval: "day" },
};

export class Overview {
  element;

  #use;
  #parts = {};
  #charts = [];
  #range = "live";
  #areas = null; // of the chosen range
  #shown = false;
  #reportsAt = null;
  #oldest = null; // as listed by the API, if the page does not have every open order

  /** @param {{api: Object, store: Object, reports: Object, openByStatus: () => Map<string, number>|null, overdue: () => number|null, today: Object, pulse: Pulse, latency: Object, now: () => number, navigate: Function}} use */
  constructor(use) {
    this.#use = use;
    this.element = this.#build();
    use.today.addEventListener("change", () => this.#shown && this.#drawToday());
    setInterval(() => this.#shown && this.#tick(), 1000);
  }

  set shown(shown) {
    this.#shown = shown;
    if (shown) this.#tick();
  }

  #tick() {
    const { pulse, latency, store } = this.#use;
    const { tiles } = this.#parts;
    const open = this.#openNow();
    setText(tiles.open.value, open === null ? "–" : number(open));
    setText(tiles.open.note, open === null ? "" : "not delivered or cancelled yet");
    const overdue = this.#use.overdue();
    setText(tiles.overdue.value, overdue === null ? "–" : number(overdue));
    this.#drawToday();
    setText(tiles.rate.value, pulse.rate === null ? "–" : decimal(pulse.rate));
    const [p50, p95] = [percentile(latency.samples, 0.5), percentile(latency.samples, 0.95)];
    setText(tiles.screen.value, p50 === null ? "–" : `${number(Math.round(p50))} ms`);
    setText(tiles.screen.note, p95 === null ? "median of this browser" : `95 % within ${number(Math.round(p95))} ms`);
    const { uncertainty } = latency;
    if (uncertainty !== null) setAttribute(tiles.screen.element, "title", `The clocks were compared to ± ${decimal(uncertainty)} ms`);
    tiles.screen.value.dataset.milliseconds = p50 === null ? "" : String(Math.round(p50 * 10) / 10);
    this.#drawOldest();
    for (const chart of this.#charts) chart.redraw();
    const due = this.#reportsAt === null || performance.now() - this.#reportsAt > REPORTS_SECONDS * 1000;
    if (due && store.status.state === "live") this.#askReports();
  }

  /** The number of open orders; null while unknown. */
  #openNow() {
    const counts = this.#use.openByStatus();
    return counts && [...counts.values()].reduce((sum, count) => sum + count, 0);
  }

  // --- reports -------------------------------------------------------------------------------------------------

  async #askReports() {
    this.#reportsAt = performance.now();
    if (this.#use.store.isPartial) this.#askOldest();
    const day = new Date(Date.now() - 24 * 3600_000).toISOString();
    await this.#part("refusals", new URLSearchParams([["from", day]]), ({ rows }) => this.#drawRefusals(rows));
    await this.#part("durations", new URLSearchParams([["from", day]]), ({ rows }) => this.#drawLegs(rows));
    if (this.#range !== "live") await this.#askAreas();
  }

  async #part(name, parameters, draw) {
    try {
      draw(await this.#use.reports.get(name, parameters));
      setText(this.#parts.fault, "");
    } catch (error) {
      setText(this.#parts.fault, `A report could not be read: ${error.message}`);
    }
  }

  #drawToday() {
    const { done } = this.#parts.tiles;
    const { counts, why } = this.#use.today.of([]);
    const said = (status) => (counts?.has(status) ? number(counts.get(status)) : "–");
    setText(done.value, said("delivered"));
    setText(done.note, counts ? `${said("created")} created, ${said("cancelled")} cancelled` : "");
    setAttribute(done.element, "title", counts ? "" : why);
  }

  #drawRefusals(rows) {
    const byReason = new Map();
    for (const { reason, count } of rows) byReason.set(reason, (byReason.get(reason) ?? 0) + count);
    const entries = [...byReason].sort((a, b) => b[1] - a[1]);
    const total = entries.reduce((sum, [, count]) => sum + count, 0);
    setText(this.#parts.tiles.refused.value, number(total));
    const senders = new Map();
    for (const { source_type, source_id, count } of rows) {
      const name = `${source_type} ${source_id}`;
      senders.set(name, (senders.get(name) ?? 0) + count);
    }
    const [most] = [...senders].sort((a, b) => b[1] - a[1]);
    setText(this.#parts.tiles.refused.note, most ? `most from ${most[0]}` : "in 24 hours");
    const largest = entries[0]?.[1] ?? 1;
    this.#parts.refusals.replaceChildren(
      ...entries.map(([reason, count]) => barRow(reason.replaceAll("-", " "), count / largest, number(count), "refusal-bar")),
    );
    if (!entries.length) this.#parts.refusals.replaceChildren(h("li", { class: "quiet" }, "Nothing was refused."));
  }

  #drawLegs(rows) {
    const largest = Math.max(...rows.map(({ p90 }) => p90), 0) || 1;
    this.#parts.legs.replaceChildren(
      ...rows.map((row) => legRow(row, largest)),
    );
    if (!rows.length) this.#parts.legs.replaceChildren(h("li", { class: "quiet" }, "No order has moved."));
  }

  async #askOldest() {
    const parameters = new URLSearchParams([["active", "true"], ["sort", "created_at"], ["limit", String(OLDEST)]]);
    try {
      this.#oldest = (await this.#use.api.get("/v1/orders", parameters)).items;
    } catch {
      this.#oldest ??= []; // until the next request of the reports
    }
  }

  async #askAreas() {
    const { hours, interval } = RANGES[this.#range];
    const range = this.#range;
    const from = Date.now() - hours * 3600_000;
    const parameters = new URLSearchParams([["from", new Date(from).toISOString()], ["interval", interval]]);
    parameters.set("time_zone", Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");
    await this.#part("status-counts", parameters, ({ rows }) => {
      if (range === this.#range) this.#areas = areasOf(rows, this.#use.openByStatus() ?? new Map(), from, Date.now(), interval);
    });
    for (const chart of this.#charts) chart.redraw();
  }

  #choose(range) {
    this.#range = range;
    this.#areas = null;
    for (const button of this.#parts.ranges.children) button.setAttribute("aria-pressed", String(button.dataset.range === range));
    if (range !== "live") this.#askAreas();
    for (const chart of this.#charts) chart.redraw();
  }

  // --- drawing -------------------------------------------------------------------------------------------------

  #liveAreas() {
    const { pulse } = this.#use;
    const samples = [...pulse.samples, { time: Date.now(), counts: this.#use.openByStatus() ?? new Map() }];
    const statuses = byProgress(new Set(samples.flatMap(({ counts }) => [...counts.keys()])));
    const layers = statuses.map((name) => ({ name, values: samples.map(({ counts }) => counts.get(name) ?? 0) }));
    const to = Date.now();
    return { times: samples.map(({ time }) => time), layers, from: to - pulse.reach(LIVE_MINUTES * 60_000), to };
  }

  #drawOldest() {
    const { store } = this.#use;
    const known = this.#oldest?.map((order) => store.get(order.order_id) ?? order).filter(({ active }) => active);
    const oldest = known ?? (store.isPartial ? [] : firstOf(store.open.values(), comparison("created_at"), OLDEST));
    const list = this.#parts.oldest;
    while (list.children.length < oldest.length) list.append(oldestRow((order) => this.#use.navigate({ order })));
    while (list.children.length > oldest.length) list.lastChild.remove();
    oldest.forEach((order, index) => {
      const { link, id, mark, merchant, time } = list.children[index].parts;
      link.dataset.orderId = order.order_id;
      link.href = `?${new URLSearchParams([["view", "overview"], ["order", order.order_id]])}`;
      link.dataset.status = order.status;
      setIcon(mark, statusIcon(order.status));
      setText(id, orderName(order));
      setText(merchant, `${order.merchant_id} · ${statusName(order.status).toLowerCase()}`);
      setText(time, age((this.#use.now() - Date.parse(order.created_at)) / 1000));
    });
  }

  #build() {
    const tiles = {
      open: tile("open", "Open orders"),
      overdue: tile("overdue", "Overdue now", "open, and their due time has passed"),
      rate: tile("throughput", "Changes a second", "over the last half minute"),
      screen: tile("commit-to-screen", "Commit to screen", "median of this browser"),
      done: tile("delivered", "Delivered today"),
      refused: tile("refused", "Refused in 24 hours"),
    };
    Object.assign(this.#parts, {
      tiles,
      oldest: h("ol", { class: "oldest", "data-testid": "oldest" }),
      legs: h("ul", { class: "bars", "data-testid": "legs" }),
      refusals: h("ul", { class: "bars", "data-testid": "refusals" }),
      ranges: this.#rangeButtons(),
      legend: h("div", { class: "legend" }),
      fault: h("p", { class: "fault", role: "status" }),
    });
    const { oldest, legs, refusals, ranges, legend, fault } = this.#parts;
    return h(
      "section",
      { class: "overview", "aria-labelledby": "overview-title", "data-testid": "overview" },
      h("h1", { class: "unseen", id: "overview-title" }, "Overview"),
      fault,
      h("div", { class: "tiles" }, Object.values(tiles).map(({ element }) => element)),
      card("wide", "Open orders by status", [ranges], this.#areaChart(), legend),
      card("half", "Throughput", [h("span", { class: "quiet" }, "changes a second, up to 5 minutes")], this.#rateChart()),
      card("half", "Commit to screen", [h("span", { class: "quiet" }, "how many changes took so long, ms")], this.#screenChart()),
      card("third", "Oldest open orders", [], oldest),
      card("third", "Time in each status", [h("span", { class: "quiet" }, "24 hours")], legs, h("p", { class: "key" }, h("span", { class: "key-p50" }), "half of the orders", h("span", { class: "key-p90" }), "9 of 10")),
      card("third", "Refused, by reason", [h("span", { class: "quiet" }, "24 hours")], refusals),
    );
  }

  #rangeButtons() {
    const buttons = Object.entries(RANGES).map(([range, { name }]) =>
      h("button", { type: "button", "data-range": range, "aria-pressed": String(range === this.#range), onclick: () => this.#choose(range) }, name),
    );
    return h("div", { class: "segments", role: "group", "aria-label": "Time" }, buttons);
  }

  #areaChart() {
    const labels = { live: timeOfDay, day: hourAndMinute, week: dayName };
    const draw = (width, height) => {
      const data = this.#range === "live" ? this.#liveAreas() : this.#areas;
      this.#drawLegend(data?.layers ?? []);
      return data ? stackedAreas(width, height, data, compactNumber, labels[this.#range]) : [];
    };
    return this.#chart(200, () => `Open orders by status: ${this.#openNow() === null ? "–" : number(this.#openNow())} now`, draw);
  }

  #drawLegend(layers) {
    const { legend } = this.#parts;
    const names = layers.map(({ name }) => name).join();
    if (legend.dataset.names === names) return;
    legend.dataset.names = names;
    legend.replaceChildren(
      ...layers.map(({ name }) => h("span", { "data-status": name }, icon(statusIcon(name), "status-icon"), statusName(name))),
    );
  }

  #rateChart() {
    const draw = (width, height) => {
      const to = Date.now();
      const data = { values: this.#use.pulse.rates, from: to - this.#use.pulse.reach(WINDOW_SECONDS * 1000), to, className: "bar" };
      return columns(width, height, data, compactNumber, timeOfDay);
    };
    return this.#chart(150, () => `Throughput: ${decimal(this.#use.pulse.rate ?? 0)} changes a second`, draw);
  }

  #screenChart() {
    const draw = (width, height) => {
      const { samples } = this.#use.latency;
      const counts = new Array(CLASSES_MS.length + 1).fill(0);
      const place = (value) => (CLASSES_MS.findIndex((bound) => value <= bound) + counts.length) % counts.length;
      for (const value of samples) counts[place(value)] += 1;
      const median = percentile(samples, 0.5);
      const labels = ["0", ...CLASSES_MS.map((bound) => number(bound))];
      return histogram(width, height, { counts, labels, mark: median === null ? -1 : place(median) }, compactNumber);
    };
    return this.#chart(150, () => "Commit to screen, distribution of the newest changes", draw);
  }

  #chart(height, label, draw) {
    const chart = new Chart(height, label, draw);
    this.#charts.push(chart);
    return chart.element;
  }
}
