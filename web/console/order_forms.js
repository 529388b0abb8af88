/**
 * The forms for one order: the next step, a checkpoint, a correction.
 *
 * @module order_forms
 */

import { h, icon, setText } from "./dom.js";
import { field } from "./filter_form.js";
import { Notes, actName, timeField, timeOf } from "./form_parts.js";
import { byProgress, kindName, statusName, toMinute } from "./format.js";

const MAX_MESSAGE = 500;

/**
 * @typedef {Object} OrderForm
 * @property {string} name  Of the form, for `data-testid`.
 * @property {string} path  Below the order.
 * @property {Array<HTMLElement>} fields
 * @property {HTMLElement} send  The button that sends it.
 * @property {(data: FormData) => Object} body
 * @property {(body: Object) => string} done  What has been done, for people.
 */

const sendButton = (name, text) => h("button", { class: "button primary", type: "submit", "data-testid": `${name}-send` }, text);

const options = (statuses) => statuses.map((status) => h("option", { value: status }, statusName(status)));

const guard = ({ version }) =>
  h(
    "label",
    { class: "check" },
    h("input", { type: "checkbox", name: "guarded", checked: true }),
    h("span", {}, `Only if it is still at version ${version}, as you see it now`),
  );

const guardedBy = ({ version }, data) => (data.get("guarded") ? { expected_version: version } : {});

const textArea = (name, required) => h("textarea", { class: "prose", name, rows: 3, maxlength: MAX_MESSAGE, required });

/**
 * The next step. `status`: the chosen one; null: a field offers all `statuses`.
 * @returns {OrderForm}
 */
export function updateForm(order, statuses, status) {
  const notes = new Notes();
  const send = sendButton("update", actName(status));
  return {
    ...{ name: "update", path: "/updates", send },
    fields: [
      status === null ? anyStatus(order, statuses, send) : h("h3", {}, actName(status)),
      timeField("Happened at", "occurred_at", "Leave it empty if it happened now."),
      notes.element,
      guard(order),
    ],
    body: (data) => ({
      status: status ?? data.get("status"),
      occurred_at: timeOf(data, "occurred_at"),
      metadata: notes.metadata,
      ...guardedBy(order, data),
    }),
    done: (body) => statusName(body.status),
  };
}

function anyStatus({ allowed_next }, statuses, send) {
  const others = byProgress(statuses).filter((status) => !allowed_next.includes(status));
  const select = h(
    "select",
    { name: "status" },
    allowed_next.length ? h("optgroup", { label: "May follow" }, options(allowed_next)) : null,
    h("optgroup", { label: "Will be refused from here" }, options(others)),
  );
  const name = () => setText(send, actName(select.value));
  select.addEventListener("change", name);
  name();
  return field("New status", select);
}

/**
 * What happened besides the steps. `kinds`: the checkpoints of the workflow.
 * @returns {OrderForm}
 */
export function checkpointForm(order, kinds) {
  const message = textArea("message", false);
  const kind = h("select", { name: "kind" }, kinds.map((name) => h("option", { value: name }, kindName(name))));
  const adapt = () => {
    message.required = kind.value === "note"; // it would tell nothing
  };
  kind.addEventListener("change", adapt);
  adapt();
  const now = (time) => (time ? `Now ${toMinute(time)}; empty: it stays.` : "Empty: none.");
  return {
    ...{ name: "checkpoint", path: "/checkpoints", send: sendButton("checkpoint", "Add this checkpoint") },
    fields: [
      h("h3", {}, "Add a checkpoint"),
      field("What happened", kind),
      field("Message", message, "Everybody who sees the order can read it, the customer too. Write no personal data."),
      h("div", { class: "pair" }, timeField("ETA", "eta", now(order.eta)), timeField("Due", "due_at", now(order.due_at))),
      timeField("Happened at", "occurred_at", "Leave it empty if it happened now."),
    ],
    body: (data) => ({
      kind: data.get("kind"),
      message: data.get("message").trim() || undefined,
      ...Object.fromEntries(["eta", "due_at", "occurred_at"].map((name) => [name, timeOf(data, name)])),
    }),
    done: (body) => kindName(body.kind),
  };
}

/**
 * Puts a wrong status right. `statuses`: all of the workflow.
 * @returns {OrderForm}
 */
export function correctionForm(order, statuses) {
  const others = byProgress(statuses).filter((status) => status !== order.status);
  const send = sendButton("correction", "Correct this order");
  const choose = h("option", { value: "", disabled: true, selected: true }, "Choose one");
  const select = h("select", { name: "status", required: true }, choose, options(others));
  select.addEventListener("change", () => setText(send, `Correct to ${statusName(select.value).toLowerCase()}`));
  return {
    ...{ name: "correction", path: "/corrections", send },
    fields: [
      h("h3", {}, `Correct “${statusName(order.status)}”`),
      field("It really is", select),
      field("Reason", textArea("reason", true)),
      h(
        "p",
        { class: "warning", "data-testid": "correction-warning" },
        icon("alert"),
        h("span", {}, "A correction is public. The wrong step stays in the history, and everybody who sees the order, the customer too, sees that it was corrected, and reads this reason. Write no names or other personal data."),
      ),
      guard(order),
    ],
    body: (data) => ({ status: data.get("status"), reason: data.get("reason").trim(), ...guardedBy(order, data) }),
    done: (body) => `corrected to ${statusName(body.status).toLowerCase()}`,
  };
}
