/**
 * A list of which only the rows in view are in the page. Rows keep their element as long as they are in view, so
 * that nothing flickers, and one row is active: arrows, j and k move it, Enter opens it.
 *
 * @module rows
 */

import { setAttribute } from "./dom.js";

/** Rows beyond each edge that are ready before they are scrolled to. */
const OVERSCAN = 8;

export class Rows {
  #viewport;
  #body;
  #make;
  #fill;
  #open;
  #ids = [];
  #index = new Map();
  #height = 40;
  #shown = new Map(); // id → element
  #spare = [];
  #active = null;
  #frame = null;
  #sought = null; // is brought into view as soon as it is there and there is a view

  /**
   * @param {HTMLElement} viewport  Scrolls.
   * @param {HTMLElement} body  Holds the rows, and is as high as all of them.
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
      this.draw();
      scrolled();
    });
    viewport.addEventListener("keydown", (event) => this.#pressed(event));
    body.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.draw()).observe(viewport);
  }

  get ids() {
    return this.#ids;
  }

  get active() {
    return this.#active;
  }

  has(id) {
    return this.#index.has(id);
  }

  /** The index of the first row in view. */
  get first() {
    return Math.floor(this.#viewport.scrollTop / this.#height);
  }

  /** How many rows there are behind the last one in view. */
  get left() {
    return this.#ids.length - Math.ceil((this.#viewport.scrollTop + this.#viewport.clientHeight) / this.#height);
  }

  /** Shows these rows. */
  show(ids) {
    this.#ids = ids;
    this.#index = new Map(ids.map((id, index) => [id, index]));
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

  /** Calls `act` with the element and id of each row in the page. */
  each(act) {
    for (const [id, row] of this.#shown) act(row, id);
  }

  toTop() {
    this.#viewport.scrollTop = 0;
    this.draw();
  }

  /** Draws in the next frame. */
  draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  /** Makes a row the active one, and brings it into view. */
  activate(index, { focus = true } = {}) {
    if (!this.#ids.length) return;
    const bounded = Math.max(0, Math.min(this.#ids.length - 1, index));
    this.#active = this.#ids[bounded];
    this.#reveal(bounded);
    this.#draw();
    if (focus) this.#shown.get(this.#active)?.focus({ preventScroll: true });
  }

  /** Brings the row of this order into view: now, or when it has come. Null: none. */
  reveal(id) {
    this.#sought = id;
    this.#revealSought();
  }

  #revealSought() {
    const index = this.#index.get(this.#sought);
    if (index === undefined || !this.#viewport.clientHeight) return;
    this.#sought = null;
    this.#reveal(index);
  }

  /** Moves the active row by so many, from the first one in view if none is active. */
  move(by) {
    const index = this.#index.get(this.#active);
    this.activate(index === undefined ? this.first : index + by);
  }

  #resize() {
    this.#body.style.blockSize = `${this.#ids.length * this.#height}px`;
    setAttribute(this.#viewport, "aria-rowcount", String(this.#ids.length + 1));
    this.#draw();
  }

  #reveal(index) {
    const [top, bottom] = [index * this.#height, (index + 1) * this.#height];
    const head = this.#body.offsetTop;
    const { scrollTop, clientHeight } = this.#viewport;
    if (top < scrollTop) this.#viewport.scrollTop = top;
    else if (bottom > scrollTop + clientHeight - head) this.#viewport.scrollTop = bottom - clientHeight + head;
  }

  #draw() {
    this.#revealSought();
    const { scrollTop, clientHeight } = this.#viewport;
    const start = Math.max(0, Math.floor(scrollTop / this.#height) - OVERSCAN);
    const end = Math.min(this.#ids.length, Math.ceil((scrollTop + clientHeight) / this.#height) + OVERSCAN);
    const wanted = new Set(this.#ids.slice(start, end));
    // The active row stays in the page, or the keyboard would lose its place.
    if (this.#index.has(this.#active)) wanted.add(this.#active);
    else this.#active = null;
    this.#recycle(wanted);
    const entry = this.#active ?? this.#ids[Math.max(0, this.first)] ?? null;
    for (const id of wanted) this.#place(id, id === entry);
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

  #place(id, isEntry) {
    let row = this.#shown.get(id);
    if (!row) {
      row = this.#spare.pop() ?? this.#body.appendChild(this.#make());
      row.hidden = false;
      row.dataset.orderId = id;
      delete row.dataset.changed;
      this.#shown.set(id, row);
      this.#fill(row, id);
    }
    const index = this.#index.get(id);
    const transform = `translateY(${index * this.#height}px)`;
    if (row.style.transform !== transform) row.style.transform = transform;
    setAttribute(row, "aria-rowindex", String(index + 2));
    setAttribute(row, "tabindex", isEntry ? "0" : "-1");
  }

  #clicked({ target }) {
    const row = target.closest("[data-order-id]");
    if (!row) return;
    this.#active = row.dataset.orderId;
    this.#draw();
    this.#open(this.#active);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#viewport.clientHeight / this.#height) - 2);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      if (event.key === "Home") this.activate(0);
      else if (event.key === "End") this.activate(this.#ids.length - 1);
      else this.move(moves[event.key]);
    } else if (event.key === "Enter" && this.#active !== null) this.#open(this.#active);
    else return;
    event.preventDefault();
  }
}
