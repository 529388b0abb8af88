/**
 * The forms that create and update an order. Answers of the service are shown unchanged.
 *
 * @module actions
 */

import { Refusal, Unreachable } from "./api.js";
import { byId, h, icon, setText, toast } from "./dom.js";
import { field } from "./filter_form.js";
import { byProgress, orderName, statusIcon, statusName } from "./format.js";
import { problemView } from "./problem.js";

/** Requests for the outcome of an accepted update, one a second. */
const OUTCOME_ATTEMPTS = 30;

/** Sends a form and shows a refusal in it. @returns {Promise<Object|null>} The result, or null. */
async function submit(form, api, path, body) {
  const answer = form.querySelector(".answer");
  const button = form.querySelector("[type=submit]");
  answer.replaceChildren();
  button.disabled = true;
  form.setAttribute("aria-busy", "true");
  try {
    return await decided(api, await api.send(path, body));
  } catch (error) {
    answer.replaceChildren(problemView(error));
    answer.scrollIntoView({ block: "nearest" });
    return null;
  } finally {
    button.disabled = false;
    form.removeAttribute("aria-busy");
  }
}

/** Waits for the outcome of an update that was only accepted. */
async function decided(api, result) {
  if (result.outcome !== "accepted") return result;
  toast("Taken, and not decided yet: it is in a queue.");
  for (let attempt = 0; attempt < OUTCOME_ATTEMPTS; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      return await api.get(`/v1/updates/${encodeURIComponent(result.order_id)}/${encodeURIComponent(result.update_id)}`);
    } catch (error) {
      if (!(error instanceof Unreachable) && error.slug !== "update-not-found") throw error;
    }
  }
  return result;
}

/** Input rows for metadata: a name and a value each. */
class Notes {
  element;
  #rows = h("div", { class: "notes" });

