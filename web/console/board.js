/**
 * The live board: the orders of a filter, as they change.
 *
 * Statuses and ages change in place, at once. The order of the rows changes only while nobody reads: at the top of
 * the list, with no pointer over it and no row in use. Else new rows are counted, and wait to be asked for.
 *
 * @module board
 */

import { announce, byId, h, icon, setAttribute, setIcon, setText } from "./dom.js";
import { FilterForm, pieces } from "./filter_form.js";
import { apiParameters, comparison, includesClosed, matchesScope, matchesState } from "./filters.js";
import { age, byProgress, fullTime, number, statusIcon, statusName, when } from "./format.js";
import { Rows } from "./rows.js";

/** Between two arrangements of the rows. Statuses do not wait for it. */
const ARRANGE_MS = 250;

/** How long an order that left the filter stays on the board with its last status. */
const FAREWELL_MS = 4000;

/** A row that changed is marked for so long, and up to a second more. */
const CHANGED_MS = 500;

/** A pointer that rests over the list for so long reads no more, nor does a keyboard. */
const POINTER_RESTS_MS = 10_000;
const KEYBOARD_RESTS_MS = 60_000;

const PAGE = 200;
const FIRST_PAGE = 50;
const SEARCH_MS = 250;
const COMPACT_PX = 620;

export class Board {
  element;

  #store;
  #api;
  #reports;
  #now;
  #navigate;
  #rows;
  #filter = null;
  #listed = new Map(); // what the API told of this filter beyond what is live, by id
  #next = null; // cursor of the next page
  #complete = true;
  #frontier = null; // the last order of the pages so far
  #request = null; // the AbortController of what is being asked
  #farewells = new Map(); // id → when it left
  #farewellTimer = null;
  #arrangeTimer = null;
  #arrangedAt = 0;
  #dirty = new Set();
  #dirtyFrame = null;
  #pointerAt = null;
  #usedAt = -Infinity; // by key or click
  #today = new Map(); // closed status → orders that came into it since midnight
  #todayUntil = ""; // up to when the report counted them; the stream counts on from there
  #closed = null; // what the stream told of since the report was asked for, while it is on its way
  #parts = {};
  #openId = null;
  #loaded = false;

