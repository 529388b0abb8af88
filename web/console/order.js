/**
 * One order: its timeline with refused attempts, live while it is open.
 *
 * @module order
 */

import { UpdateForm } from "./actions.js";
import { Refusal } from "./api.js";
import { h, icon, setIcon, setText, toast } from "./dom.js";
import { ago, duration, fullTime, number, orderName, statusIcon, statusName, timeOfDay, when } from "./format.js";
import { timelineOf } from "./timeline.js";
import { TimelineBlocks } from "./timeline_blocks.js";
import { withGroups } from "./timeline_groups.js";
import { orderAfter } from "./tracking-live.js";

/** The limit of pages of a long history; a page has 500 steps. */
const MAX_PAGES = 40;

/** Refused attempts are not events, so they are requested at this interval while the order is open here. */
const REFUSALS_SECONDS = 10;

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
   *   statuses: () => Set<string>}} use
   */
  constructor(use) {
    this.#use = use;
    use.store.addEventListener("events", ({ detail }) => this.#changed(detail));
    use.store.addEventListener("reset", () => this.#id && this.#load());
    setInterval(() => this.#tick(), 1000);
    setInterval(() => this.#refreshRefusals(), REFUSALS_SECONDS * 1000);
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
      this.#refreshRefusals();
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

  async #refreshRefusals() {
    if (this.#order === null || document.visibilityState !== "visible") return;
    const { signal } = this.#abort;
    try {
      const { items } = await this.#get("/updates", signal, new URLSearchParams([["outcome", "rejected"]]));
      if (signal.aborted || items.length === this.#refusals.length) return;
      this.#refusals = items;
      this.#drawTimeline();
    } catch (error) {
      if (!signal.aborted && error instanceof Refusal && error.slug === "order-not-found") this.#drawFault(error);
    }
  }

  #changed(events) {
    const own = events.filter(({ data }) => data.order_id === this.#id);
    if (!own.length) return;
    if (this.#order === null) {
      this.#eventsBeforeHistory.push(...own);
      return;
    }
    if (own.some((event) => this.#take(event))) {
      this.#draw();
      this.#refreshRefusals();
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
    parts.head = h("div", { class: "panel-status", "data-testid": "order-status" }, parts.statusIcon, h("div", {}, h("strong", {}, parts.status), parts.since));
    parts.content = h("div", { class: "panel-content", tabindex: "0", role: "group", "aria-label": "What is known of this order" });
    this.#blocks = new TimelineBlocks(parts.content, (entry) => this.#entryView(entry));
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
    const { order_id, merchant_id, reference, customer, erased_at, created_at, version, active } = this.#order;
    const facts = [["Merchant", merchant_id]];
    if (reference) facts.push(["Order id", order_id]);
    if (customer === null) facts.push(["Customer", "erased", fullTime(erased_at)]);
    else if (customer) facts.push(["Customer", customer.name], ["Contact", customer.contact_ref]);
    facts.push(["Created", when(created_at), fullTime(created_at)]);
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
    const { api, session, statuses } = this.#use;
    if (!api.canSend || !session.canWrite || !this.#order.active) {
      act.hidden = true;
      act.replaceChildren();
      this.#form = null;
      return;
    }
    act.hidden = false;
    this.#form ??= new UpdateForm({
      ...{ api, statuses, order: () => this.#order },
      sent: () => this.#refreshRefusals(),
    });
    if (!this.#form.element.isConnected) act.replaceChildren(this.#form.element);
    this.#form.show();
  }

  /** Draws the timeline. The focus stays on its button, which is drawn again. */
  #drawTimeline() {
    const { group: inUse } = this.#parts.timeline.contains(document.activeElement) ? document.activeElement.dataset : {};
    const newestFirst = timelineOf(this.#history, this.#refusals).reverse();
    this.#blocks.show(withGroups(newestFirst, this.#openGroups), keyOf);
    const { cut } = this.#parts;
    cut.hidden = !this.#isCut;
    setText(cut, this.#isCut ? `Only the first ${number(this.#history.length)} steps are here.` : "");
    if (inUse) this.#parts.timeline.querySelector(`[data-group="${inUse}"]`)?.focus({ preventScroll: true });
  }

  #entryView({ group, item, before, update }) {
    if (group) return groupView(group, () => this.#toggleGroup(group.key));
    return item ? stepView(item, before) : refusalView(update);
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
    const seconds = (this.#use.now() - Date.parse(this.#order.updated_at)) / 1000;
    setText(this.#parts.since, `since ${when(this.#order.updated_at)}, ${ago(seconds)}`);
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

/** A key that is equal for equal rows: recorded steps never change, except for erased names. */
function keyOf({ group, item, update }) {
  if (group) return `g${group.key}:${group.count}:${group.isOpen}`;
  return item ? `v${item.version}` : `u${update.update_id}`;
}

/** The time of a step: as reported by its source, or else when it was received. */
const happened = (item) => Date.parse(item.occurred_at ?? item.received_at);

/** The title of a step: its status, the kind of a checkpoint, or what a correction leads to. */
function stepTitle(item, before) {
  if (item.kind) return h("strong", {}, statusName(item.kind));
  if (item.type === "order.customer_erased") return h("strong", {}, "Customer erased");
  if (item.reason) return h("strong", {}, "Corrected to ", statusName(item.status).toLowerCase());
  const again = before?.status === item.status;
  return h("strong", {}, statusName(item.status), again ? h("span", { class: "quiet" }, " again") : null);
}

function stepView(item, before) {
  const told = item.message ?? item.reason;
  return h(
    "li",
    { class: "step", "data-status": item.status, "data-testid": "step", "data-version": item.version },
    icon(statusIcon(item.status), "status-icon"),
    h(
      "div",
      { class: "step-body" },
      h("div", { class: "step-line" }, h("div", {}, stepTitle(item, before), legView(item, before)), h("time", { datetime: item.recorded_at, title: fullTime(item.recorded_at) }, when(happened(item)))),
      told ? h("p", { "data-testid": "told" }, told) : null,
      sourceView(item.source, `v${item.version}`),
      timesView(item),
      metadataView(item.metadata),
    ),
  );
}

/** Repeated scans in one row, with a button that shows them. */
function groupView({ key, count, newest, oldest, isOpen }, toggle) {
  const span = `${when(happened(oldest))} – ${when(happened(newest))}, v${oldest.version} to v${newest.version}`;
  return h(
    "li",
    { class: "step group", "data-status": newest.status, "data-testid": "step-group" },
    icon(statusIcon(newest.status), "status-icon"),
    h(
      "div",
      { class: "step-body" },
      h(
        "div",
        { class: "step-line" },
        h("strong", {}, `${statusName(newest.status)} × ${number(count)}`),
        h("button", { class: "button small-button", type: "button", "aria-expanded": String(isOpen), "data-group": key, "data-testid": "group-toggle", onclick: toggle }, isOpen ? "Hide each" : "Show each"),
      ),
      sourceView(newest.source, span),
    ),
  );
}

function sourceView(source, more) {
  return h("div", { class: "source" }, icon(source.type), h("span", {}, source.id ?? ""), h("span", { class: "quiet" }, `${source.type} · ${more}`));
}

/** The three times: when it happened, and how much later it was received and recorded. */
function timesView({ occurred_at, received_at, recorded_at }) {
  const received = Date.parse(received_at);
  const late = occurred_at ? (received - Date.parse(occurred_at)) / 1000 : null;
  const entries = [
    ["happened", occurred_at ? timeOfDay(occurred_at) : "not told", occurred_at && fullTime(occurred_at)],
    ["received", late === null ? timeOfDay(received_at) : signed(late), fullTime(received_at), late > 120],
    ["recorded", signed((Date.parse(recorded_at) - received) / 1000), fullTime(recorded_at)],
  ];
  return h(
    "dl",
    { class: "times" },
    entries.map(([name, value, title, bad]) => h("div", { "data-late": Boolean(bad) && "true" }, h("dt", {}, name), h("dd", { title }, value))),
  );
}

const signed = (seconds) => (seconds < 0 ? duration(seconds) : `+${duration(seconds)}`);

/** The time since the step before; null for the first. */
function legView(item, before) {
  if (!before) return null;
  const seconds = (happened(item) - happened(before)) / 1000;
  const title = `In ${statusName(before.status).toLowerCase()} for so long`;
  return h("span", { class: "leg", "data-testid": "leg", title }, `after ${duration(seconds)}`);
}

function refusalView(update) {
  const { problem } = update;
  const slug = String(problem.type ?? "").replace(/^.*\/problems\//, "");
  return h(
    "li",
    { class: "step refused", "data-testid": "refusal", "data-slug": slug },
    icon("refused", "refused-icon"),
    h(
      "div",
      { class: "step-body" },
      h("div", { class: "step-line" }, h("strong", {}, `${statusName(update.kind ?? update.requested_status)} refused`), h("time", { datetime: update.recorded_at, title: fullTime(update.recorded_at) }, when(update.recorded_at))),
      h("p", {}, problem.detail ?? problem.title),
      sourceView(update.source, slug),
    ),
  );
}

/** True if metadata may be higher than its box, and so be scrolled. */
const isLong = (entries) => entries.length > 6 || JSON.stringify(entries).length > 300;

function metadataView(metadata) {
  const entries = Object.entries(metadata ?? {});
  if (!entries.length) return h("span", { hidden: true });
  const long = isLong(entries);
  return h(
    "div",
    {},
    h(
      "ul",
      { class: "tags", "aria-label": "Metadata", "data-testid": "metadata", tabindex: long ? "0" : null },
      entries.map(([name, value]) => h("li", {}, h("span", { class: "quiet" }, name), " ", typeof value === "string" ? value : JSON.stringify(value))),
    ),
    long && h("p", { class: "quiet small" }, `${entries.length} in all: scroll to see them`),
  );
}
