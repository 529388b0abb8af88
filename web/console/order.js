/**
 * One order: its facts, what may be done with it, and its timeline, live while it is open.
 *
 * @module order
 */

import { Refusal } from "./api.js";
import { h, icon, setIcon, setText, toast } from "./dom.js";
import { age, ago, duration, fullTime, number, orderName, statusIcon, statusName, toMinute, when } from "./format.js";
import { OrderActions } from "./order_actions.js";
import { entryView, happened, keyOf, metadataView } from "./step_views.js";
import { takenBackIn, timelineOf } from "./timeline.js";
import { TimelineBlocks } from "./timeline_blocks.js";
import { withGroups } from "./timeline_groups.js";
import { orderAfter } from "./tracking-live.js";

/** The limit of pages of a long history; a page has 500 steps. */
const MAX_PAGES = 40;

/** What is not on the stream is requested at this interval: refused attempts, and changes of a closed order. */
const REFRESH_SECONDS = 10;

export class OrderPanel {
  element = h("aside", { class: "panel", "aria-label": "Order", "data-testid": "order-panel", hidden: true, tabindex: "-1" });

  #use;
  #id = null;
  #order = null;
  #history = [];
  #isCut = false; // there are more steps than were read
  #refusals = [];
  #eventsBeforeHistory = []; // events that arrived before the history
  #abort = null;
  #parts = {};
  #form = null;
  #blocks = null;
  #openGroups = new Set(); // of repeated scans, by key

