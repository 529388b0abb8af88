/**
 * The form of the board's filters, and the parts of a filter that can be removed.
 *
 * @module filter_form
 */

import { beforeOpening, h, icon } from "./dom.js";
import { COLUMNS, SORTS, TIMES, usualActive } from "./filters.js";
import { when } from "./format.js";

const SORT_NAMES = {
  "-created_at": "Newest first",
  created_at: "Oldest first",
  "-updated_at": "Last changed first",
  updated_at: "Longest unchanged first",
  due_at: "Due soonest first, those with a due time",
  "-due_at": "Due latest first, those with a due time",
};

const TIME_NAMES = {
  created_from: "Created from",
  created_to: "Created before",
  updated_from: "Changed from",
  updated_to: "Changed before",
  closed_from: "Closed from",
  closed_to: "Closed before",
  due_from: "Due from",
  due_to: "Due before",
};

export const COLUMN_NAMES = { merchant: "Merchant", customer: "Customer", source: "Reported by", created: "Created", due: "Due", age: "Changed" };

/** Merchants with a checkbox, besides the chosen ones. Others can be typed. */
const MAX_BOXES = 12;

/** The parts of a filter as text, each with the filter without it. */
export function pieces(filter) {
  const found = filter.merchant_id.map((merchant) => ({
    text: merchant,
    without: { ...filter, merchant_id: filter.merchant_id.filter((other) => other !== merchant) },
  }));
  if (filter.customer_ref) found.push({ text: filter.customer_ref, without: { ...filter, customer_ref: "" } });
  if (filter.source_id) found.push({ text: `Reported by ${filter.source_id}`, without: { ...filter, source_id: "" } });
  if (filter.overdue !== null) {
    found.push({ text: filter.overdue ? "Overdue" : "Not overdue", without: { ...filter, overdue: null } });
  }
  for (const name of TIMES) {
    if (!filter.times[name]) continue;
    const { [name]: time, ...times } = filter.times;
    const without = { ...filter, times };
    if (filter.active === usualActive(filter)) without.active = usualActive(without);
    found.push({ text: `${TIME_NAMES[name]} ${when(time)}`, without });
  }
  if (filter.active !== true && !filter.status.length && filter.active !== usualActive(filter)) {
    found.push({ text: filter.active === null ? "Open and closed" : "Closed", without: { ...filter, active: true } });
  }
  if (filter.sort !== SORTS[0]) found.push({ text: SORT_NAMES[filter.sort], without: { ...filter, sort: SORTS[0] } });
  return found;
}

export class FilterForm {
  element;
  button;

  #merchants;
  #suggesting;
  #apply;
  #current;
  #form;
  #menu;

