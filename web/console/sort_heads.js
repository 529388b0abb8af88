/**
 * The heads of the board's columns. Those that the API can sort by are buttons: the first press sorts by the newest, the
 * next one reverses it.
 *
 * @module sort_heads
 */

import { h, icon, setAttribute } from "./dom.js";

const HEADS = [
  ...[["status", "Status"], ["id", "Order"], ["merchant", "Merchant"], ["customer", "Customer"]],
  ...[["source", "Reported by"], ["created", "Created", "created_at"], ["age", "Changed", "updated_at"]],
];

export class SortHeads {
  element;

  #heads = new Map(); // field → its head and button

  /** @param {(sort: string) => void} sortBy  Gets the chosen `sort` of `GET /v1/orders`. */
  constructor(sortBy) {
    this.element = h(
      "div",
      { class: "row head", role: "row", "aria-rowindex": "1" },
      h("div", { class: "cell c-check", role: "columnheader" }, h("span", { class: "unseen" }, "Selected")),
      ...HEADS.map(([name, text, field]) => this.#head(name, text, field, sortBy)),
    );
  }

  #head(name, text, field, sortBy) {
    const head = h("div", { class: `cell c-${name}`, role: "columnheader" });
    if (!field) {
      head.append(text);
      return head;
    }
    const button = h("button", { class: "sort-button", type: "button", "data-testid": `sort-${field}` }, text, icon("up"));
    button.addEventListener("click", () => sortBy(head.getAttribute("aria-sort") === "descending" ? field : `-${field}`));
    head.append(button);
    this.#heads.set(field, { head, button });
    return head;
  }

  /** Shows the sort order. */
  set sort(sort) {
    for (const [field, { head, button }] of this.#heads) {
      const direction = sort === field ? "ascending" : sort === `-${field}` ? "descending" : "none";
      setAttribute(head, "aria-sort", direction);
      setAttribute(button, "title", `Sort by it, ${direction === "descending" ? "the oldest" : "the newest"} first`);
    }
  }

  /** Makes the buttons reachable by keyboard, unless the heads are hidden. */
  set isReachable(isReachable) {
    for (const { button } of this.#heads.values()) button.tabIndex = isReachable ? 0 : -1;
  }
}