  /**
   * @param {{store: Object, api: Object, reports: Object, now: () => number,
   *   navigate: (change: {filter?: Object, order?: string}) => void}} context  `now` is the server's time, in ms.
   */
  constructor({ store, api, reports, now, navigate }) {
    this.#store = store;
    this.#api = api;
    this.#reports = reports;
    this.#now = now;
    this.#navigate = navigate;
    this.element = this.#build();
    store.addEventListener("events", ({ detail }) => this.#changed(detail));
    store.addEventListener("reset", () => this.#reset());
    store.addEventListener("status", () => this.#drawEmpty());
    setInterval(() => this.#tick(), 1000);
  }

  /** Shows the orders of a filter. */
  show(filter) {
    const same = JSON.stringify(filter) === JSON.stringify(this.#filter);
    const narrower = this.#filter && filter.q !== this.#filter.q;
    this.#filter = filter;
    if (same) return;
    this.#drawFilter();
    this.#forgetListed();
    if (includesClosed(filter) || !this.#loaded) this.#askSoon(narrower ? SEARCH_MS : 0);
    this.#arrange({ toTop: true });
    this.#askToday();
  }

  /** Marks the row of the order that is open beside the board; null: none is. */
  set opened(id) {
    this.#openId = id;
    this.#rows.each((row, rowId) => setAttribute(row, "aria-selected", String(rowId === id)));
  }

  /** Moves the keyboard into the list, or on in it. */
  move(by) {
    this.#rows.move(by);
  }

  focusList() {
    this.#rows.activate(this.#rows.active === null ? this.#rows.first : this.#rows.ids.indexOf(this.#rows.active));
  }

  // --- what is on it -------------------------------------------------------------------------------------------

  #changed(events) {
    const { open } = this.#store;
    for (const { data } of events) {
      this.#dirty.add(data.order_id);
      if (!open.has(data.order_id)) this.#countToday(data);
      if (this.#rows.has(data.order_id) && !this.#belongs(this.#store.get(data.order_id))) {
        this.#farewells.set(data.order_id, performance.now());
      }
    }
    this.#dirtyFrame ??= requestAnimationFrame(() => this.#refreshDirty());
    this.#arrangeSoon();
  }

  #refreshDirty() {
    this.#dirtyFrame = null;
    for (const id of this.#dirty) {
      const row = this.#rows.refresh(id);
      if (row) markChanged(row);
    }
    this.#dirty.clear();
  }

  #reset() {
    this.#loaded = true;
    this.#farewells.clear();
    if (this.#filter) {
      this.#forgetListed();
      if (includesClosed(this.#filter)) this.#askSoon(0);
    }
    this.#askToday();
    this.#arrange();
    this.#rows.each((_, id) => this.#rows.refresh(id));
    markFirstView();
  }

  #order(id) {
    const known = this.#store.get(id);
    const told = this.#listed.get(id);
    return told && !(known?.version >= told.version) ? told : known;
  }

  #belongs(order) {
    return Boolean(order) && matchesScope(this.#filter, order) && matchesState(this.#filter, order);
  }

  /** The orders that belong on the board, in its order. */
  #matching() {
    const found = [];
    const take = (order) => {
      if (this.#belongs(order)) found.push(order);
    };
    for (const order of this.#store.open.values()) take(order);
    if (includesClosed(this.#filter)) {
      for (const [id, order] of this.#store.departed) if (!this.#store.open.has(id)) take(order);
    }
    for (const [id, order] of this.#listed) if (!this.#store.get(id)) take(order);
    const compare = comparison(this.#filter.sort);
    found.sort(compare);
    if (this.#complete || !this.#frontier) return found;
    return found.filter((order) => compare(order, this.#frontier) <= 0);
  }

  #arrangeSoon() {
    if (this.#arrangeTimer !== null || !this.#filter) return;
    const wait = Math.max(0, this.#arrangedAt + ARRANGE_MS - performance.now());
    this.#arrangeTimer = setTimeout(() => this.#arrange(), wait);
  }

  #arrange({ toTop = false } = {}) {
    clearTimeout(this.#arrangeTimer);
    this.#arrangeTimer = null;
    this.#arrangedAt = performance.now();
    if (!this.#filter) return;
    const matching = this.#matching();
    this.#drawCounts();
    if (toTop) this.#rows.toTop();
    if (toTop || !this.#isRead) this.#show(matching);
    else this.#hold(matching);
    this.#drawEmpty();
  }

  /** Everything where it belongs, beside what has just left. */
  #show(matching) {
    const ids = matching.map((order) => order.order_id);
    const leaving = this.#leaving(new Set(ids));
    if (leaving.length) {
      const orders = [...matching, ...leaving.map((id) => this.#order(id))];
      this.#rows.show(orders.sort(comparison(this.#filter.sort)).map((order) => order.order_id));
    } else if (!sameList(ids, this.#rows.ids)) this.#rows.show(ids);
    this.#drawPill(0);
  }

  #leaving(belonging) {
    const since = performance.now() - FAREWELL_MS;
    for (const [id, at] of this.#farewells) {
      if (at < since || belonging.has(id) || !this.#order(id)) this.#farewells.delete(id);
    }
    const stays = (id) => this.#rows.has(id) && matchesScope(this.#filter, this.#order(id));
    const ids = [...this.#farewells.keys()].filter(stays);
    if (ids.length) {
      this.#farewellTimer ??= setTimeout(() => {
        this.#farewellTimer = null;
        this.#arrangeSoon();
      }, FAREWELL_MS);
    }
    return ids;
  }

  /** Somebody reads: rows stay where they are, older ones may follow at the end, and new ones are announced. */
  #hold(matching) {
    const compare = comparison(this.#filter.sort);
    const last = this.#order(this.#rows.ids.at(-1));
    const absent = matching.filter((order) => !this.#rows.has(order.order_id));
    const behind = last ? absent.filter((order) => compare(order, last) > 0) : absent;
    if (behind.length) this.#rows.show([...this.#rows.ids, ...behind.map((order) => order.order_id)]);
    this.#drawPill(absent.length - behind.length);
  }

  get #isRead() {
    const { viewport } = this.#parts;
    if (viewport.scrollTop > 2) return true;
    const now = performance.now();
    if (viewport.contains(document.activeElement) && now - this.#usedAt < KEYBOARD_RESTS_MS) return true;
    return this.#pointerAt !== null && now - this.#pointerAt < POINTER_RESTS_MS;
  }

  // --- what the API adds ---------------------------------------------------------------------------------------

  #forgetListed() {
    this.#request?.abort();
    this.#request = null;
    this.#listed.clear();
    this.#next = this.#frontier = null;
    this.#complete = !includesClosed(this.#filter) || Boolean(this.#filter.q);
  }

  #askSoon(milliseconds) {
    const request = (this.#request = new AbortController());
    setTimeout(() => {
      if (request.signal.aborted) return;
      if (this.#filter.q) this.#search(request.signal);
      else this.#page(request.signal);
    }, milliseconds);
  }

  async #page(signal) {
    const parameters = apiParameters(this.#filter);
    // Before the stream has brought everything, what fits a screen: the first thing that is seen.
    parameters.set("limit", String(this.#loaded ? PAGE : FIRST_PAGE));
    if (this.#next) parameters.set("cursor", this.#next);
    await this.#ask(signal, async () => {
      const { items, next_cursor } = await this.#api.get("/v1/orders", parameters, { signal });
      for (const order of items) this.#listed.set(order.order_id, order);
      this.#next = next_cursor;
      this.#complete = next_cursor === null;
      this.#frontier = items.at(-1) ?? this.#frontier;
    });
  }

  async #search(signal) {
    const text = this.#filter.q;
    const list = (name) => new URLSearchParams([[name, text], ["limit", "100"]]);
    const asked = [this.#api.get(`/v1/orders/${encodeURIComponent(text)}`, undefined, { signal })];
    asked.push(this.#api.get("/v1/orders", list("customer_ref"), { signal }));
    await this.#ask(signal, async () => {
      const [one, several] = await Promise.allSettled(asked);
      if (one.status === "fulfilled") this.#listed.set(one.value.order_id, one.value);
      if (several.status === "fulfilled") for (const order of several.value.items) this.#listed.set(order.order_id, order);
    });
  }

  async #ask(signal, act) {
    setAttribute(this.#parts.viewport, "aria-busy", "true");
    setText(this.#parts.fault, "");
    try {
      await act();
    } catch (error) {
      if (signal.aborted) return;
      setText(this.#parts.fault, `Older orders could not be loaded: ${error.message}`);
    }
    if (signal.aborted) return;
    this.#request = null;
    this.#parts.viewport.removeAttribute("aria-busy");
    this.#arrange();
    if (this.#rows.ids.length) markFirstView();
  }

  #scrolled() {
    if (this.#parts.viewport.scrollTop <= 2) this.#arrangeSoon();
    if (this.#complete || this.#request || !this.#next || this.#rows.left > 50) return;
    this.#request = new AbortController();
    this.#page(this.#request.signal);
  }

  async #askToday() {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    const parameters = new URLSearchParams([["from", midnight.toISOString()]]);
    for (const merchant of this.#filter?.merchant_id ?? []) parameters.append("merchant_id", merchant);
    const key = parameters.toString();
    if (this.#parts.todayOf === key && this.#store.status.state === "live") return;
    this.#parts.todayOf = key;
    // Where report and stream meet: what closes while the report is on its way is in one of them, and in one only.
    const until = new Date(this.#now()).toISOString();
    parameters.set("to", until);
    this.#closed = [];
    try {
      const { rows } = await this.#reports.get("status-counts", parameters);
      if (this.#parts.todayOf !== key) return;
      const closed = rows.filter(({ status }) => !this.#openStatuses.has(status));
      this.#today = new Map(closed.map(({ status, entered }) => [status, entered]));
      this.#todayUntil = until;
      for (const data of this.#closed) this.#addToday(data);
      this.#closed = null;
      this.#arrangeSoon();
    } catch {
      if (this.#parts.todayOf !== key) return;
      this.#closed = null;
      this.#parts.todayOf = null; // the counts of open orders are there without it
    }
  }

  #countToday(data) {
    if (!this.#filter || !matchesScope({ ...this.#filter, q: "" }, { ...data, updated_at: data.recorded_at })) return;
    this.#closed?.push(data);
    this.#addToday(data);
  }

  #addToday({ status, recorded_at }) {
    if (recorded_at >= this.#todayUntil) this.#today.set(status, (this.#today.get(status) ?? 0) + 1);
  }

  // --- drawing -------------------------------------------------------------------------------------------------

  get #openStatuses() {
    const statuses = new Set(["created", "picked_up", "in_transit"]);
    for (const order of this.#store.open.values()) statuses.add(order.status);
    return statuses;
  }

  #drawCounts() {
    const counts = new Map([...this.#openStatuses].map((status) => [status, 0]));
    let all = 0;
    for (const order of this.#store.open.values()) {
      if (!matchesScope(this.#filter, order)) continue;
      all += 1;
      counts.set(order.status, counts.get(order.status) + 1);
    }
    const { chips } = this.#parts;
    this.#chip(chips, "open", "Open", all, this.#filter.active === true && !this.#filter.status.length);
    for (const status of byProgress(counts.keys())) this.#statusChip(status, counts.get(status), false);
    for (const status of byProgress(this.#today.keys())) {
      if (!counts.has(status)) this.#statusChip(status, this.#today.get(status), true);
    }
  }

  #statusChip(status, count, closed) {
    const pressed = this.#filter.status.includes(status);
    this.#chip(this.#parts.chips, status, statusName(status), count, pressed, closed);
  }

  #chip(place, key, name, count, pressed, closed = false) {
    let chip = place.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!chip) {
      const mark = key === "open" ? null : icon(statusIcon(key), "status-icon");
      chip = h(
        "button",
        { class: "chip", type: "button", "data-key": key, "data-status": key, "data-testid": `count-${key}` },
        ...[mark, h("span", { class: "chip-name" }, name), h("span", { class: "chip-count" })],
      );
      if (closed) chip.append(h("span", { class: "chip-note" }, "today"));
      chip.addEventListener("click", () => this.#toggle(key));
      place.append(chip);
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

  #drawFilter() {
    const removable = pieces(this.#filter).map(({ text, without }) =>
      h(
        "button",
        { class: "piece", type: "button", onclick: () => this.#navigate({ filter: without }) },
        ...[h("span", {}, text), icon("close"), h("span", { class: "unseen" }, " – remove this filter")],
      ),
    );
    this.#parts.pieces.replaceChildren(...removable);
    this.#parts.pieces.hidden = !removable.length;
    setAttribute(this.#parts.filterButton, "data-active", String(removable.length > 0));
  }

  #drawPill(count) {
    const { pill, pillText } = this.#parts;
    if (pill.hidden === !count && pill.dataset.count === String(count)) return;
    const appeared = pill.hidden && count > 0;
    pill.hidden = !count;
    pill.dataset.count = String(count);
    setText(pillText, `${number(count)} new`);
    if (appeared) announce("New orders wait at the top of the list.");
  }

  #drawEmpty() {
    const { empty } = this.#parts;
    const isEmpty = !this.#rows.ids.length;
    empty.hidden = !isEmpty;
    if (!isEmpty) return;
    const waits = !this.#loaded || this.#request;
    empty.dataset.waiting = String(Boolean(waits));
    setText(empty.querySelector("strong"), waits ? "Getting the orders" : "No orders here");
    const nothing = "Nothing has this order id, customer reference or name.";
    const why = this.#filter?.q ? nothing : "When one matches, it appears by itself.";
    setText(empty.querySelector("span"), waits ? "" : why);
  }

  #tick() {
    const now = this.#now();
    this.#rows.each((row, id) => {
      const order = this.#order(id);
      if (row.changedAt < performance.now() - CHANGED_MS) unmarkChanged(row);
      if (order) setText(row.parts.age, age((now - Date.parse(order.updated_at)) / 1000));
    });
    if (!this.#parts.pill.hidden && !this.#isRead) this.#arrangeSoon();
  }

  #makeRow() {
    const cell = (name, ...children) => h("div", { class: `cell ${name}`, role: "gridcell" }, ...children);
    const text = () => h("span", { class: "text" });
    const parts = {
      ...{ statusIcon: icon("other", "status-icon"), status: text(), id: text(), merchant: text() },
      ...{ customer: text(), ref: text(), sourceIcon: icon("system", "quiet"), source: text() },
      ...{ created: text(), age: text() },
    };
    const row = h(
      "div",
      { class: "row", role: "row", "data-testid": "board-row" },
      cell("c-status", parts.statusIcon, parts.status),
      cell("c-id", parts.id),
      cell("c-merchant", parts.merchant),
      cell("c-customer", parts.customer, parts.ref),
      cell("c-source", parts.sourceIcon, parts.source),
      cell("c-created", parts.created),
      cell("c-age", parts.age),
    );
    parts.ref.classList.add("quiet");
    row.parts = parts;
    row.changedAt = Infinity;
    return row;
  }

  #fillRow(row, id) {
    const order = this.#order(id);
    if (!order) return;
    const { parts } = row;
    row.dataset.status = order.status;
    row.dataset.version = String(order.version);
    row.dataset.leaving = String(!this.#belongs(order));
    setAttribute(row, "aria-selected", String(id === this.#openId));
    setIcon(parts.statusIcon, statusIcon(order.status));
    setText(parts.status, statusName(order.status));
    setText(parts.id, id);
    setText(parts.merchant, order.merchant_id);
    setText(parts.customer, order.customer?.name ?? "");
    setText(parts.ref, order.customer?.contact_ref ?? "");
    setIcon(parts.sourceIcon, order.source.type);
    setText(parts.source, order.source.id ?? order.source.type); // links are not shown people
    setText(parts.created, when(order.created_at));
    setAttribute(parts.created, "title", fullTime(order.created_at));
    setText(parts.age, age((this.#now() - Date.parse(order.updated_at)) / 1000));
    setAttribute(parts.age, "title", `Last change ${fullTime(order.updated_at)}`);
  }

  #build() {
    const heads = [
      ...[["status", "Status"], ["id", "Order"], ["merchant", "Merchant"], ["customer", "Customer"]],
      ...[["source", "Reported by"], ["created", "Created"], ["age", "Changed"]],
    ];
    const head = h(
      "div",
      { class: "row head", role: "row", "aria-rowindex": "1" },
      heads.map(([name, text]) => h("div", { class: `cell c-${name}`, role: "columnheader" }, text)),
    );
    const body = h("div", { class: "rows", role: "rowgroup", "data-testid": "board-rows" });
    const viewport = h(
      "div",
      { class: "viewport", role: "grid", "aria-label": "Orders", "data-testid": "board" },
      ...[h("div", { role: "rowgroup", class: "headgroup" }, head), body],
    );
    this.#rows = new Rows(viewport, body, {
      make: () => this.#makeRow(),
      fill: (row, id) => this.#fillRow(row, id),
      open: (id) => this.#navigate({ order: id }),
      scrolled: () => this.#scrolled(),
    });
    this.#watchPointer(viewport);
    this.#fit(viewport);
    return this.#assemble(viewport);
  }

  #assemble(viewport) {
    const form = new FilterForm({
      merchants: () => this.#merchants(),
      apply: (filter) => this.#navigate({ filter }),
      current: () => this.#filter,
    });
    const pillText = h("span");
    const toNewest = () => {
      this.#pointerAt = null;
      this.#usedAt = -Infinity;
      this.#arrange({ toTop: true });
    };
    const pill = h(
      "button",
      { class: "pill", type: "button", hidden: true, "data-testid": "new-pill", onclick: toNewest },
      ...[icon("up"), pillText],
    );
    const empty = h("div", { class: "empty", "data-testid": "board-empty" }, icon("other"), h("strong"), h("span"));
    Object.assign(this.#parts, { viewport, pill, pillText, empty, filterButton: form.button, todayOf: null });
    this.#parts.chips = h("div", { class: "chips", role: "group", "aria-label": "Orders by status" });
    this.#parts.pieces = h("div", { class: "pieces", role: "group", "aria-label": "Filters" });
    this.#parts.fault = h("p", { class: "fault", role: "status" });
    return h(
      "section",
      { class: "board", "aria-labelledby": "board-title" },
      h("h1", { class: "unseen", id: "board-title" }, "Live board"),
      h("div", { class: "bar" }, this.#parts.chips, form.element),
      this.#parts.pieces,
      this.#parts.fault,
      h("div", { class: "list" }, pill, viewport, empty),
    );
  }

  #merchants() {
    const found = new Set(this.#filter.merchant_id);
    for (const order of this.#store.open.values()) found.add(order.merchant_id);
    return [...found].sort();
  }

  #watchPointer(viewport) {
    const moved = ({ pointerType }) => {
      if (pointerType !== "touch") this.#pointerAt = performance.now();
    };
    viewport.addEventListener("pointermove", moved);
    for (const name of ["keydown", "pointerdown", "focusin"]) {
      viewport.addEventListener(name, () => {
        this.#usedAt = performance.now();
      });
    }
    viewport.addEventListener("pointerleave", () => {
      this.#pointerAt = null;
      this.#arrangeSoon();
    });
  }

  #fit(viewport) {
    new ResizeObserver(([{ contentRect }]) => {
      const compact = contentRect.width < COMPACT_PX;
      viewport.classList.toggle("compact", compact);
      this.#rows.height = compact ? 60 : 38;
    }).observe(viewport);
  }
}

function markChanged(row) {
  row.dataset.changed = "true";
  row.changedAt = performance.now();
}

function unmarkChanged(row) {
  delete row.dataset.changed;
  row.changedAt = Infinity;
}

/** Orders are on the screen for the first time. */
function markFirstView() {
  if (!performance.getEntriesByName("first-useful-view").length) performance.mark("first-useful-view");
}

function sameList(a, b) {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}

/** Puts the search field's text into the board's filter while it is typed. */
export function connectSearch(filter, navigate) {
  const field = byId("search");
  field.addEventListener("input", () => navigate({ filter: { ...filter(), q: field.value.trim() }, replace: true }));
}
