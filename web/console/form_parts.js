/**
 * What the forms that change orders have in common: sending, the answer, and some fields. Answers of the service are
 * shown unchanged.
 *
 * @module form_parts
 */

import { Refusal, Unreachable, newKey } from "./api.js";
import { h, icon, toast } from "./dom.js";
import { field } from "./filter_form.js";
import { statusName } from "./format.js";
import { problemView } from "./problem.js";

/** Requests for the outcome of an accepted change, one a second. */
const OUTCOME_ATTEMPTS = 30;

/** Form → content and key of a request without an answer. Sent again with this key, it has no second effect. */
const unanswered = new WeakMap();

/**
 * Sends a form and shows a refusal in it.
 * @returns {Promise<Object|null>} The result, with the outcome `applied`, `duplicate`, `accepted` or `held`; null: it was
 *   refused, or there was no answer.
 */
export async function submit(form, api, path, body) {
  const button = form.querySelector("[type=submit]");
  showAnswer(form);
  button.disabled = true;
  form.setAttribute("aria-busy", "true");
  try {
    const result = await decided(api, await api.send(path, body, keyOf(form, path, body)));
    unanswered.delete(form);
    if (result.outcome !== "rejected") return result;
    showAnswer(form, problemView(new Refusal(result.problem)));
  } catch (error) {
    if (error instanceof Refusal && error.problem.status < 500) unanswered.delete(form);
    showAnswer(form, problemView(error));
  } finally {
    button.disabled = false;
    form.removeAttribute("aria-busy");
  }
  return null;
}

function showAnswer(form, ...views) {
  const answer = form.querySelector(".answer");
  answer.replaceChildren(...views);
  if (views.length) answer.scrollIntoView({ block: "nearest" });
}

function keyOf(form, path, body) {
  const content = JSON.stringify([path, body]);
  if (unanswered.get(form)?.content !== content) unanswered.set(form, { content, key: newKey() });
  return unanswered.get(form).key;
}

/** Waits for the outcome of a change that was only accepted. */
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

/** The meaning of the outcome `held`, for people. */
export const HELD = "held until the steps before it arrive, because it came too early";

/** Input rows for metadata: a name and a value each. */
export class Notes {
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

/** A field for a time; `timeOf` reads it. */
export const timeField = (text, name, hint) => field(text, h("input", { type: "datetime-local", name, step: 1 }), hint);

/** @returns {string|undefined} The time as RFC 3339; undefined: the field is empty. */
export const timeOf = (data, name) => (data.get(name) ? new Date(data.get(name)).toISOString() : undefined);
