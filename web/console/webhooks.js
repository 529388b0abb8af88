/**
 * The page of the webhooks. It is loaded when it is first shown, because few users have it.
 *
 * @module webhooks
 */

import { h, icon, setIcon, setText } from "./dom.js";
import { statusName, timeOfDay } from "./format.js";
import { WebhookDialogs } from "./webhook_dialogs.js";
import { WebhookView } from "./webhook_view.js";
import { STATE_ICONS, filterWords, lastWords, pendingWords } from "./webhook_words.js";

const REFRESH_MS = 10_000;

/** After a change, the sender has taken it up and delivered something by then. */
const AFTERWARDS_MS = 1500;

/** The list is read once in so many refreshes: the service counts what each webhook still has to deliver. */
const LIST_TURNS = 3;

const PAGE = 100;

/** As many as one user may have. */
const MAX_PAGES = 10;

/** Loads the style and makes the page. */
export async function openWebhooks(use) {
  await new Promise((resolve) => {
    document.head.append(h("link", { rel: "stylesheet", href: "webhooks.css", onload: resolve, onerror: resolve }));
  });
  return new WebhooksPage(use);
}

class WebhooksPage {
  element;

  #use;
  #shown = false;
  #id = null;
  #view;
  #rows = new Map(); // id → its row
  #pages = 1;
  #turn = 0;
  #request = new AbortController();
  #readAt = null;
  #parts;

  /** @param {{api: Object, statuses: string[], navigate: (id: string|null) => void}} use */
  constructor(use) {
    this.#use = use;
    const changed = (id) => {
      if (id !== this.#id) use.navigate(id);
      else this.#refresh(true);
      setTimeout(() => this.#refresh(), AFTERWARDS_MS);
    };
    const dialogs = new WebhookDialogs({ ...use, changed });
    this.#view = new WebhookView({ ...use, dialogs, changed, close: () => this.#close() });
    this.element = this.#build(dialogs);
    setInterval(() => document.visibilityState === "visible" && this.#refresh(), REFRESH_MS);
  }

  /** @param {string|null} id  Of the webhook to show beside the list. */
  show(shown, id) {
    const isNew = shown && (!this.#shown || id !== this.#id);
    const isOther = id !== null && id !== this.#id;
    this.#shown = shown;
    this.#id = id;
    if (!shown) this.#request.abort();
    if (!isNew) return;
    this.element.dataset.one = String(id !== null);
    this.#view.element.hidden = id === null;
    if (isOther) this.#view.begin();
    this.#mark();
    this.#refresh(true);
  }

  #close() {
    const row = this.#rows.get(this.#id);
    this.#use.navigate(null);
    (row?.link ?? this.#parts.add).focus();
  }

  /** `all`: the list, too. */
  async #refresh(all = false) {
    if (!this.#shown) return;
    this.#turn = all ? 0 : this.#turn + 1;
    const withList = this.#id === null || this.#turn % LIST_TURNS === 0;
    this.#request.abort();
    const { signal } = (this.#request = new AbortController());
    try {
      const [one] = await Promise.all([this.#id !== null ? this.#view.read(this.#id, signal) : null, withList ? this.#readList(signal) : null]);
      if (signal.aborted) return;
      if (one && this.#rows.has(one.id)) drawRow(this.#rows.get(one.id), one);
      this.#readAt = Date.now();
      setText(this.#parts.fault, "");
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    }
  }

  #failed(error) {
    const missing = error.slug === "not-found" && this.#id !== null;
    const before = this.#readAt === null ? "" : ` Shown as it was at ${timeOfDay(this.#readAt)}.`;
    const next = missing ? "It was deleted, or your token does not reach it." : `It is tried again in ${REFRESH_MS / 1000} s.${before}`;
    setText(this.#parts.fault, `${missing ? "This webhook is not there." : `Webhooks could not be read: ${error.message}`} ${next}`);
  }

  async #readList(signal) {
    const found = [];
    let cursor = null;
    for (let page = 0; page < this.#pages; page += 1) {
      const parameters = new URLSearchParams([["limit", String(PAGE)], ...(cursor ? [["cursor", cursor]] : [])]);
      const { items, next_cursor } = await this.#use.api.get("/v1/webhooks", parameters, { signal });
      found.push(...items);
      cursor = next_cursor;
      if (cursor === null) break;
    }
    if (!signal.aborted) this.#drawList(found, cursor !== null);
  }

  #drawList(webhooks, hasMore) {
    const { list, empty, more } = this.#parts;
    const ids = new Set(webhooks.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    webhooks.forEach((webhook, index) => {
      if (!this.#rows.has(webhook.id)) this.#rows.set(webhook.id, newRow(webhook.id, this.#use.navigate));
      const row = this.#rows.get(webhook.id);
      drawRow(row, webhook);
      if (list.children[index] !== row.element) list.insertBefore(row.element, list.children[index] ?? null);
    });
    empty.hidden = webhooks.length > 0;
    more.hidden = !hasMore || this.#pages === MAX_PAGES;
    this.#mark();
  }

  #mark() {
    for (const [id, { link }] of this.#rows) {
      if (id === this.#id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  #more() {
    this.#pages += 1;
    return this.#refresh(true);
  }

  #build(dialogs) {
    const parts = (this.#parts = {
      add: h("button", { class: "button primary", type: "button", "data-testid": "webhook-new", onclick: () => dialogs.create() }, icon("plus"), "New webhook"),
      fault: h("p", { class: "fault", role: "status", "data-testid": "webhooks-fault" }),
      list: h("ul", { class: "webhook-list", "data-testid": "webhook-list" }),
      empty: h("p", { class: "quiet", hidden: true, "data-testid": "webhooks-empty" }, "No webhooks yet. A webhook sends events of orders to an address of yours."),
      more: h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#more() }, "Show more"),
    });
    const list = h("div", { class: "webhooks-list" }, h("div", { class: "webhooks-head" }, h("h2", {}, "Registered webhooks"), parts.add), parts.empty, parts.list, parts.more);
    const element = h("section", { class: "webhooks", "aria-label": "Webhooks", "data-testid": "webhooks" }, h("h1", { class: "unseen" }, "Webhooks"), parts.fault, list, this.#view.element);
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.#id === null) return;
      event.preventDefault();
      this.#close();
    });
    return element;
  }
}

function newRow(id, navigate) {
  const [state, address, about, pending, last] = ["webhook-state", "address", "quiet", "", ""].map((name) => h("span", { class: name }));
  const symbol = icon("check");
  state.append(symbol, h("span"));
  const figures = h("span", { class: "webhook-figures" }, h("span", {}, h("span", { class: "quiet" }, "To be delivered"), " ", pending), h("span", {}, h("span", { class: "quiet" }, "Last attempt"), " ", last));
  const open = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    navigate(id);
  };
  const href = `?${new URLSearchParams([["view", "webhooks"], ["webhook", id]])}`;
  const link = h("a", { href, "data-testid": "webhook-row", "data-id": id, onclick: open }, h("span", { class: "webhook-line" }, state, address), about, figures);
  return { element: h("li", {}, link), link, parts: { state, symbol, address, about, pending, last } };
}

function drawRow({ parts }, webhook) {
  parts.state.dataset.state = webhook.state;
  setIcon(parts.symbol, STATE_ICONS[webhook.state]);
  setText(parts.state.lastChild, statusName(webhook.state));
  setText(parts.address, webhook.url);
  setText(parts.about, [webhook.description, filterWords(webhook.filter)].filter(Boolean).join(" · "));
  setText(parts.pending, pendingWords(webhook));
  setText(parts.last, lastWords(webhook.last_attempt));
}
