/**
 * What may be done with an order: buttons, and the form of the pressed one in their place.
 *
 * @module order_actions
 */

import { h, icon, toast } from "./dom.js";
import { HELD, submit } from "./form_parts.js";
import { orderName, statusIcon, statusName } from "./format.js";
import { checkpointForm, correctionForm, updateForm } from "./order_forms.js";

export class OrderActions {
  element = h("div", { class: "act", "data-testid": "update" });

  #use;
  #pressed = null; // the `data-testid` of the button whose form was opened

  /**
   * @param {{api: Object, order: () => Object, statuses: () => Iterable<string>, checkpoints: string[],
   *   may: () => {write: boolean, correct: boolean}, sent: (result: Object|null) => void}} use  `sent`: gets the result,
   *   or null after a refusal.
   */
  constructor(use) {
    this.#use = use;
  }

  get isOpen() {
    return this.element.querySelector("form") !== null;
  }

  /** Shows the buttons. An open form is kept, and so is the focus on a button. */
  show() {
    if (this.isOpen) return;
    const { activeElement } = document;
    const inUse = this.element.contains(activeElement) ? activeElement.dataset.testid : null;
    this.#drawButtons();
    if (inUse) this.#focus(inUse);
  }

  #drawButtons() {
    const { write, correct } = this.#use.may();
    const mayAdd = write && this.#use.checkpoints.length > 0;
    this.element.replaceChildren(
      ...(write ? this.#steps() : []),
      h(
        "div",
        { class: "choices" },
        mayAdd && this.#button("action-checkpoint", "note", "Add a checkpoint…", () => checkpointForm(this.#use.order(), this.#use.checkpoints)),
        correct && this.#button("action-correct", "edit", "Correct…", () => correctionForm(this.#use.order(), this.#use.statuses())),
      ),
    );
  }

  close() {
    this.element.replaceChildren();
    this.show();
    this.#focus(this.#pressed);
  }

  #focus(testId) {
    (this.element.querySelector(`[data-testid="${testId}"]`) ?? this.element.querySelector("button"))?.focus({ preventScroll: true });
  }

  #steps() {
    const { order, statuses } = this.#use;
    if (!order().active) return [h("h3", {}, "Closed: no step follows")];
    const buttons = order().allowed_next.map((status) => {
      const make = () => updateForm(order(), statuses(), status);
      const name = `action-${status}`;
      return h("button", { class: "button", type: "button", "data-status": status, "data-testid": name, onclick: () => this.#open(name, make()) }, icon(statusIcon(status), "status-icon"), statusName(status));
    });
    const other = () => this.#open("action-other", updateForm(order(), statuses(), null));
    return [
      h("h3", {}, "Next step"),
      h("div", { class: "choices" }, buttons, h("button", { class: "button quiet-button", type: "button", "data-testid": "action-other", onclick: other }, "Other…")),
    ];
  }

  #button(name, mark, text, make) {
    return h("button", { class: "button small-button", type: "button", "data-testid": name, onclick: () => this.#open(name, make()) }, icon(mark), text);
  }

  /** @param {OrderForm} made */
  #open(pressed, made) {
    this.#pressed = pressed;
    const form = h(
      "form",
      { class: "stack", "data-testid": `${made.name}-form` },
      made.fields,
      h("div", { class: "answer" }),
      h(
        "div",
        { class: "form-end" },
        h("button", { class: "button", type: "button", onclick: () => this.close() }, "Keep it as it is"),
        made.send,
      ),
    );
    form.addEventListener("submit", (event) => this.#send(event, form, made));
    this.element.replaceChildren(form);
    form.querySelector("select, input")?.focus();
  }

  async #send(event, form, { path, body, done }) {
    event.preventDefault();
    const order = this.#use.order();
    const told = body(new FormData(form));
    const result = await submit(form, this.#use.api, `/v1/orders/${encodeURIComponent(order.order_id)}${path}`, told);
    if (result) {
      const words = result.outcome === "held" ? `${done(told)}, ${HELD}` : done(told);
      toast(`${orderName(order)}: ${words}`);
      if (form.isConnected) this.close();
    }
    this.#use.sent(result);
  }
}
