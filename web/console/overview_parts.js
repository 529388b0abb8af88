/**
 * The elements of the overview.
 *
 * @module overview_parts
 */

import { h, icon } from "./dom.js";
import { duration, number, statusName } from "./format.js";

/** A figure with its name; `value` and `note` are set later. */
export function tile(name, title, note = "") {
  const parts = { value: h("strong", { "data-testid": `tile-${name}` }, "–"), note: h("span", { class: "quiet" }, note) };
  const element = h("div", { class: "tile" }, h("span", { class: "tile-name" }, title), parts.value, parts.note);
  return { element, ...parts };
}

/** A part of the page with a title; `size` is its share of the width. */
export function card(size, title, aside, ...content) {
  return h("section", { class: `card ${size}` }, h("header", {}, h("h2", {}, title), ...aside), ...content);
}

/** A name, a value, and a bar; `share`: of the longest bar. */
export function barRow(name, share, value, className) {
  const bar = h("span", { class: `fill ${className}` });
  bar.style.inlineSize = `${Math.max(1, share * 100)}%`;
  return h("li", {}, h("div", { class: "bar-line" }, h("span", {}, name), h("strong", {}, value)), h("div", { class: "track" }, bar));
}

/** The duration of one step: for half of the orders, and for 9 of 10. */
export function legRow({ leg_from, leg_to, count, p50, p90 }, largest) {
  const [half, most] = [h("span", { class: "fill p50" }), h("span", { class: "fill p90" })];
  half.style.inlineSize = `${(p50 / largest) * 100}%`;
  most.style.inlineSize = `${(p90 / largest) * 100}%`;
  return h(
    "li",
    { title: `${number(count)} orders` },
    h("div", { class: "bar-line" }, h("span", {}, `${statusName(leg_from)} → ${statusName(leg_to).toLowerCase()}`), h("strong", {}, duration(p50), h("span", { class: "quiet" }, ` · ${duration(p90)}`))),
    h("div", { class: "track" }, most, half),
  );
}

/** A row for one of the oldest orders; its `parts` are set later, `open` gets the order's id. */
export function oldestRow(open) {
  const parts = { mark: icon("other", "status-icon"), id: h("span", { class: "mono" }), merchant: h("span", { class: "quiet" }), time: h("strong", {}) };
  parts.link = h("a", { href: "?" }, parts.mark, h("span", { class: "two-lines" }, parts.id, parts.merchant), parts.time);
  parts.link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(parts.link.dataset.orderId);
  });
  const row = h("li", {}, parts.link);
  row.parts = parts;
  return row;
}
