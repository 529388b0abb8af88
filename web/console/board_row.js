/**
 * One row of the board.
 *
 * @module board_row
 */

import { h, icon, setAttribute, setIcon, setText } from "./dom.js";
import { age, fullTime, isExpectedLate, orderName, statusIcon, statusName, toMinute, when } from "./format.js";

/** A changed row is marked for this time, and up to a second more. */
const CHANGED_MS = 500;

/** An empty row. Its link covers the whole row, so that the browser can open or copy it from anywhere. */
export function makeRow() {
  const cell = (name, ...children) => h("div", { class: `cell ${name}`, role: "gridcell" }, ...children);
  const text = () => h("span", { class: "text" });
  const parts = {
    ...{ statusIcon: icon("other", "status-icon"), status: text(), merchant: text() },
    id: h("a", { class: "text row-link", tabindex: "-1" }),
    box: h("input", { type: "checkbox", tabindex: "-1", "data-testid": "row-box" }),
    late: icon("late", "late-icon"),
    lateText: h("span", { class: "unseen" }),
    ...{ customer: text(), ref: text(), sourceIcon: icon("system", "quiet"), source: text() },
    ...{ created: text(), dueIcon: icon("late", "due-icon"), due: text(), dueText: h("span", { class: "unseen" }), age: text() },
  };
  const row = h(
    "div",
    { class: "row", role: "row", "data-testid": "board-row" },
    cell("c-check", h("label", {}, parts.box)),
    cell("c-status", parts.statusIcon, parts.status),
    cell("c-id", parts.id),
    cell("c-merchant", parts.merchant),
    cell("c-customer", parts.customer, parts.ref),
    cell("c-source", parts.sourceIcon, parts.source),
    cell("c-created", parts.created),
    cell("c-due", parts.dueIcon, parts.due, parts.dueText),
    cell("c-age", parts.late, parts.age, parts.lateText),
  );
  parts.ref.classList.add("quiet");
  row.parts = parts;
  row.changedAt = Infinity;
  return row;
}

/**
 * Shows an order in a row.
 *
 * @param {{open: boolean, leaving: boolean, now: number, limits: Object<string, number>}} how  `open`: next to the board,
 *   too; `leaving`: it has left the filter; `limits`: seconds after which an order in a status is late.
 */
export function fillRow(row, order, { open, leaving, now, limits }) {
  const { parts } = row;
  row.dataset.status = order.status;
  row.dataset.version = String(order.version);
  row.dataset.leaving = String(leaving);
  markOpened(row, open);
  setIcon(parts.statusIcon, statusIcon(order.status));
  setText(parts.status, statusName(order.status));
  setText(parts.id, orderName(order));
  setAttribute(parts.id, "href", `?${new URLSearchParams([["order", order.order_id]])}`);
  setAttribute(parts.id, "title", `${order.reference ? `Order id ${order.order_id}\n` : ""}Created ${fullTime(order.created_at)}\nLast change ${fullTime(order.updated_at)}`);
  setAttribute(parts.box, "aria-label", `Select ${orderName(order)}`);
  setText(parts.merchant, order.merchant_id);
  setText(parts.customer, order.customer === null ? "erased" : (order.customer?.name ?? ""));
  setText(parts.ref, order.customer?.contact_ref ?? "");
  setIcon(parts.sourceIcon, order.source.type);
  setText(parts.source, order.source.id ?? order.source.type); // tokens of links do not show names
  setText(parts.created, when(order.created_at));
  setAttribute(parts.due, "title", dueTitle(order));
  drawDue(row, order, now);
  drawAge(row, order, now, limits);
}

/** Marks the row of the order that is open next to the board. */
export function markOpened(row, isOpen) {
  if (isOpen) setAttribute(row, "aria-current", "true");
  else row.removeAttribute("aria-current");
}

/** Marks a row as selected or not. `reason`: of a refused update, or empty. */
export function markSelected(row, isSelected, reason) {
  setAttribute(row, "aria-selected", String(isSelected));
  row.parts.box.checked = isSelected;
  row.dataset.refused = String(Boolean(reason));
  setAttribute(row.parts.box, "title", reason);
}

/** Marks a row for a moment. */
export function markChanged(row) {
  row.dataset.changed = "true";
  row.changedAt = performance.now();
}

/** Updates the ages in a row; called once a second. */
export function tickRow(row, order, now, limits) {
  if (row.changedAt < performance.now() - CHANGED_MS) {
    delete row.dataset.changed;
    row.changedAt = Infinity;
  }
  if (!order) return;
  if (order.overdue) drawDue(row, order, now);
  drawAge(row, order, now, limits);
}

function drawDue({ dataset, parts }, order, now) {
  const { due_at, overdue, active } = order;
  const isAtRisk = active && !overdue && isExpectedLate(order);
  const due = overdue ? "overdue" : isAtRisk ? "at-risk" : due_at ? "due" : "";
  if (dataset.due !== due) {
    dataset.due = due;
    setText(parts.dueText, isAtRisk ? "expected later" : "");
  }
  setText(parts.due, dueWords(order, now));
}

function dueWords({ due_at, eta, overdue }, now) {
  if (overdue) return `${age((now - Date.parse(due_at)) / 1000)} overdue`;
  if (due_at) return toMinute(due_at);
  return eta ? `ETA ${toMinute(eta)}` : "";
}

function dueTitle({ due_at, eta }) {
  return [due_at && `Due ${fullTime(due_at)}`, eta && `ETA ${fullTime(eta)}`].filter(Boolean).join("\n");
}

function drawAge(row, order, now, limits) {
  const seconds = (now - Date.parse(order.updated_at)) / 1000;
  const late = order.active && seconds > (Object.hasOwn(limits, order.status) ? limits[order.status] : Infinity);
  if (row.dataset.late !== String(late)) {
    row.dataset.late = String(late);
    setText(row.parts.lateText, late ? "late" : "");
  }
  setText(row.parts.age, age(seconds));
}
