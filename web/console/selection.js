/**
 * The selected orders of the board, and the reasons of refused updates.
 *
 * @module selection
 */

import { announce } from "./dom.js";
import { number } from "./format.js";

/** The limit of one batch of the API. */
export const MAX_SELECTED = 1000;

/** Dispatches `change` when the selection or a reason changes. */
export class Selection extends EventTarget {
  #reasons = new Map(); // id → the reason of its refused update, or ""
  #anchor = null; // the start of a range

  get size() {
    return this.#reasons.size;
  }

  /** @returns {string[]} In the order in which they were selected. */
  get ids() {
    return [...this.#reasons.keys()];
  }

  has(id) {
    return this.#reasons.has(id);
  }

  /** The reason why the update of this order was refused; empty: it was not. */
  reasonOf(id) {
    return this.#reasons.get(id) ?? "";
  }

  /** The number of orders whose update was refused. */
  get refused() {
    return [...this.#reasons.values()].filter(Boolean).length;
  }

  /** Selects or deselects an order, which becomes the start of a range. */
  toggle(id) {
    this.#anchor = id;
    if (!this.#reasons.delete(id)) this.#add([id]);
    this.#changed();
  }

  /**
   * Selects all orders from one to another. `rows`: the `Rows` that contain them; `from`: by default,
   * the start of the last range.
   */
  extend(id, rows, from = this.#anchor) {
    const to = rows.indexOf(id);
    const found = rows.indexOf(from);
    this.#anchor = found < 0 ? id : from;
    this.#add(rows.between(found < 0 ? to : found, to));
    this.#changed();
  }

  /** Removes orders whose updates were applied. */
  remove(ids) {
    for (const id of ids) this.#reasons.delete(id);
    this.#changed();
  }

  /** Records the reasons of refused updates. @param {Map<string, string>} reasons */
  refuse(reasons) {
    for (const [id, reason] of reasons) if (this.#reasons.has(id)) this.#reasons.set(id, reason);
    this.#changed();
  }

  clear() {
    this.#reasons.clear();
    this.#anchor = null;
    this.#changed();
  }

  #add(ids) {
    for (const id of ids) {
      if (this.#reasons.size === MAX_SELECTED && !this.#reasons.has(id)) {
        announce(`No more than ${number(MAX_SELECTED)} orders can be selected.`);
        return;
      }
      if (!this.#reasons.has(id)) this.#reasons.set(id, "");
    }
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/**
 * Lets the rows of a list be selected: by their box, by a click with Shift, by Space, and by moving with Shift.
 *
 * @param {HTMLElement} viewport
 * @param {Object} rows  The `Rows` in it; it must listen to the viewport's keys already.
 * @param {{selection: Selection, isAllowed: () => boolean}} use
 */
export function connectSelection(viewport, rows, { selection, isAllowed }) {
  let before = null; // the active row before a key moved it
  viewport.addEventListener("keydown", () => (before = rows.active), { capture: true });
  viewport.addEventListener("keydown", (event) => {
    if (!isAllowed() || event.ctrlKey || event.metaKey || event.altKey || rows.active === null || event.target.closest(".head")) return;
    if (event.key === " ") {
      selection.toggle(rows.active);
      event.preventDefault();
    } else if (event.shiftKey && rows.active !== before) {
      selection.extend(rows.active, rows, before);
    }
  });
  viewport.addEventListener(
    "click",
    (event) => {
      const row = event.target.closest("[data-order-id]");
      if (!row) return;
      const id = row.dataset.orderId;
      if (event.target.closest(".c-check")) {
        event.stopPropagation();
        if (event.target.tagName !== "INPUT") return; // a click on the label is followed by one on the box
        if (event.shiftKey) selection.extend(id, rows);
        else selection.toggle(id);
        rows.activate(rows.indexOf(id));
      } else if (event.shiftKey && isAllowed()) {
        event.preventDefault(); // the link would open a window
        event.stopPropagation();
        selection.extend(id, rows);
        rows.activate(rows.indexOf(id));
      } else if (event.ctrlKey || event.metaKey || event.shiftKey) event.stopPropagation(); // the browser opens the link
    },
    { capture: true },
  );
}
