/**
 * The live board: the orders of a filter, as they change.
 *
 * Statuses and ages change in place, at once. The order of the rows changes only while nobody reads: at the top of
 * the list, with no pointer over it and no row in use. Else new rows are counted, and wait to be asked for.
 *
 * @module board
 */

import { fillRow, makeRow, markChanged, tickRow } from "./board_row.js";
import { announce, byId, h, icon, setAttribute, setText } from "./dom.js";
import { FilterForm, pieces } from "./filter_form.js";
import { comparison, includesClosed, matchesScope, matchesState } from "./filters.js";
import { number } from "./format.js";
import { ListedOrders } from "./listed_orders.js";
import { Reader } from "./reader.js";
import { Rows } from "./rows.js";
import { StatusCounts } from "./status_counts.js";

/** Between two arrangements of the rows. Statuses do not wait for it. */
const ARRANGE_MS = 250;

/** How long an order that left the filter stays on the board with its last status. */
const FAREWELL_MS = 4000;

const SEARCH_MS = 250;
const COMPACT_PX = 620;

export class Board {
  element;

  #store;
  #now;
  #navigate;
  #rows;
  #reader;
  #listed;
  #counts;
  #filter = null;
  #farewells = new Map(); // id → when it left
  #farewellTimer = null;
  #arrangeTimer = null;
  #arrangedAt = 0;
  #dirty = new Set();
  #dirtyFrame = null;
  #parts = {};
  #openId = null;
  #loaded = false;

  /**
   * @param {{store: Object, api: Object, today: Object, statuses: Object, now: () => number,
   *   navigate: (change: {filter?: Object, order?: string}) => void}} context  `now` is the server's time, in ms.
   */
  constructor({ store, api, today, statuses, now, navigate }) {
    this.#store = store;
    this.#now = now;
    this.#navigate = navigate;
    this.#listed = new ListedOrders(api, {
      isFirst: () => !this.#loaded,
      asked: () => this.#drawAsked(),
      answered: (fault) => this.#answered(fault),
    });
    this.#counts = new StatusCounts({ store, today, statuses, navigate });
    today.addEventListener("change", () => this.#counts.drawToday());
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
    this.#listed.forget(filter);
    if (includesClosed(filter) || !this.#loaded) this.#listed.askSoon(narrower ? SEARCH_MS : 0);
    this.#counts.filter = filter;
    this.#arrange({ toTop: true });
  }

  /** What of the address means nothing; the board is shown without it. */
  set faults(faults) {
    const { addressFault } = this.#parts;
    addressFault.hidden = !faults.length;
    setText(addressFault.firstChild, `The address asks for what is not there, and the board is shown without it: ${faults.join("; ")}.`);
  }

  /** Marks the row of the order that is open beside the board; null: none is. */
  set opened(id) {
    if (id !== this.#openId) this.#rows.reveal(id);
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
    for (const { data } of events) {
      this.#dirty.add(data.order_id);
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
      this.#listed.forget(this.#filter);
      if (includesClosed(this.#filter)) this.#listed.askSoon(0);
    }
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
    for (const [id, order] of this.#listed.entries()) if (!this.#store.get(id)) take(order);
    const compare = comparison(this.#filter.sort);
    found.sort(compare);
    const { frontier } = this.#listed;
    return frontier ? found.filter((order) => compare(order, frontier) <= 0) : found;
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
    this.#counts.draw();
    if (toTop) this.#rows.toTop();
    if (toTop || !this.#reader.isReading) this.#show(matching);
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

  #answered(fault) {
    setText(this.#parts.fault, fault);
    this.#parts.viewport.removeAttribute("aria-busy");
    this.#arrange();
    if (this.#rows.ids.length) markFirstView();
  }

  #scrolled() {
    if (this.#parts.viewport.scrollTop <= 2) this.#arrangeSoon();
    if (this.#rows.left <= 50) this.#listed.more();
  }

  // --- drawing -------------------------------------------------------------------------------------------------

  #drawAsked() {
    setAttribute(this.#parts.viewport, "aria-busy", "true");
    setText(this.#parts.fault, "");
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
    const waits = !this.#loaded || this.#listed.isAsking;
    empty.dataset.waiting = String(waits);
    setText(empty.querySelector("strong"), waits ? "Getting the orders" : "No orders here");
    setText(empty.querySelector("span"), waits ? "" : this.#whyEmpty());
  }

  #whyEmpty() {
    const { q } = this.#filter ?? {};
    if (!q) return "When one matches, it appears by itself.";
    const places = "order ids, references, names, merchants and reporters";
    if (!this.#listed.isAnswered) return `Searched ${places} of the open orders alone: nothing begins with “${q}”.`;
    if (this.#listed.isCut) return `None of the newest 2,000 orders that begin with “${q}” is within the filters that are set.`;
    const others = pieces(this.#filter).length || this.#filter.status.length ? ", within the filters that are set" : "";
    return `Searched ${places}, open and closed${others}: nothing begins with “${q}”.`;
  }

  #tick() {
    const now = this.#now();
    this.#rows.each((row, id) => tickRow(row, this.#order(id), now));
    if (!this.element.parentElement?.hidden) this.#counts.drawToday();
    if (!this.#parts.pill.hidden && !this.#reader.isReading) this.#arrangeSoon();
  }

  #fillRow(row, id) {
    const order = this.#order(id);
    if (!order) return;
    fillRow(row, order, { open: id === this.#openId, leaving: !this.#belongs(order), now: this.#now() });
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
      make: makeRow,
      fill: (row, id) => this.#fillRow(row, id),
      open: (id) => this.#navigate({ order: id }),
      scrolled: () => this.#scrolled(),
    });
    this.#reader = new Reader(viewport, () => this.#arrangeSoon());
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
      this.#reader.rest();
      this.#arrange({ toTop: true });
    };
    const pill = h(
      "button",
      { class: "pill", type: "button", hidden: true, "data-testid": "new-pill", onclick: toNewest },
      ...[icon("up"), pillText],
    );
    const empty = h("div", { class: "empty", "data-testid": "board-empty" }, icon("other"), h("strong"), h("span"));
    Object.assign(this.#parts, { viewport, pill, pillText, empty, filterButton: form.button });
    this.#parts.pieces = h("div", { class: "pieces", role: "group", "aria-label": "Filters" });
    this.#parts.fault = h("p", { class: "fault", role: "status" });
    const drop = () => this.#navigate({ filter: this.#filter, replace: true });
    this.#parts.addressFault = h(
      "p",
      { class: "fault", role: "alert", hidden: true, "data-testid": "address-fault" },
      ...[h("span"), " ", h("button", { class: "button small-button", type: "button", onclick: drop }, "Drop it")],
    );
    return h(
      "section",
      { class: "board", "aria-labelledby": "board-title" },
      h("h1", { class: "unseen", id: "board-title" }, "Live board"),
      h("div", { class: "bar" }, this.#counts.element, form.element),
      this.#parts.pieces,
      this.#parts.addressFault,
      this.#parts.fault,
      h("div", { class: "list" }, pill, viewport, empty),
    );
  }

  #merchants() {
    const found = new Set(this.#filter.merchant_id);
    for (const order of this.#store.open.values()) found.add(order.merchant_id);
    return [...found].sort();
  }

  #fit(viewport) {
    new ResizeObserver(([{ contentRect }]) => {
      const compact = contentRect.width < COMPACT_PX;
      viewport.classList.toggle("compact", compact);
      this.#rows.height = compact ? 60 : 38;
    }).observe(viewport);
  }
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
