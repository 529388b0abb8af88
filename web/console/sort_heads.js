/**
 * The heads of the board's columns. Those that the API can sort by are buttons: the first press sorts by the newest, or
 * by the earliest due time, and the next one reverses it.
 *
 * @module sort_heads
 */

import { h, icon, setAttribute } from "./dom.js";

const HEADS = [
  ...[["status", "Status"], ["id", "Order"], ["merchant", "Merchant"], ["customer", "Customer"]],
  ...[["source", "Reported by"], ["created", "Created", "created_at"], ["due", "Due", "due_at"], ["age", "Changed", "updated_at"]],
];

/** What the first press sorts by: of past times the newest, of due times the earliest. */
const first = (field) => (field === "due_at" ? field : `-${field}`);

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
    button.addEventListener("click", () => sortBy(following(head, field)));
    head.append(button);
    this.#heads.set(field, { head, button });
    return head;
  }

  /** Shows the sort order. */
  set sort(sort) {
    for (const [field, { head, button }] of this.#heads) {
      const direction = sort === field ? "ascending" : sort === `-${field}` ? "descending" : "none";
      setAttribute(head, "aria-sort", direction);
      const [earliest, latest] = field === "due_at" ? ["the earliest", "the latest"] : ["the oldest", "the newest"];
      setAttribute(button, "title", `Sort by it, ${following(head, field) === field ? earliest : latest} first`);
    }
  }

  /** Makes the buttons reachable by keyboard, unless the heads are hidden. */
  set isReachable(isReachable) {
    for (const { button } of this.#heads.values()) button.tabIndex = isReachable ? 0 : -1;
  }
}

/** What the next press sorts by. */
function following(head, field) {
  const direction = head.getAttribute("aria-sort") ?? "none";
  if (direction === "none") return first(field);
  return direction === "descending" ? field : `-${field}`;
}
