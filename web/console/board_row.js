/**
 * One row of the board: how an order looks in it.
 *
 * @module board_row
 */

import { h, icon, setAttribute, setIcon, setText } from "./dom.js";
import { age, fullTime, statusIcon, statusName, when } from "./format.js";

/** A row that changed is marked for so long, and up to a second more. */
const CHANGED_MS = 500;

/** An empty row. */
export function makeRow() {
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

/**
 * Shows an order in a row.
 *
 * @param {{open: boolean, leaving: boolean, now: number}} how  `open`: beside the board, too; `leaving`: it belongs there
 *   no longer.
 */
export function fillRow(row, order, { open, leaving, now }) {
  const { parts } = row;
  row.dataset.status = order.status;
  row.dataset.version = String(order.version);
  row.dataset.leaving = String(leaving);
  setAttribute(row, "aria-selected", String(open));
  setIcon(parts.statusIcon, statusIcon(order.status));
  setText(parts.status, statusName(order.status));
  setText(parts.id, order.order_id);
  setText(parts.merchant, order.merchant_id);
  setText(parts.customer, order.customer?.name ?? "");
  setText(parts.ref, order.customer?.contact_ref ?? "");
  setIcon(parts.sourceIcon, order.source.type);
  setText(parts.source, order.source.id ?? order.source.type); // links are not shown people
  setText(parts.created, when(order.created_at));
  setAttribute(parts.created, "title", fullTime(order.created_at));
  drawAge(row, order, now);
  setAttribute(parts.age, "title", `Last change ${fullTime(order.updated_at)}`);
}

/** Marks a row for a moment. */
export function markChanged(row) {
  row.dataset.changed = "true";
  row.changedAt = performance.now();
}

/** Lets a row follow the clock; called once a second. */
export function tickRow(row, order, now) {
  if (row.changedAt < performance.now() - CHANGED_MS) {
    delete row.dataset.changed;
    row.changedAt = Infinity;
  }
  if (order) drawAge(row, order, now);
}

function drawAge(row, order, now) {
  setText(row.parts.age, age((now - Date.parse(order.updated_at)) / 1000));
}
