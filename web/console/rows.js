/**
 * A virtual list: only the rows in view are in the page. Rows keep their element while they are in view, so
 * that nothing flickers, and one row is active: arrows, j and k move it, Enter opens it.
 *
 * @module rows
 */

import { setAttribute } from "./dom.js";

/** An empty list. */
const NOTHING = { size: 0, has: () => false, indexOf: () => -1, slice: () => [] };

/** Rows beyond each edge that are drawn in advance. */
const OVERSCAN = 8;

/** New rows are drawn for this time in a frame, and no more than these, the others in later frames: to lay them out takes longer. */
const DRAW_MS = 8;
const DRAW_ROWS = 10;

export class Rows {
  #viewport;
  #body;
  #make;
  #fill;
  #open;
  #list = NOTHING;
  #height = 40;
  #shown = new Map(); // id → element
  #spare = [];
  #active = null;
  #frame = null;
  #laterFrame = null;
  #measured = { scrollTop: 0, clientHeight: 0, head: 0 }; // of the viewport; `head`: above the rows
  #sought = null; // is scrolled into view as soon as it is in the list
  #revealed = null; // was scrolled into view, and stays there until the user scrolls

  /**
   * @param {HTMLElement} viewport  Scrolls.
   * @param {HTMLElement} body  Contains the rows, and is as high as all of them.
   * @param {{make: () => HTMLElement, fill: (row: HTMLElement, id: string) => void, open: (id: string) => void,
   *   scrolled: () => void}} use
   */
  constructor(viewport, body, { make, fill, open, scrolled }) {
    this.#viewport = viewport;
    this.#body = body;
    this.#make = make;
    this.#fill = fill;
    this.#open = open;
    viewport.addEventListener("scroll", () => {
      this.#measure();
      this.draw();
      scrolled();
    });
    for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      viewport.addEventListener(name, () => (this.#revealed = null), { passive: true });
    }
    viewport.addEventListener("keydown", (event) => this.#pressed(event));
    body.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => {
      this.#keepInView();
      this.#measure();
      this.draw();
    }).observe(viewport);
  }

  /** The number of rows, in view or not. */
  get size() {
    return this.#list.size;
  }

  get active() {
    return this.#active;
  }

  has(id) {
    return this.#list.has(id);
  }

  /** The index of this order's row, from 0; -1: it has none. */
  indexOf(id) {
    return this.#list.indexOf(id);
  }

  /** The ids of the rows from one index to another one, both included, in the order of the list. */
  between(start, end) {
    return this.#list.slice(Math.min(start, end), Math.max(start, end) + 1);
  }

  /** The index of the first row in view. */
  get first() {
    return Math.floor(this.#measured.scrollTop / this.#height);
  }

  /** The number of rows after the last one in view. */
  get left() {
    const { scrollTop, clientHeight } = this.#measured;
    return this.#list.size - Math.ceil((scrollTop + clientHeight) / this.#height);
  }

  /**
   * Shows these rows. Must be called after each change of the list.
   *
   * @param {{size: number, has: (id: string) => boolean, indexOf: (id: string) => number,
   *   slice: (start: number, end: number) => string[]}} list  Of ids.
   */
  show(list) {
    this.#list = list;
    this.#resize();
  }

  /** All rows have this height, in CSS pixels. */
  set height(height) {
    if (height === this.#height) return;
    const first = this.first;
    this.#height = height;
    this.#resize();
    this.#viewport.scrollTop = first * height;
  }

  /** Fills the row of this order again, if it is in view. @returns {HTMLElement|undefined} */
  refresh(id) {
    const row = this.#shown.get(id);
    if (row) this.#fill(row, id);
    return row;
  }

  /** Calls `act` with element and id of each row in the page. */
  each(act) {
    for (const [id, row] of this.#shown) act(row, id);
  }

  toTop() {
    this.#revealed = null;
    if (this.#measured.scrollTop > 0) this.#viewport.scrollTop = 0; // else to set it would lay out the page
    this.#measured.scrollTop = 0;
    this.draw();
  }

  /** Draws in the next frame. */
  draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  /** Makes a row active, and scrolls it into view. */
  activate(index, { focus = true } = {}) {
    if (!this.#list.size) return;
    const bounded = Math.max(0, Math.min(this.#list.size - 1, index));
    [this.#active] = this.#list.slice(bounded, bounded + 1);
    this.#revealed = null;
    this.#reveal(bounded);
    this.#draw();
    if (focus) this.#shown.get(this.#active)?.focus({ preventScroll: true });
  }

  /** Scrolls the row of this order into view, now or when it is added. Null: none. */
  reveal(id) {
    this.#sought = id;
    this.#revealed = null;
    this.#revealSought();
  }

  #revealSought() {
    const index = this.#list.indexOf(this.#sought);
    if (index < 0 || !this.#viewport.clientHeight) return;
    this.#revealed = this.#sought;
    this.#sought = null;
    this.#reveal(index);
  }

  /** A smaller view, below a notice that has appeared, still has the row that was scrolled into view. */
  #keepInView() {
    if (this.#list.has(this.#revealed)) this.reveal(this.#revealed);
  }

  /** Moves the active row by this number of rows, from the first one in view if none is active. */
  move(by) {
    const index = this.#list.indexOf(this.#active);
    this.activate(index < 0 ? this.first : index + by);
  }

  #resize() {
    const { scrollTop, clientHeight, head } = this.#measured;
    const height = this.#list.size * this.#height;
    this.#body.style.blockSize = `${height}px`;
    setAttribute(this.#viewport, "aria-rowcount", String(this.#list.size + 1));
    this.#measured.scrollTop = Math.min(scrollTop, Math.max(0, head + height - clientHeight));
    this.#draw();
  }

  /** Measured only when it changes: in between, the browser would have to lay out the page for it. */
  #measure() {
    const { scrollTop, clientHeight } = this.#viewport;
    this.#measured = { scrollTop, clientHeight, head: this.#body.offsetTop };
  }

  #reveal(index) {
    const [top, bottom] = [index * this.#height, (index + 1) * this.#height];
    const head = this.#body.offsetTop;
    const { scrollTop, clientHeight } = this.#viewport;
    if (top < scrollTop) this.#viewport.scrollTop = top;
    else if (bottom > scrollTop + clientHeight - head) this.#viewport.scrollTop = bottom - clientHeight + head;
    this.#measure();
  }

  #draw() {
    this.#revealSought();
    const { scrollTop, clientHeight } = this.#measured;
    const start = Math.max(0, Math.floor(scrollTop / this.#height) - OVERSCAN);
    const end = Math.min(this.#list.size, Math.ceil((scrollTop + clientHeight) / this.#height) + OVERSCAN);
    const wanted = new Map(this.#list.slice(start, end).map((id, index) => [id, start + index]));
    // The active row stays in the page, or it would lose the focus.
    const active = this.#list.indexOf(this.#active);
    if (active >= 0) wanted.set(this.#active, active);
    else this.#active = null;
    this.#recycle(wanted);
    const first = Math.max(0, Math.floor(scrollTop / this.#height));
    const entry = active >= 0 ? active : first;
    const last = Math.ceil((scrollTop + clientHeight) / this.#height);
    const inView = ([, index]) => index >= first && index <= last;
    const [seen, others] = [[...wanted].filter(inView), [...wanted].filter((each) => !inView(each))];
    const until = performance.now() + DRAW_MS;
    const most = this.#shown.size + DRAW_ROWS;
    for (const [id, index] of [...seen, ...others]) {
      const isTime = this.#shown.size < most && performance.now() < until;
      if (isTime || this.#shown.has(id) || index === entry) this.#place(id, index, index === entry);
      else this.#drawLater();
    }
  }

  /** Draws in the frame after the next one, which may have what was drawn now. */
  #drawLater() {
    this.#laterFrame ??= requestAnimationFrame(() => {
      this.#laterFrame = null;
      this.draw();
    });
  }

  #recycle(wanted) {
    for (const [id, row] of this.#shown) {
      if (wanted.has(id)) continue;
      this.#shown.delete(id);
      row.hidden = true;
      this.#spare.push(row);
    }
    while (this.#spare.length > 64) this.#spare.pop().remove();
  }

  #place(id, index, isEntry) {
    let row = this.#shown.get(id);
    if (!row) {
      row = this.#spare.pop() ?? this.#body.appendChild(this.#make());
      row.hidden = false;
      row.dataset.orderId = id;
      delete row.dataset.changed;
      this.#shown.set(id, row);
      this.#fill(row, id);
    }
    const transform = `translateY(${index * this.#height}px)`;
    if (row.style.transform !== transform) row.style.transform = transform;
    setAttribute(row, "aria-rowindex", String(index + 2));
    setAttribute(row, "tabindex", isEntry ? "0" : "-1");
  }

  #clicked(event) {
    const row = event.target.closest("[data-order-id]");
    if (!row) return;
    event.preventDefault(); // the link in the row is for the browser's own ways to open it
    this.#active = row.dataset.orderId;
    this.#draw();
    this.#open(this.#active);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(".head")) return;
    const page = Math.max(1, Math.floor(this.#viewport.clientHeight / this.#height) - 2);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      if (event.key === "Home") this.activate(0);
      else if (event.key === "End") this.activate(this.#list.size - 1);
      else this.move(moves[event.key]);
    } else if (event.key === "Enter" && this.#active !== null) this.#open(this.#active);
    else return;
    event.preventDefault();
  }
}
