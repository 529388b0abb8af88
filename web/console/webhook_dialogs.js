/**
 * The dialogs that change webhooks. Refusals are shown in them, and they keep their contents.
 *
 * @module webhook_dialogs
 */

import { newKey } from "./api.js";
import { h, icon, toast } from "./dom.js";
import { field } from "./filter_form.js";
import { timeField, timeOf } from "./form_parts.js";
import { byProgress, statusName } from "./format.js";
import { problemView } from "./problem.js";
import { EVENT_TYPES, until } from "./webhook_words.js";

const MAX_URL = 2048;
const MAX_DESCRIPTION = 200;

export class WebhookDialogs {
  #api;
  #statuses;
  #changed;
  #dialog = h("dialog", { class: "dialog", "aria-labelledby": "webhook-dialog-title", "data-testid": "webhook-dialog" });

  /**
   * @param {{api: Object, statuses: string[], changed: (id: string|null) => void}} use  `changed` is called with the id of
   *   the webhook to show after a change; null: it was deleted.
   */
  constructor({ api, statuses, changed }) {
    this.#api = api;
    this.#statuses = statuses;
    this.#changed = changed;
    // A secret must not stay in the page. The event comes late: the dialog may be open again.
    this.#dialog.addEventListener("close", () => this.#dialog.open || this.#dialog.replaceChildren());
    document.body.append(this.#dialog);
  }

  create() {
    const key = newKey(); // sent again with it, the request registers nothing more
    this.#open({
      title: "New webhook",
      act: "Create this webhook",
      fields: this.#fields({ url: "", description: "", filter: {} }),
      send: async (data) => {
        const body = { url: data.get("url").trim(), filter: filterOf(data), description: data.get("description").trim() || undefined };
        const made = await this.#api.change("POST", "/v1/webhooks", body, key);
        this.#changed(made.id);
        const words = made.secret ? "The webhook is created. Its receiver verifies requests with this secret." : "The webhook was created by an earlier attempt, whose answer was lost, and its secret with it. Get a new secret.";
        this.#showSecret(made.secret, words);
      },
    });
  }

  edit(webhook) {
    this.#open({
      title: "Edit webhook",
      act: "Save",
      fields: [...this.#fields(webhook), h("p", { class: "quiet" }, "It goes on where it stands. A changed filter gets the rights of your token.")],
      send: async (data, form) => {
        const body = { url: data.get("url").trim(), description: data.get("description").trim() || null };
        const filter = filterOf(data);
        if (!isSame(filter, webhook.filter)) body.filter = filter;
        await this.#api.change("PATCH", pathOf(webhook), body);
        this.#finish(webhook.id, "The webhook is changed", form);
      },
    });
  }

  replay(webhook) {
    const from = timeField("From", "from", "When the events were recorded.");
    const after = field("Cursor", h("input", { name: "after", autocomplete: "off", spellcheck: "false", required: true }), "As the event log, the stream or a webhook names it.");
    const start = h("select", { name: "start" }, h("option", { value: "from" }, "A time"), h("option", { value: "after" }, "A cursor"));
    const choose = () => {
      for (const [name, part] of Object.entries({ from, after })) {
        part.hidden = start.value !== name;
        part.querySelector("input").disabled = part.hidden;
      }
    };
    from.querySelector("input").required = true;
    start.addEventListener("change", choose);
    choose();
    this.#open({
      title: "Replay",
      act: "Replay from there",
      fields: [
        h("p", {}, "All events from there on that the filter accepts are delivered again, in order. Those that the receiver has had come again, with the same webhook-id. A position later than its own changes nothing, because nothing is skipped."),
        webhook.state === "disabled" ? h("p", { class: "warning" }, icon("alert"), h("span", {}, "It is disabled. Nothing is sent until you enable it, too.")) : null,
        field("Replay from", start),
        ...[from, after],
      ],
      send: async (data, form) => {
        const body = data.get("start") === "from" ? { from: timeOf(data, "from") } : { after: data.get("after").trim() };
        await this.#api.change("POST", `${pathOf(webhook)}/replay`, body);
        this.#finish(webhook.id, "The webhook goes on from there", form);
      },
    });
  }

  rotate(webhook) {
    this.#open({
      title: "New secret",
      act: "Make a new secret",
      fields: [h("p", {}, "The new secret is shown once. For 24 hours, the present one signs, too, so the receiver can be changed meanwhile.")],
      send: async () => {
        const { secret, previous_until } = await this.#api.change("POST", `${pathOf(webhook)}/rotate-secret`);
        this.#changed(webhook.id);
        this.#showSecret(secret, `The secret before it signs, too, until ${until(previous_until)}.`);
      },
    });
  }

  remove(webhook) {
    this.#open({
      title: "Delete webhook",
      act: "Delete this webhook",
      keep: "Keep it",
      fields: [
        h("p", {}, h("strong", { class: "address" }, webhook.url)),
        h("p", {}, "Nothing more is sent, and its attempts and secrets are deleted. A request that is under way may still arrive. This cannot be undone."),
      ],
      send: async (_data, form) => {
        await this.#api.change("DELETE", pathOf(webhook));
        this.#finish(null, "The webhook is deleted", form);
      },
    });
  }

  #fields({ url, description, filter }) {
    return [
      field("Address (URL)", h("input", { name: "url", type: "url", required: true, value: url, maxlength: MAX_URL, autocomplete: "off", placeholder: "https://shop.example.com/tracking-events" })),
      field("Description", h("input", { name: "description", value: description, maxlength: MAX_DESCRIPTION, autocomplete: "off" })),
      h("p", { class: "quiet" }, "Which events it gets. Without a choice, every value is accepted."),
      field("Merchants", words("merchant_id", filter), "Several: with spaces between."),
      field("Orders", words("order_id", filter), "Order ids, with spaces between."),
      boxes("Status after the event", "status", byProgress(new Set([...this.#statuses, ...(filter.status ?? [])])).map((name) => [name, statusName(name)]), filter),
      boxes("Kind of event", "type", Object.entries(EVENT_TYPES), filter),
    ];
  }

  /** @param {{title: string, act: string, keep: string, fields: Array, send: (data: FormData, form: HTMLElement) => Promise}} content */
  #open({ title, act, keep = "Cancel", fields, send }) {
    const answer = h("div", { class: "answer" });
    const button = h("button", { class: "button primary", type: "submit", "data-testid": "webhook-send" }, act);
    const form = h("form", { class: "stack" }, this.#head(title), fields, answer, h("div", { class: "form-end" }, this.#closer(keep), button));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      answer.replaceChildren();
      try {
        await send(new FormData(form), form);
      } catch (error) {
        if (!form.isConnected) toast(`${title}: ${error.message}`, "bad");
        answer.replaceChildren(problemView(error));
        answer.scrollIntoView({ block: "nearest" });
      }
      button.disabled = false;
    });
    this.#dialog.replaceChildren(form);
    this.#dialog.showModal();
    form.querySelector("input, select")?.focus();
  }

  #finish(id, words, form) {
    if (form.isConnected) this.#dialog.close(); // it may have been closed meanwhile, and another one opened
    toast(words);
    this.#changed(id);
  }

  /** Shows a secret in place of the form; without one only the words. */
  #showSecret(secret, words) {
    const value = h("input", { value: secret ?? "", readonly: true, spellcheck: "false", class: "mono", "data-testid": "webhook-secret" });
    const copy = h("button", { class: "button primary", type: "button", "data-testid": "webhook-copy", onclick: () => copied(value) }, "Copy");
    this.#dialog.replaceChildren(
      h(
        "div",
        { class: "stack" },
        this.#head(secret ? "The secret" : "No secret"),
        h("p", {}, words),
        secret && h("p", { class: "warning" }, icon("alert"), h("span", {}, "It is shown this once. Store it now.")),
        secret && field("Secret", value),
        h("div", { class: "form-end" }, this.#closer("Close"), secret && copy),
      ),
    );
    // Whoever closed the form before the answer came would never see the secret.
    if (!this.#dialog.open) this.#dialog.showModal();
    (secret ? copy : this.#dialog.querySelector("button")).focus();
  }

  #head(title) {
    return h("div", { class: "dialog-head" }, h("h2", { id: "webhook-dialog-title" }, title), h("button", { class: "button icon-button", type: "button", "aria-label": "Close", onclick: () => this.#dialog.close() }, icon("close")));
  }

  #closer(text) {
    return h("button", { class: "button", type: "button", onclick: () => this.#dialog.close() }, text);
  }
}

export const pathOf = ({ id }) => `/v1/webhooks/${encodeURIComponent(id)}`;

async function copied(input) {
  try {
    await navigator.clipboard.writeText(input.value);
    toast("Copied");
  } catch {
    input.select();
    toast("Copy it with the keyboard: it is selected", "bad");
  }
}

const words = (name, filter) => h("input", { name, value: filter[name]?.join(" "), autocomplete: "off", spellcheck: "false" });

function boxes(title, name, choices, filter) {
  const made = choices.map(([value, text]) => h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked: filter[name]?.includes(value) ?? false }), h("span", {}, text)));
  return h("fieldset", { class: "merchants" }, h("legend", {}, title), h("div", { class: "boxes" }, made));
}

function filterOf(data) {
  const split = (name) => data.get(name).split(/[\s,]+/).filter(Boolean);
  const chosen = { merchant_id: split("merchant_id"), order_id: split("order_id"), status: data.getAll("status"), type: data.getAll("type") };
  return Object.fromEntries(Object.entries(chosen).filter(([, values]) => values.length));
}

const sorted = (filter) => JSON.stringify(Object.keys(filter).sort().map((name) => [name, [...new Set(filter[name])].sort()]));

const isSame = (one, other) => sorted(one) === sorted(other);