  /**
   * @param {{merchants: () => string[], suggesting: (valueOf: Function, attributes: Object) => HTMLElement,
   *   current: () => Object, apply: (filter: Object) => void}} use  `suggesting` makes a field that suggests values of
   *   orders.
   */
  constructor({ merchants, suggesting, current, apply }) {
    this.#merchants = merchants;
    this.#suggesting = suggesting;
    this.#current = current;
    this.#apply = apply;
    this.#form = h("form", { class: "filter-form", "data-testid": "filter-form", onsubmit: (event) => this.#submitted(event) });
    this.button = h("summary", { class: "button quiet-button", "aria-label": "Filter", "data-testid": "filter-button" }, icon("filter"), h("span", {}, "Filter"));
    this.#menu = h("details", { class: "menu" }, this.button, h("div", { class: "popover" }, this.#form));
    beforeOpening(this.#menu, () => this.#fill());
    this.element = this.#menu;
  }

  #fill() {
    const filter = this.#current();
    const state = filter.active === null ? "any" : String(filter.active);
    this.#form.replaceChildren(
      this.#merchantField(filter),
      field("Driver or other reporter of the newest change", this.#suggesting(({ source }) => source.id, { name: "source_id", value: filter.source_id, maxlength: 255, "data-testid": "filter-source_id" })),
      field("Customer reference", h("input", { name: "customer_ref", value: filter.customer_ref, autocomplete: "off", maxlength: 128 })),
      h("div", { class: "pair" }, TIMES.map((name) => field(TIME_NAMES[name], timeInput(name, filter.times[name])))),
      h(
        "div",
        { class: "pair" },
        field("Orders", select("active", { true: "Open", false: "Closed", any: "Open and closed" }, state)),
        field("Due time", select("overdue", { any: "Any", true: "Overdue", false: "Not overdue" }, String(filter.overdue ?? "any"))),
      ),
      field("Sorted", select("sort", SORT_NAMES, filter.sort)),
      columnBoxes(filter),
      h(
        "div",
        { class: "form-end" },
        h("button", { class: "button", type: "button", onclick: () => this.#clear() }, "Clear"),
        h("button", { class: "button primary", type: "submit" }, "Show"),
      ),
    );
  }

  #merchantField(filter) {
    const others = this.#merchants().filter((merchant) => !filter.merchant_id.includes(merchant));
    const merchants = [...filter.merchant_id, ...others.slice(0, MAX_BOXES)];
    const boxes = merchants.map((merchant) => box("merchant_id", merchant, merchant, filter.merchant_id.includes(merchant)));
    const another = field("Another merchant", this.#suggesting(({ merchant_id }) => merchant_id, { name: "merchant_id", maxlength: 64 }));
    return h("fieldset", { class: "merchants" }, h("legend", {}, "Merchants"), h("div", { class: "boxes" }, boxes), another);
  }

  #clear() {
    const { q } = this.#current();
    this.#close();
    this.#apply({ status: [], merchant_id: [], times: {}, active: true, overdue: null, customer_ref: "", source_id: "", columns: null, sort: SORTS[0], q });
  }

  /** Returns the focus to the element that had it. */
  #close() {
    this.#menu.open = false;
    this.button.focus();
  }

  #submitted(event) {
    event.preventDefault();
    const data = new FormData(this.#form);
    const times = {};
    for (const name of TIMES) if (data.get(name)) times[name] = new Date(data.get(name)).toISOString();
    const chosen = { true: true, false: false, any: null };
    const [asked, overdue] = ["active", "overdue"].map((name) => chosen[data.get(name)]);
    // No open order has closed: with times of closing, the choice that is there by default means nothing.
    const active = asked && usualActive({ status: [], times }) === null ? null : asked;
    const merchants = data.getAll("merchant_id").map((merchant) => merchant.trim());
    const columns = data.getAll("columns");
    this.#close();
    this.#apply({
      ...this.#current(),
      ...{ merchant_id: [...new Set(merchants.filter(Boolean))], source_id: data.get("source_id").trim(), customer_ref: data.get("customer_ref").trim(), times, active, overdue },
      columns: columns.length === COLUMNS.length ? null : columns,
      sort: data.get("sort"),
    });
  }
}

function columnBoxes(filter) {
  const boxes = COLUMNS.map((name) => box("columns", name, COLUMN_NAMES[name], filter.columns === null || filter.columns.includes(name)));
  return h("fieldset", { class: "merchants" }, h("legend", {}, "Columns"), h("div", { class: "boxes" }, boxes));
}

function box(name, value, text, checked) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked }), h("span", {}, text));
}

/** A labelled control. */
export function field(name, control, hint = null) {
  return h("label", { class: "field" }, h("span", { class: "field-name" }, name), control, hint && h("span", { class: "hint" }, hint));
}

function select(name, options, chosen) {
  const made = Object.entries(options).map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return h("select", { name }, ...made);
}

function timeInput(name, time) {
  return h("input", { type: "datetime-local", name, value: time ? localTime(new Date(time)) : null, step: 1 });
}

/** A time as the value of an input, in the time zone of the browser. */
function localTime(date) {
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}
