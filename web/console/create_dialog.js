/**
 * The dialog for a new order.
 *
 * @module create_dialog
 */

import { byId, h, icon, toast } from "./dom.js";
import { field } from "./filter_form.js";
import { HELD, Notes, submit, timeField, timeOf } from "./form_parts.js";

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
        timeField("Due", "due_at", "When it should be delivered, if that is known."),
        timeField("Happened at", "occurred_at", "Leave it empty if it happened now."),
      ),
      field("Order id", h("input", { name: "order_id", autocomplete: "off", maxlength: 64 }), "Empty: one is made."),
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
      due_at: timeOf(data, "due_at"),
      occurred_at: timeOf(data, "occurred_at"),
      metadata: notes.metadata,
    };
    const result = await submit(form, this.#use.api, "/v1/orders", body);
    if (!result) return;
    this.#dialog.close();
    toast(`${body.reference ?? result.order_id} is ${result.outcome === "held" ? HELD : "created"}`);
    this.#use.created(result.order_id);
  }
}
