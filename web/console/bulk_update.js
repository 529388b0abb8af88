/**
 * One update for all selected orders: a bar with their number, and the dialog with the form and the outcomes. They are
 * sent as one batch; each order has its own outcome, and refused ones stay selected.
 *
 * @module bulk_update
 */

import { newKey } from "./api.js";
import { announce, h, icon, setText } from "./dom.js";
import { field } from "./filter_form.js";
import { HELD, actName, timeField, timeOf } from "./form_parts.js";
import { byProgress, number, orderName, statusName } from "./format.js";
import { problemView } from "./problem.js";

/** Requests for the outcomes of accepted updates, one a second. */
const OUTCOME_ATTEMPTS = 20;

export class BulkUpdate {
  bar;

  #use;
  #count = h("strong", { "data-testid": "selected-count" });
  #refused;
  #dialog = h("dialog", { class: "dialog", "aria-labelledby": "bulk-title", "data-testid": "bulk" });
  #parts = {};
  #seen = new Map(); // selected orders as they were when selected: the board may drop closed ones
  #orders = []; // those of the dialog, as they were when it was opened
  #sent = new Map(); // content of the update → its update id: a second attempt must not apply it twice

  /**
   * @param {{api: Object, selection: Object, order: (id: string) => Object, statuses: () => Iterable<string>,
   *   left: () => void}} use  `left` is called after the dialog, if nothing is selected any more.
   */
  constructor(use) {
    this.#use = use;
    this.#refused = h("button", { class: "button small-button refused-button", type: "button", "data-testid": "bulk-reasons", onclick: () => this.#open(true) }, icon("alert"), h("span"));
    this.bar = h(
      "div",
      { class: "select-bar", role: "group", "aria-label": "Selected orders", "data-testid": "select-bar", hidden: true },
      this.#count,
      this.#refused,
      h("button", { class: "button small-button", type: "button", "data-testid": "select-clear", onclick: () => this.#clear() }, "Clear"),
      h("button", { class: "button small-button primary", type: "button", "data-testid": "bulk-open", onclick: () => this.#open(false) }, "Update…"),
    );
    this.#dialog.addEventListener("close", () => this.#closed());
    document.body.append(this.#dialog);
    use.selection.addEventListener("change", () => this.#draw());
    this.#draw();
  }

  #draw() {
    this.#remember();
    const { size, refused } = this.#use.selection;
    const text = `${number(size)} selected`;
    this.bar.hidden = size === 0;
    this.#refused.hidden = refused === 0;
    setText(this.#refused.lastChild, `${number(refused)} refused`);
    if (this.#count.textContent === text) return;
    setText(this.#count, text);
    if (!this.#dialog.open) announce(size ? text : "Nothing is selected.");
  }

  #remember() {
    const { selection, order } = this.#use;
    for (const id of this.#seen.keys()) if (!selection.has(id)) this.#seen.delete(id);
    for (const id of selection.ids) if (!this.#seen.has(id)) this.#seen.set(id, order(id));
  }

  #clear() {
    this.#use.selection.clear();
    this.#use.left();
  }

  #closed() {
    if (this.#use.selection.size === 0) this.#use.left();
  }

  // --- the dialog ----------------------------------------------------------------------------------------------

  /** `withReasons`: shows the reasons of refused updates. */
  #open(withReasons) {
    const close = () => this.#dialog.close();
    const parts = (this.#parts = {
      title: h("h2", { id: "bulk-title" }),
      form: h("form", { class: "stack", "data-testid": "bulk-form" }),
      summary: h("p", { class: "bulk-summary", role: "status", "data-testid": "bulk-summary" }),
      outcomes: h("ul", { class: "outcomes", "aria-label": "Outcomes", tabindex: "0", hidden: true, "data-testid": "outcomes" }),
      answer: h("div"),
      done: h("button", { class: "button", type: "button", "data-testid": "bulk-done", onclick: close }, "Leave them as they are"),
      send: h("button", { class: "button primary", type: "submit", "data-testid": "bulk-send" }),
    });
    parts.form.addEventListener("submit", (event) => this.#send(event));
    this.#dialog.replaceChildren(
      h(
        "div",
        { class: "stack" },
        h("div", { class: "dialog-head" }, parts.title, h("button", { class: "button icon-button", type: "button", "aria-label": "Close", onclick: close }, icon("close"))),
        ...[parts.summary, parts.outcomes, parts.form],
      ),
    );
    this.#ask();
    if (withReasons) this.#showOutcomes(this.#use.selection.ids.filter((id) => this.#use.selection.reasonOf(id)).map((id) => this.#refusedView(id)));
    this.#dialog.showModal();
    parts.status.focus();
  }

  /** Shows the form for the orders that are selected now. */
  #ask() {
    const { form, title, answer, done, send } = this.#parts;
    this.#orders = this.#use.selection.ids.map((id) => this.#use.order(id) ?? this.#seen.get(id));
    setText(title, `Update ${countOf(this.#orders.length)}`);
    const status = (this.#parts.status = h("select", { name: "status", required: true }, this.#choices()));
    const all = countOf(this.#orders.length);
    const name = () => setText(send, status.value ? actName(status.value, all) : `Update ${all}`);
    status.addEventListener("change", name);
    name();
    form.replaceChildren(
      field("New status", status),
      timeField("Happened at", "occurred_at", "Leave it empty if it happened now."),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "guarded", checked: true }),
        h("span", {}, "Each only if nobody changed it since this was opened"),
      ),
      answer,
      h("div", { class: "form-end" }, done, send),
    );
  }

  /** The options of the form: the allowed statuses, those of most orders first, then the others. */
  #choices() {
    const may = new Map();
    for (const { allowed_next } of this.#orders) for (const status of allowed_next) may.set(status, (may.get(status) ?? 0) + 1);
    const following = byProgress(may.keys()).sort((a, b) => may.get(b) - may.get(a));
    const others = byProgress(this.#use.statuses()).filter((status) => !may.has(status));
    const all = this.#orders.length;
    const text = (status) => statusName(status) + (may.get(status) === all ? "" : ` (may follow for ${number(may.get(status))} of ${number(all)})`);
    return [
      h("option", { value: "", disabled: true, selected: true }, "Choose one"),
      following.length ? h("optgroup", { label: "May follow" }, following.map((status) => h("option", { value: status }, text(status)))) : null,
      h("optgroup", { label: "Will be refused for all" }, others.map((status) => h("option", { value: status }, statusName(status)))),
    ];
  }

  async #send(event) {
    event.preventDefault();
    const { form, send, answer, summary } = this.#parts;
    const operations = this.#operations(new FormData(form));
    answer.replaceChildren();
    send.disabled = true;
    form.setAttribute("aria-busy", "true");
    setText(summary, `Sending ${number(operations.length)}…`);
    try {
      this.#take(await this.#decided(operations), operations[0].status);
    } catch (error) {
      setText(summary, "");
      answer.replaceChildren(problemView(error));
    } finally {
      send.disabled = false;
      form.removeAttribute("aria-busy");
      if (!this.#dialog.contains(document.activeElement) || document.activeElement === send) this.#focus();
    }
  }

  #focus() {
    if (this.#dialog.open) (this.#parts.form.isConnected ? this.#parts.status : this.#parts.done).focus();
  }

  #operations(data) {
    const [status, occurred_at, guarded] = [data.get("status"), timeOf(data, "occurred_at"), Boolean(data.get("guarded"))];
    return this.#orders.map(({ order_id, version }) => {
      const asked = { op: "update", order_id, status, occurred_at, expected_version: guarded ? version : undefined };
      const key = JSON.stringify(asked);
      if (!this.#sent.has(key)) this.#sent.set(key, newKey());
      return { ...asked, update_id: this.#sent.get(key) };
    });
  }

  /** Sends all updates and returns their results. Accepted ones are sent again with their id, which returns the outcome. */
  async #decided(operations) {
    const outcomes = new Map(); // order id → result
    let open = operations;
    for (let attempt = 0; open.length && attempt < OUTCOME_ATTEMPTS; attempt += 1) {
      if (attempt) await new Promise((resolve) => setTimeout(resolve, 1000));
      try {
        const { results } = await this.#use.api.send("/v1/batch", open);
        for (const result of results) outcomes.set(result.order_id, result);
      } catch (error) {
        if (!attempt) throw error;
        break; // the results so far are shown
      }
      open = open.filter(({ order_id }) => outcomes.get(order_id)?.outcome === "accepted");
    }
    return [...outcomes.values()];
  }

  #take(results, status) {
    this.#sent.clear();
    const refused = results.filter(({ outcome }) => outcome === "rejected");
    const waiting = results.filter(({ outcome }) => outcome === "accepted");
    const held = results.filter(({ outcome }) => outcome === "held");
    const { selection } = this.#use;
    selection.refuse(new Map(refused.map(({ order_id, problem }) => [order_id, problem?.detail ?? problem?.title ?? "Refused"])));
    selection.remove(results.filter(({ outcome }) => outcome !== "rejected").map(({ order_id }) => order_id));
    const applied = results.length - refused.length - waiting.length - held.length;
    const summary = [`${number(applied)} updated`];
    if (waiting.length) summary.push(`${number(waiting.length)} taken, and not decided yet`);
    if (held.length) summary.push(`${number(held.length)} held until the steps before them arrive`);
    if (refused.length) summary.push(`${number(refused.length)} refused, and still selected`);
    setText(this.#parts.summary, `${summary.join(", ")}.`);
    if (!this.#dialog.open) announce(`${summary.join(", ")}.`);
    this.#showOutcomes([
      ...refused.map(({ order_id }) => this.#refusedView(order_id)),
      ...results.filter(({ outcome }) => outcome !== "rejected").map((result) => this.#goodView(result, status)),
    ]);
    if (refused.length) this.#ask();
    else this.#finish();
  }

  #finish() {
    const { form, done } = this.#parts;
    setText(this.#parts.title, "Updated");
    setText(done, "Done");
    form.replaceWith(h("div", { class: "form-end" }, done));
    done.focus();
  }

  #goodView({ order_id, outcome }, status) {
    const more = { accepted: "taken, and not decided yet", held: HELD }[outcome];
    return outcomeView(order_id, this.#nameOf(order_id), outcome, more ? `${statusName(status)}: ${more}` : statusName(status));
  }

  #refusedView(id) {
    return outcomeView(id, this.#nameOf(id), "rejected", this.#use.selection.reasonOf(id));
  }

  #nameOf(id) {
    return orderName(this.#orders.find(({ order_id }) => order_id === id) ?? { order_id: id });
  }

  #showOutcomes(views) {
    const { outcomes } = this.#parts;
    outcomes.hidden = !views.length;
    outcomes.replaceChildren(...views);
  }
}

const countOf = (orders) => `${number(orders)} order${orders === 1 ? "" : "s"}`;

function outcomeView(id, name, outcome, text) {
  return h(
    "li",
    { "data-testid": "outcome", "data-outcome": outcome, "data-order": id },
    icon(outcome === "rejected" ? "alert" : "check"),
    h("span", { class: "mono" }, name),
    h("span", { class: "outcome-text" }, text),
  );
}