  constructor() {
    const add = h("button", { class: "button small-button", type: "button", onclick: () => this.#add(true) }, icon("plus"), "Note");
    this.element = h("fieldset", { class: "field" }, h("legend", { class: "field-name" }, "Notes (metadata)"), this.#rows, add);
  }

  #add(focus) {
    const name = h("input", { "aria-label": "Name of the note", placeholder: "name", maxlength: 64, autocomplete: "off" });
    const value = h("input", { "aria-label": "Note", placeholder: "text", maxlength: 500, autocomplete: "off" });
    this.#rows.append(h("div", { class: "note" }, name, value));
    if (focus) name.focus();
  }

  /** @returns {Object|undefined} */
  get metadata() {
    const rows = [...this.#rows.children].map((row) => [...row.children].map((input) => input.value.trim()));
    const entries = rows.filter(([name]) => name);
    return entries.length ? Object.fromEntries(entries) : undefined;
  }
}

/** The label of the button that sets this status, for the order or for `what`; null: no status is chosen yet. */
export function actName(status, what = null) {
  if (status === "cancelled") return `Cancel ${what ?? "this order"}`;
  if (what) return `Mark ${what} as ${statusName(status).toLowerCase()}`;
  return status ? `Mark as ${statusName(status).toLowerCase()}` : "Mark";
}

export const occurredField = () =>
  field("Happened at", h("input", { type: "datetime-local", name: "occurred_at", step: 1 }), "Leave it empty if it happened now.");

export const occurredAt = (data) => (data.get("occurred_at") ? new Date(data.get("occurred_at")).toISOString() : undefined);

/**
 * The form that updates the status of an order.
 * @param {{api: Object, order: () => Object, statuses: () => Iterable<string>, sent: (result: Object) => void}} use
 */
export class UpdateForm {
  element = h("div", { class: "act", "data-testid": "update" });

  #use;
  #version = null;

  constructor(use) {
    this.#use = use;
  }

  get isOpen() {
    return this.element.querySelector("form") !== null;
  }

  /** Shows the allowed next statuses. An open form is kept. */
  show() {
    if (this.isOpen) return;
    const order = this.#use.order();
    const buttons = order.allowed_next.map((status) => this.#choice(status));
    const other = h("button", { class: "button quiet-button", type: "button", "data-testid": "action-other", onclick: () => this.#ask(null) }, "Other…");
    this.element.replaceChildren(h("h3", {}, "Next step"), h("div", { class: "choices" }, buttons, other));
  }

  close() {
    this.element.replaceChildren();
    this.show();
    this.element.querySelector("button")?.focus();
  }

  #choice(status) {
    return h(
      "button",
      { class: "button", type: "button", "data-status": status, "data-testid": `action-${status}`, onclick: () => this.#ask(status) },
      ...[icon(statusIcon(status), "status-icon"), statusName(status)],
    );
  }

  #ask(status) {
    const notes = new Notes();
    const order = this.#use.order();
    this.#version = order.version;
    const send = h("button", { class: "button primary", type: "submit", "data-testid": "update-send" }, actName(status));
    const form = h(
      "form",
      { class: "stack", "data-testid": "update-form" },
      status === null ? this.#anyStatus(order, send) : h("h3", {}, actName(status)),
      occurredField(),
      notes.element,
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "guarded", checked: true }),
        h("span", {}, `Only if it is still at version ${order.version}, as you see it now`),
      ),
      h("div", { class: "answer" }),
      h(
        "div",
        { class: "form-end" },
        h("button", { class: "button", type: "button", onclick: () => this.close() }, "Keep it as it is"),
        send,
      ),
    );
    form.addEventListener("submit", (event) => this.#send(event, form, status, notes));
    this.element.replaceChildren(form);
    form.querySelector("select, input")?.focus();
  }

  #anyStatus(order, send) {
    const others = byProgress(this.#use.statuses()).filter((status) => !order.allowed_next.includes(status));
    const options = (statuses) => statuses.map((status) => h("option", { value: status }, statusName(status)));
    const select = h(
      "select",
      { name: "status" },
      order.allowed_next.length ? h("optgroup", { label: "May follow" }, options(order.allowed_next)) : null,
      h("optgroup", { label: "Will be refused from here" }, options(others)),
    );
    const name = () => setText(send, actName(select.value));
    select.addEventListener("change", name);
    name();
    return field("New status", select);
  }

  async #send(event, form, chosen, notes) {
    event.preventDefault();
    const data = new FormData(form);
    const status = chosen ?? data.get("status");
    const body = { status, occurred_at: occurredAt(data), metadata: notes.metadata };
    if (data.get("guarded")) body.expected_version = this.#version;
    const order = this.#use.order();
    const result = await submit(form, this.#use.api, `/v1/orders/${encodeURIComponent(order.order_id)}/updates`, body);
    this.#use.sent(result);
    if (!result) return;
    if (result.outcome === "rejected") form.querySelector(".answer").replaceChildren(problemView(new Refusal(result.problem)));
    else {
      toast(`${orderName(order)}: ${statusName(status)}`);
      this.close();
    }
  }
}


/** The dialog for a new order. */
export class CreateDialog {
  #use;
  #dialog = byId("create");

  /** @param {{api: Object, merchants: () => string[], created: (order_id: string) => void}} use */
  constructor(use) {
    this.#use = use;
  }

  open() {
    const notes = new Notes();
    const merchants = this.#use.merchants();
    const form = h(
      "form",
      { class: "stack", "data-testid": "create-form" },
      h("div", { class: "dialog-head" }, h("h2", { id: "create-title" }, "New order"), this.#closer()),
      h("datalist", { id: "known-merchants" }, merchants.map((merchant) => h("option", { value: merchant }))),
      h(
        "div",
        { class: "pair" },
        field("Merchant", h("input", { name: "merchant_id", required: true, list: "known-merchants", value: merchants.length === 1 ? merchants[0] : null, autocomplete: "off", maxlength: 64 })),
        field("Reference", h("input", { name: "reference", autocomplete: "off", maxlength: 64 }), "The merchant’s own number for the order."),
      ),
      h(
        "div",
        { class: "pair" },
        field("Customer’s name", h("input", { name: "name", required: true, autocomplete: "off", maxlength: 200 })),
        field("Contact or reference", h("input", { name: "contact_ref", required: true, autocomplete: "off", maxlength: 128 })),
      ),
      h(
        "div",
        { class: "pair" },
        field("Order id", h("input", { name: "order_id", autocomplete: "off", maxlength: 64 }), "Empty: one is made."),
        occurredField(),
      ),
      notes.element,
      h("div", { class: "answer" }),
      h("div", { class: "form-end" }, h("button", { class: "button", type: "button", onclick: () => this.#dialog.close() }, "Discard"), h("button", { class: "button primary", type: "submit", "data-testid": "create-send" }, "Create this order")),
    );
    form.addEventListener("submit", (event) => this.#send(event, form, notes));
    this.#dialog.replaceChildren(form);
    this.#dialog.showModal();
    form.elements.merchant_id.focus();
  }

  #closer() {
    return h("button", { class: "button icon-button", type: "button", "aria-label": "Close", onclick: () => this.#dialog.close() }, icon("close"));
  }

  async #send(event, form, notes) {
    event.preventDefault();
    const data = new FormData(form);
    const body = {
      order_id: data.get("order_id").trim() || undefined,
      merchant_id: data.get("merchant_id").trim(),
      reference: data.get("reference").trim() || undefined,
      customer: { name: data.get("name").trim(), contact_ref: data.get("contact_ref").trim() },
      occurred_at: occurredAt(data),
      metadata: notes.metadata,
    };
    const result = await submit(form, this.#use.api, "/v1/orders", body);
    if (!result) return;
    if (result.outcome === "rejected") {
      form.querySelector(".answer").replaceChildren(problemView(new Refusal(result.problem)));
      return;
    }
    this.#dialog.close();
    toast(`${body.reference ?? result.order_id} is created`);
    this.#use.created(result.order_id);
  }
}
