/**
 * The form of the board's filters, and what of a filter can be taken away again.
 *
 * @module filter_form
 */

import { h, icon } from "./dom.js";
import { SORTS, TIMES } from "./filters.js";
import { when } from "./format.js";

const SORT_NAMES = {
  "-created_at": "Newest first",
  created_at: "Oldest first",
  "-updated_at": "Last changed first",
  updated_at: "Longest unchanged first",
};

const TIME_NAMES = {
  created_from: "Created from",
  created_to: "Created before",
  updated_from: "Changed from",
  updated_to: "Changed before",
};

const MAX_MERCHANTS = 100; // as many as the API takes

/** What of a filter stands in the way, in words, each with the filter that is left without it. */
export function pieces(filter) {
  const found = filter.merchant_id.map((merchant) => ({
    text: merchant,
    without: { ...filter, merchant_id: filter.merchant_id.filter((other) => other !== merchant) },
  }));
  if (filter.customer_ref) found.push({ text: filter.customer_ref, without: { ...filter, customer_ref: "" } });
  for (const name of TIMES) {
    if (!filter.times[name]) continue;
    const { [name]: time, ...times } = filter.times;
    found.push({ text: `${TIME_NAMES[name]} ${when(time)}`, without: { ...filter, times } });
  }
  if (filter.active !== true && !filter.status.length) {
    found.push({ text: filter.active === null ? "Open and closed" : "Closed", without: { ...filter, active: true } });
  }
  if (filter.sort !== SORTS[0]) found.push({ text: SORT_NAMES[filter.sort], without: { ...filter, sort: SORTS[0] } });
  return found;
}

export class FilterForm {
  element;
  button;

  #merchants;
  #apply;
  #current;
  #form;
  #menu;

  /** @param {{merchants: () => string[], current: () => Object, apply: (filter: Object) => void}} use */
  constructor({ merchants, current, apply }) {
    this.#merchants = merchants;
    this.#current = current;
    this.#apply = apply;
    this.#form = h("form", { class: "filter-form", "data-testid": "filter-form", onsubmit: (event) => this.#submitted(event) });
    this.button = h("summary", { class: "button quiet-button", "aria-label": "Filter", "data-testid": "filter-button" }, icon("filter"), h("span", {}, "Filter"));
    this.#menu = h("details", { class: "menu" }, this.button, h("div", { class: "popover" }, this.#form));
    this.#menu.addEventListener("toggle", () => this.#menu.open && this.#fill());
    this.element = this.#menu;
  }

  #fill() {
    const filter = this.#current();
    const state = filter.active === null ? "any" : String(filter.active);
    this.#form.replaceChildren(
      this.#merchantField(filter),
      field("Customer reference", h("input", { name: "customer_ref", value: filter.customer_ref, autocomplete: "off", maxlength: 128 })),
      h("div", { class: "pair" }, TIMES.map((name) => field(TIME_NAMES[name], timeInput(name, filter.times[name])))),
      h(
        "div",
        { class: "pair" },
        field("Orders", select("active", { true: "Open", false: "Closed", any: "Open and closed" }, state)),
        field("Sorted", select("sort", SORT_NAMES, filter.sort)),
      ),
      h(
        "div",
        { class: "form-end" },
        h("button", { class: "button", type: "button", onclick: () => this.#clear() }, "Clear"),
        h("button", { class: "button primary", type: "submit" }, "Show"),
      ),
    );
  }

  #merchantField(filter) {
    const boxes = this.#merchants()
      .slice(0, MAX_MERCHANTS)
      .map((merchant) =>
        h(
          "label",
          { class: "check" },
          h("input", { type: "checkbox", name: "merchant_id", value: merchant, checked: filter.merchant_id.includes(merchant) }),
          h("span", {}, merchant),
        ),
      );
    return h("fieldset", { class: "merchants" }, h("legend", {}, "Merchants"), h("div", { class: "boxes" }, boxes));
  }

  #clear() {
    const { q } = this.#current();
    this.#menu.open = false;
    this.#apply({ status: [], merchant_id: [], times: {}, active: true, customer_ref: "", sort: SORTS[0], q });
  }

  #submitted(event) {
    event.preventDefault();
    const data = new FormData(this.#form);
    const times = {};
    for (const name of TIMES) if (data.get(name)) times[name] = new Date(data.get(name)).toISOString();
    const active = { true: true, false: false, any: null }[data.get("active")];
    this.#menu.open = false;
    this.#apply({
      ...this.#current(),
      ...{ merchant_id: data.getAll("merchant_id"), customer_ref: data.get("customer_ref").trim(), times, active },
      sort: data.get("sort"),
    });
  }
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

/** A time as an input of this kind holds it: by the reader's clock. */
function localTime(date) {
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}
