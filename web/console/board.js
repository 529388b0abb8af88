/**
 * The live board: the orders of a filter, as they change.
 *
 * Statuses and ages change in place, at once. The order of the rows changes only while the list is not in use: at the top of
 * the list, with no pointer over it and no focused row. Otherwise new rows are counted and shown on request.
 *
 * @module board
 */

import { fillRow, makeRow, markChanged, markOpened, markSelected, tickRow } from "./board_row.js";
import { announce, byId, h, icon, loaded, setAttribute, setText } from "./dom.js";
import { FilterForm, pieces } from "./filter_form.js";
import { COLUMNS, SORTS, comparison, includesClosed, matchesScope, matchesState, withoutClosing } from "./filters.js";
import { number } from "./format.js";
import { ListFocus } from "./list_focus.js";
import { ListedOrders } from "./listed_orders.js";
import { Reader } from "./reader.js";
import { Rows } from "./rows.js";
import { Selection, connectSelection } from "./selection.js";
import { inSlices } from "./slices.js";
import { OpenTotals } from "./status_totals.js";
import { SortHeads } from "./sort_heads.js";
import { SortedEntries } from "./sorted_entries.js";
import { StatusCounts } from "./status_counts.js";
import { SuggestingInput } from "./suggestions.js";
import { ViewsMenu } from "./views_menu.js";

/** The interval of arranging the rows. Statuses change at once. */
const ARRANGE_MS = 250;

/** A list that could not be read is requested again after this time. */
const LIST_AGAIN_MS = 5000;

/** More orders are requested when fewer rows than this are left below. */
const LEAST_LEFT = 50;

/** The time for which an order that left the filter stays on the board with its last status. */
const LEAVING_MS = 4000;

const SEARCH_MS = 250;

/** A list of very many orders keeps a database busy, and the figures of today, counted in less than this, would wait for it. */
const AFTER_TODAY_MS = 150;
const COMPACT_PX = 620;

export class Board {
  element;

  #store;
  #now;
  #navigate;
  #rows;
  #heads;
  #reader;
  #listed;
  #counts;
  #filter = null;
  #openScope = null; // the filter, for counts of open orders
  #leaving = new Map(); // id → the time when it left the filter
  #leavingTimer = null;
  #arrangeTimer = null;
  #arrangedAt = 0;
  #shown = new SortedEntries(comparison(SORTS[0])); // as they are in the list
  #unplaced = new Set(); // ids that may belong to another place
  #totals = new OpenTotals(); // of the open orders in the filter's scope
  #compare = comparison(SORTS[0]);
  #sorting = null; // cancels the sorting of all orders, while it runs
  #toTop = false; // the next arrangement shows the top of the list, even if it is in use
  #dirty = new Set();
  #dirtyFrame = null;
  #parts = {};
  #openId = null;
  #loaded = false;
  #isListOutdated = false; // it was asked before the cursor of the counts, after which the stream goes on
  #api;
  #limits;
  #mayAct;
  #merchants;
  #bulk = null;
  #views;
  #selection = new Selection();
  #focus = new ListFocus({ isReady: () => this.#hasItsRows, give: () => this.#giveFocus() });