  /**
   * @param {{api: Object, store: Object, session: Object, now: () => number, close: () => void,
   *   drawn: (order_id: string, name: string) => void, statuses: () => Set<string>, checkpoints: string[],
   *   final: string[]}} use  `drawn`: is told what was drawn; `final`: the statuses in which nothing follows.
   */
  constructor(use) {
    this.#use = use;
    use.store.addEventListener("events", ({ detail }) => this.#changed(detail));
    use.store.addEventListener("reset", () => this.#id && this.#load());
    setInterval(() => this.#tick(), 1000);
    setInterval(() => this.#refresh(), REFRESH_SECONDS * 1000);
  }

  /** Shows an order; null: none. */
  show(id) {
    if (id === this.#id) return;
    this.#abort?.abort();
    this.#id = id;
    this.element.hidden = id === null;
    this.#order = null;
    this.#history = this.#refusals = [];
    this.#openGroups.clear();
    if (id === null) {
      this.element.replaceChildren();
      return;
    }
    this.element.setAttribute("aria-label", `Order ${id}`);
    this.#build();
    this.#load();
    this.element.focus({ preventScroll: true });
  }

  /** Closes the open form. @returns {boolean} True if there was one. */
  cancelForm() {
    const isOpen = this.#form?.isOpen ?? false;
    if (isOpen) this.#form.close();
    return isOpen;
  }

  async #load() {
    this.#abort?.abort();
    const { signal } = (this.#abort = new AbortController());
    this.#eventsBeforeHistory = [];
    this.element.setAttribute("aria-busy", "true");
    try {
      const [order, history] = await Promise.all([this.#get("", signal), this.#readHistory(signal)]);
      if (signal.aborted) return;
      this.#order = order;
      this.#history = history.items;
      this.#isCut = history.isCut;
      for (const event of this.#eventsBeforeHistory) this.#take(event);
      this.#draw();
      this.#refresh();
    } catch (error) {
      if (!signal.aborted) this.#drawFault(error);
    }
    if (!signal.aborted) this.element.removeAttribute("aria-busy");
  }

  #get(path, signal, parameters) {
    return this.#use.api.get(`/v1/orders/${encodeURIComponent(this.#id)}${path}`, parameters, { signal });
  }

  async #readHistory(signal) {
    const items = [];
    let isCut = true;
    const parameters = new URLSearchParams();
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const answer = await this.#get("/history", signal, parameters);
      items.push(...answer.items);
      isCut = Boolean(answer.next_cursor);
      if (!isCut) break;
      parameters.set("cursor", answer.next_cursor);
    }
    return { items, isCut };
  }

  async #refresh() {
    if (this.#order === null || document.visibilityState !== "visible") return;
    const { signal } = this.#abort;
    try {
      if (!this.#order.active && (await this.#isOutdated(signal))) return;
      const { items } = await this.#get("/updates", signal, new URLSearchParams([["outcome", "rejected"]]));
      if (signal.aborted || items.length === this.#refusals.length) return;
      this.#refusals = items;
      this.#drawTimeline();
    } catch (error) {
      if (!signal.aborted && error instanceof Refusal && error.slug === "order-not-found") this.#drawFault(error);
    }
  }

  /** Reads a closed order again if it has changed. */
  async #isOutdated(signal) {
    const { version } = await this.#get("", signal);
    if (signal.aborted || version <= this.#order.version) return signal.aborted;
    this.#load();
    return true;
  }

  #changed(events) {
    const own = events.filter(({ data }) => data.order_id === this.#id);
    if (!own.length) return;
    if (this.#order === null) {
      this.#eventsBeforeHistory.push(...own);
      return;
    }
    if (own.filter((event) => this.#take(event)).length) {
      this.#draw();
      this.#refresh();
    }
  }

  #take(event) {
    const { version } = event.data;
    if (version <= this.#order.version) return false;
    if (version > this.#order.version + 1 || (!this.#isCut && this.#history.length !== this.#order.version)) {
      this.#load();
      return false;
    }
    this.#order = orderAfter(event);
    if (!this.#isCut) this.#history.push({ ...event.data, type: event.type });
    return true;
  }

  // --- drawing -------------------------------------------------------------------------------------------------

  #build() {
    const text = () => h("span");
    const parts = { status: text(), statusIcon: icon("other", "status-icon big"), since: text(), facts: h("dl", { class: "facts" }) };
    Object.assign(parts, { act: h("div", { hidden: true }), metadata: h("div") });
    parts.title = h("h2", { class: "mono", "data-testid": "order-title" }, this.#id);
    parts.cut = h("p", { class: "quiet small", hidden: true, "data-testid": "timeline-cut" });
    parts.overdue = h("span", { class: "badge", hidden: true, "data-testid": "order-overdue" });
    parts.head = h("div", { class: "panel-status", "data-testid": "order-status" }, parts.statusIcon, h("div", {}, h("strong", {}, parts.status), parts.since), parts.overdue);
    parts.content = h("div", { class: "panel-content", tabindex: "0", role: "group", "aria-label": "What is known of this order" });
    this.#blocks = new TimelineBlocks(parts.content, (entry) => entryView(entry, (key) => this.#toggleGroup(key)));
    parts.timeline = this.#blocks.element;
    this.#parts = parts;
    this.#form = null;
    this.element.replaceChildren(
      h(
        "header",
        { class: "panel-head" },
        parts.title,
        h("button", { class: "button icon-button", type: "button", title: "Copy a link to this order", "aria-label": "Copy a link to this order", "data-testid": "order-link", onclick: () => this.#copyLink() }, icon("link")),
        h("button", { class: "button icon-button", type: "button", title: "Close (Esc)", "aria-label": "Close", "data-testid": "order-close", onclick: () => this.#use.close() }, icon("close")),
      ),
      parts.content,
    );
    parts.content.append(h("p", { class: "waiting" }, "Getting the order…"));
  }

  #draw() {
    const parts = this.#parts;
    const order = this.#order;
    if (!parts.head.isConnected) {
      parts.content.replaceChildren(parts.head, parts.act, parts.facts, parts.metadata, h("h3", {}, "Timeline"), parts.cut, parts.timeline);
    }
    this.element.dataset.status = order.status;
    this.element.dataset.version = String(order.version);
    setText(parts.title, orderName(order));
    this.element.setAttribute("aria-label", `Order ${orderName(order)}`);
    setText(parts.status, statusName(order.status));
    setIcon(parts.statusIcon, statusIcon(order.status));
    this.#drawFacts();
    this.#drawMetadata();
    this.#drawForm();
    this.#drawTimeline();
    this.#tick();
    this.#use.drawn(order.order_id, orderName(order));
  }

  /** Changes only rows that differ: the reader may have scrolled. */
  #drawMetadata() {
    const { metadata } = this.#parts;
    const text = JSON.stringify(this.#order.metadata);
    if (metadata.of === text) return;
    metadata.of = text;
    metadata.replaceChildren(metadataView(this.#order.metadata));
  }

  #drawFacts() {
    const { order_id, merchant_id, reference, customer, erased_at, created_at, due_at, eta, version, active } = this.#order;
    const facts = [["Merchant", merchant_id]];
    if (reference) facts.push(["Order id", order_id]);
    if (customer === null) facts.push(["Customer", "erased", fullTime(erased_at)]);
    else if (customer) facts.push(["Customer", customer.name], ["Contact", customer.contact_ref]);
    facts.push(["Created", when(created_at), fullTime(created_at)]);
    if (due_at) facts.push(["Due", toMinute(due_at), fullTime(due_at)]);
    if (eta) facts.push(["ETA", toMinute(eta), fullTime(eta)]);
    facts.push([active ? "Version" : "Took", active ? String(version) : this.#whole()]);
    this.#parts.facts.replaceChildren(
      ...facts.flatMap(([name, value, title]) => [h("dt", {}, name), h("dd", { title }, value)]),
    );
  }

  #whole() {
    const end = this.#history.findLast(({ status, previous_status }) => status !== previous_status);
    return duration((happened(end) - happened(this.#history[0])) / 1000);
  }

  #drawForm() {
    const { act } = this.#parts;
    const { api, session, statuses, checkpoints } = this.#use;
    const may = () => ({ write: api.canSend && session.canWrite, correct: api.canSend && session.canCorrect });
    const { write, correct } = may();
    const mayAdd = write && (this.#order.active || checkpoints.length > 0);
    if (!mayAdd && !correct) {
      act.hidden = true;
      act.replaceChildren();
      this.#form = null;
      return;
    }
    act.hidden = false;
    this.#form ??= new OrderActions({ api, statuses, checkpoints, may, order: () => this.#order, sent: () => this.#refresh() });
    if (!this.#form.element.isConnected) act.replaceChildren(this.#form.element);
    this.#form.show();
  }

  /** Draws the timeline. The focus stays on its button, which is drawn again. */
  #drawTimeline() {
    const { group: inUse } = this.#parts.timeline.contains(document.activeElement) ? document.activeElement.dataset : {};
    const takenBack = takenBackIn(this.#history, this.#use.final);
    const newestFirst = timelineOf(this.#history, this.#refusals).reverse();
    for (const entry of newestFirst) entry.isTakenBack = takenBack.has(entry.item?.version);
    this.#blocks.show(withGroups(newestFirst, this.#openGroups), keyOf);
    const { cut } = this.#parts;
    cut.hidden = !this.#isCut;
    setText(cut, this.#isCut ? `Only the first ${number(this.#history.length)} steps are here.` : "");
    if (inUse) this.#parts.timeline.querySelector(`[data-group="${inUse}"]`)?.focus({ preventScroll: true });
  }

  #toggleGroup(key) {
    if (!this.#openGroups.delete(key)) this.#openGroups.add(key);
    this.#drawTimeline();
  }

  #drawFault(error) {
    const missing = error instanceof Refusal && error.slug === "order-not-found";
    this.#order = null;
    this.#parts.content.replaceChildren(
      h(
        "div",
        { class: "empty", "data-testid": "order-missing" },
        icon("other"),
        h("strong", {}, missing ? "No such order" : "It could not be loaded"),
        h("span", {}, missing ? "Or it is not one that you may see." : error.message),
        missing ? null : h("button", { class: "button", type: "button", onclick: () => this.#load() }, "Try again"),
      ),
    );
  }

  #tick() {
    if (this.#order === null) return;
    const { updated_at, due_at, overdue } = this.#order;
    const secondsSince = (time) => (this.#use.now() - Date.parse(time)) / 1000;
    setText(this.#parts.since, `last change ${when(updated_at)}, ${ago(secondsSince(updated_at))}`);
    this.#parts.overdue.hidden = !overdue;
    setText(this.#parts.overdue, overdue ? `Overdue by ${age(secondsSince(due_at))}` : "");
  }

  async #copyLink() {
    const address = new URL(location.href);
    address.search = new URLSearchParams([["order", this.#id]]);
    try {
      await navigator.clipboard.writeText(address.href);
      toast("The link is copied.");
    } catch {
      toast(address.href); // the browser does not allow copying: the user can do it by hand
    }
  }
}