  /**
   * @param {{store: Object, api: Object, today: Object, open: Object, statuses: Object, limits: Object<string, number>,
   *   views: Object, now: () => number, mayAct: () => boolean, merchants: () => string[],
   *   navigate: (change: {filter?: Object, order?: string}) => void}} context  `open`: the `OpenCounts`; `now`: the
   *   server's time, in ms; `limits`: seconds after which an order in a status is late; `views`: the `SavedViews`.
   */
  constructor({ store, api, today, open, statuses, limits, views, now, mayAct, merchants, navigate }) {
    this.#store = store;
    this.#api = api;
    this.#limits = limits;
    this.#mayAct = mayAct;
    this.#merchants = merchants;
    this.#views = new ViewsMenu({ views, current: () => this.#filter });
    const bulk = {
      ...{ api, selection: this.#selection, order: (id) => this.#order(id) },
      statuses: () => [...statuses.open, ...statuses.final],
      left: () => this.focusList(),
    };
    this.#selection.addEventListener("change", () => {
      this.#rows.each((row, id) => this.#markSelected(row, id));
      this.#bulk ??= this.#openBulk(bulk);
    });
    this.#now = now;
    this.#navigate = navigate;
    this.#listed = new ListedOrders(api, {
      isPaged: (of) => this.#isPaged(of),
      isFirst: () => !this.#loaded,
      asked: () => this.#drawAsked(),
      answered: (fault) => this.#answered(fault),
    });
    this.#counts = new StatusCounts({ store, today, open, statuses, navigate });
    today.addEventListener("change", () => this.#counts.drawToday());
    this.element = this.#build();
    store.addEventListener("events", ({ detail }) => this.#changed(detail));
    store.addEventListener("reset", () => this.#reset());
    store.addEventListener("outdated", () => this.#listAgain());
    store.addEventListener("status", () => this.#drawEmpty());
    setInterval(() => this.#tick(), 1000);
  }

  /** Shows the orders of a filter. */
  show(filter) {
    const same = JSON.stringify(filter) === JSON.stringify(this.#filter);
    const narrower = this.#filter && filter.q !== this.#filter.q;
    this.#filter = filter;
    this.#openScope = withoutClosing(filter);
    this.#parts.viewport.classList.toggle("selectable", this.#mayAct());
    setAttribute(this.#parts.viewport, "aria-multiselectable", String(this.#mayAct()));
    this.#views.refresh();
    if (same) return;
    this.#drawFilter();
    for (const name of COLUMNS) this.#parts.viewport.classList.toggle(`without-${name}`, filter.columns !== null && !filter.columns.includes(name));
    this.#listed.forget(filter);
    this.#list(narrower ? SEARCH_MS : 0);
    this.#counts.filter = filter;
    this.#heads.sort = filter.sort;
    this.#sortAll({ toTop: true });
  }

  /** Shows the invalid parts of the address, which are ignored. */
  set faults(faults) {
    const { addressFault } = this.#parts;
    addressFault.hidden = !faults.length;
    setText(addressFault.firstChild, `The address asks for what is not there, and the board is shown without it: ${faults.join("; ")}.`);
  }

  /** Marks the row of the order that is open next to the board; null: none is. */
  set opened(id) {
    if (id !== this.#openId) this.#rows.reveal(id);
    this.#openId = id;
    this.#rows.each((row, rowId) => markOpened(row, rowId === id));
  }

  /** Clears the selection. @returns {boolean} True if something was selected. */
  clearSelection() {
    const wasAny = this.#selection.size > 0;
    if (wasAny) this.#selection.clear();
    return wasAny;
  }

  /** Moves the focus into the list, or on within it. */
  move(by) {
    this.#rows.move(by);
  }

  /** Focuses the list, as soon as it has the rows of its filter, or, if there are none, a control that may be the reason. */
  focusList() {
    this.#focus.ask();
  }

  #giveFocus() {
    if (!this.#rows.size) {
      this.#parts.filterButton.focus();
      if (this.#listed.isAnswered) announce("No orders here."); // else a fault is shown, and announced
      return;
    }
    this.#rows.activate(this.#rows.active === null ? this.#rows.first : this.#rows.indexOf(this.#rows.active));
  }

  // --- the rows -------------------------------------------------------------------------------------------

  #changed(events) {
    for (const { data } of events) {
      const id = data.order_id;
      this.#dirty.add(id);
      if (!this.#filter) continue;
      this.#unplaced.add(id);
      this.#count(id);
      const order = this.#store.get(id);
      if (order) this.#listed.update(order);
      if (this.#rows.has(id) && !this.#belongs(this.#store.get(id))) this.#leaving.set(id, performance.now());
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
    this.#leaving.clear();
    if (this.#filter) this.#listAfterReset();
    this.#sortAll();
    this.#rows.each((_, id) => this.#rows.refresh(id));
  }

  /** Orders that are being listed are shown before they are listed again: it may be the first list of this page. */
  #listAfterReset() {
    if (this.#store.isPartial && this.#listed.isAsking) {
      this.#isListOutdated = true;
      return;
    }
    if (!this.#store.isPartial || !this.#listed.size) this.#listed.forget(this.#filter);
    this.#listAgain(this.#store.isPartial ? AFTER_TODAY_MS : 0);
  }

  #listAgain(milliseconds = 0) {
    if (!this.#filter) return;
    this.#isListOutdated = false;
    this.#listed.outdate();
    this.#list(milliseconds);
  }

  /** Requests the orders that the page does not have, or the first ones if it has none yet. */
  #list(milliseconds) {
    if (this.#store.isCounting && !this.#store.isPartial) return; // it may be about to have all orders
    if (this.#isPaged(this.#filter) || !this.#loaded) this.#listed.askSoon(milliseconds);
  }

  #order(id) {
    const known = this.#store.get(id);
    const listed = this.#listed.get(id);
    return listed && !(known?.version >= listed.version) ? listed : known;
  }

  #belongs(order) {
    return Boolean(order) && this.#isInScope(order) && matchesState(this.#filter, order);
  }

  #isInScope(order) {
    return matchesScope(this.#filter, order, { isListed: this.#listed.get(order.order_id) !== undefined });
  }

  /** True if the page does not have all orders that may match, so that they are listed in pages. */
  #isPaged(filter) {
    return this.#store.isPartial || includesClosed(filter);
  }

  /** True if it is not after the last listed order: after that, other orders may be missing. */
  #isKnown(order) {
    const { lastListed } = this.#listed;
    if (this.#isUnlisted) return false;
    return !lastListed || this.#compare(order, lastListed) <= 0;
  }

  /** True if nothing is known of the list yet but what has changed. */
  get #isUnlisted() {
    return this.#store.isPartial && this.#listed.isUnknown;
  }

  #count(id) {
    const order = this.#store.open.get(id);
    this.#totals.set(id, order && matchesScope(this.#openScope, order) ? order : null);
  }

  /** All orders that may be on the board. */
  *#candidates() {
    yield* this.#store.open.values();
    if (includesClosed(this.#filter)) {
      for (const [id, order] of this.#store.closed) if (!this.#store.open.has(id)) yield order;
    }
    for (const [id, order] of this.#listed.entries()) if (!this.#store.get(id)) yield order;
  }

  /** Compares every order, for a new filter or after a reset. Otherwise only changed orders are compared. */
  #sortAll({ toTop = false } = {}) {
    if (!this.#filter) return;
    clearTimeout(this.#arrangeTimer);
    this.#arrangeTimer = null;
    this.#toTop ||= toTop;
    this.#sorting?.();
    this.#sorting = null;
    this.#unplaced.clear();
    this.#totals = new OpenTotals();
    this.#compare = comparison(this.#filter.sort);
    const sorted = new SortedEntries(this.#compare);
    let isDone = false;
    const giveUp = inSlices(this.#sort(sorted), () => {
      isDone = true;
      this.#sorting = null;
      this.#sorted(sorted);
    });
    if (!isDone) this.#sorting = giveUp;
  }

  *#sort(sorted) {
    for (const order of this.#candidates()) {
      this.#count(order.order_id);
      if (this.#belongs(order) && this.#isKnown(order)) sorted.set(order);
      yield;
    }
  }

  #sorted(sorted) {
    if (this.#toTop) this.#rows.toTop();
    if (this.#toTop || !this.#reader.isReading) {
      this.#shown = sorted;
      for (const id of this.#leaving.keys()) this.#unplaced.add(id);
    } else {
      for (const id of this.#shown.ids()) if (sorted.get(id) !== this.#shown.get(id)) this.#unplaced.add(id);
      for (const id of sorted.ids()) if (!this.#shown.has(id)) this.#unplaced.add(id);
    }
    this.#arrange();
    if (this.#rows.size || (this.#loaded && !this.#store.isPartial)) markFirstView();
    if (this.#loaded && this.#listed.isAnswered) this.#more();
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
    this.#toTop ||= toTop;
    if (!this.#filter || this.#sorting) return;
    // Measured before anything is changed: the browser would have to lay out the page in between.
    const isReading = !this.#toTop && this.#reader.isReading;
    if (this.#toTop) this.#rows.toTop();
    if (isReading) this.#placeAroundReader();
    else this.#placeAll();
    this.#toTop = false;
    this.#drawCounts();
    this.#drawEmpty();
    this.#drawPart();
    this.#focus.settle();
  }

  /** Puts every row in its place. Orders that have just left the filter stay for a moment. */
  #placeAll() {
    const since = performance.now() - LEAVING_MS;
    const settled = [];
    for (const [id, at] of this.#leaving) {
      if (at >= since && this.#order(id) && !this.#belongs(this.#order(id))) continue;
      this.#leaving.delete(id);
      this.#unplaced.add(id);
      settled.push(id);
    }
    for (const id of this.#unplaced) {
      const order = this.#order(id);
      const stays = this.#belongs(order) ? this.#isKnown(order) : this.#leaving.has(id) && this.#isInScope(order);
      if (stays) this.#shown.set(order);
      else this.#shown.delete(id);
    }
    this.#unplaced.clear();
    this.#rows.show(this.#shown);
    for (const id of settled) this.#rows.refresh(id); // it may belong to the list of another filter
    this.#drawPill(0);
    if (!this.#leaving.size) return;
    this.#leavingTimer ??= setTimeout(() => {
      this.#leavingTimer = null;
      this.#arrangeSoon();
    }, LEAVING_MS);
  }

  /** While the list is in use, rows keep their places; older ones are appended, and newer ones are only counted. */
  #placeAroundReader() {
    const { last } = this.#shown;
    let waiting = 0;
    for (const id of this.#unplaced) {
      if (this.#shown.has(id)) continue;
      const order = this.#order(id);
      if (!this.#belongs(order) || !this.#isKnown(order)) this.#unplaced.delete(id);
      else if (last && this.#compare(order, last) < 0) waiting += 1;
      else {
        this.#unplaced.delete(id);
        this.#shown.set(order);
      }
    }
    this.#rows.show(this.#shown);
    this.#drawPill(waiting);
  }

  /** `fault`: why the list could not be read; empty: it was. */
  #answered(fault) {
    const missing = this.#store.isPartial ? "Orders could not be loaded" : this.#filter.q ? "Only open orders were searched" : "Older orders could not be loaded";
    setText(this.#parts.fault, fault ? `${missing}: ${fault}` : this.#listed.left);
    this.#parts.viewport.removeAttribute("aria-busy");
    if (fault && this.#store.isPartial) this.#listed.askSoon(LIST_AGAIN_MS);
    else if (this.#isListOutdated) this.#listAgain();
    this.#sortAll();
  }

  #scrolled() {
    if (this.#parts.viewport.scrollTop <= 2) this.#arrangeSoon();
    this.#more();
  }

  #more() {
    if (this.#rows.left <= LEAST_LEFT) this.#listed.more();
  }

  /** Draws the counts: those of this page if it has all orders, else those of the service. */
  #drawCounts() {
    this.#counts.draw(this.#store.isPartial ? null : this.#totals);
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

  /** True while orders are loaded, listed or sorted. */
  get #isWaiting() {
    return !this.#loaded || this.#listed.isAsking || this.#sorting !== null;
  }

  /** True if its rows are those of the filter, some at least, or there are none. */
  get #hasItsRows() {
    return this.#sorting === null && (this.#rows.size > 0 || (!this.#isWaiting && !this.#isUnlisted));
  }

  #drawEmpty() {
    const { empty } = this.#parts;
    const isEmpty = !this.#rows.size;
    empty.hidden = !isEmpty;
    if (!isEmpty) return;
    const waits = this.#isWaiting;
    empty.dataset.waiting = String(waits);
    setText(empty.querySelector("strong"), waits || this.#isUnlisted ? "Getting the orders" : "No orders here");
    setText(empty.querySelector("span"), waits ? "" : this.#whyEmpty());
  }

  /** Shows how much of the list is loaded, if not all. */
  #drawPart() {
    const { part } = this.#parts;
    const texts = [];
    if (this.#listed.lastListed !== null && this.#rows.size > 0) texts.push(this.#shownPart());
    part.hidden = !texts.length;
    setText(part, texts.join(" "));
  }

  #shownPart() {
    const total = this.#counts.total;
    const shown = `Showing the first ${number(this.#rows.size)}${total === null ? "" : ` of ${number(total)}`}`;
    return this.#listed.isFull ? `${shown}. No more are kept here: filter or sort to see others.` : `${shown}; more come as you scroll.`;
  }

  #whyEmpty() {
    const { q } = this.#filter ?? {};
    if (this.#isUnlisted) return "";
    if (!q) return "When one matches, it appears by itself.";
    const places = "order ids, references, names, merchants and reporters";
    if (!this.#listed.isAnswered) return `Searched ${places} of the open orders alone: nothing begins with “${q}”.`;
    if (this.#listed.isCut) return `None of the newest 2,000 orders that begin with “${q}” is within the filters that are set.`;
    const others = pieces(this.#filter).length || this.#filter.status.length ? ", within the filters that are set" : "";
    return `Searched ${places}, open and closed${others}: nothing begins with “${q}”.`;
  }

  #tick() {
    if (!this.#parts.pill.hidden && !this.#reader.isReading) this.#arrangeSoon();
    const now = this.#now();
    this.#rows.each((row, id) => tickRow(row, this.#order(id), now, this.#limits));
    if (!this.element.parentElement?.hidden) this.#counts.drawToday();
  }

  #fillRow(row, id) {
    const order = this.#order(id);
    if (!order) return;
    fillRow(row, order, { open: id === this.#openId, leaving: !this.#belongs(order), now: this.#now(), limits: this.#limits });
    this.#markSelected(row, id);
  }

  #markSelected(row, id) {
    markSelected(row, this.#selection.has(id), this.#selection.reasonOf(id));
  }

  #build() {
    this.#heads = new SortHeads((sort) => {
      this.#reader.rest(); // sorting asks for other rows
      this.#navigate({ filter: { ...this.#filter, sort } });
    });
    const body = h("div", { class: "rows", role: "rowgroup", "data-testid": "board-rows" });
    const viewport = h(
      "div",
      { class: "viewport", role: "grid", "aria-label": "Orders", "data-testid": "board" },
      ...[h("div", { role: "rowgroup", class: "headgroup" }, this.#heads.element), body],
    );
    this.#rows = new Rows(viewport, body, {
      make: makeRow,
      fill: (row, id) => this.#fillRow(row, id),
      open: (id) => this.#navigate({ order: id }),
      scrolled: () => this.#scrolled(),
    });
    connectSelection(viewport, this.#rows, { selection: this.#selection, isAllowed: this.#mayAct });
    this.#reader = new Reader(viewport, () => this.#arrangeSoon());
    this.#fit(viewport);
    return this.#assemble(viewport);
  }

  #assemble(viewport) {
    const form = new FilterForm({
      merchants: () => [...new Set([...this.#filter.merchant_id, ...this.#merchants()])].sort(),
      suggesting: (valueOf, attributes) =>
        new SuggestingInput({ api: this.#api, orders: () => this.#store.open.values(), valueOf }, attributes).element,
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
    this.#parts.part = h("p", { class: "part quiet small", hidden: true, "data-testid": "board-part" });
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
      h("div", { class: "bar" }, this.#counts.element, h("div", { class: "bar-end" }, this.#views.element, form.element)),
      this.#parts.pieces,
      this.#parts.addressFault,
      this.#parts.fault,
      this.#parts.part,
      h("div", { class: "list" }, pill, viewport, empty),
    );
  }

  /** Loads the update of several orders, when the first one is selected. */
  async #openBulk(use) {
    const part = await loaded(() => import("./bulk_update.js"));
    if (part === null) this.#bulk = null;
    else this.element.append(new part.BulkUpdate(use).bar);
  }

  #fit(viewport) {
    new ResizeObserver(([{ contentRect }]) => {
      const compact = contentRect.width < COMPACT_PX;
      viewport.classList.toggle("compact", compact);
      this.#heads.isReachable = !compact;
      this.#rows.height = compact ? 60 : 38;
    }).observe(viewport);
  }
}

/** Marks the moment when orders are on the screen for the first time. */
function markFirstView() {
  if (!performance.getEntriesByName("first-useful-view").length) performance.mark("first-useful-view");
}

/** Applies the search field to the board's filter during typing. */
export function connectSearch(filter, navigate) {
  const field = byId("search");
  field.addEventListener("input", () => navigate({ filter: { ...filter(), q: field.value.trim() }, replace: true }));
}
