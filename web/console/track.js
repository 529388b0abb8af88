/**
 * The customer's page: one order, by a token that is limited to it.
 *
 * The link is `track.html#order=…&token=…`. The part after the # is not sent to any server. It stays in the address, so
 * that the page can be loaded again, bookmarked and shared; the token reads this one order and expires.
 *
 * @module track
 */

import { Api, Refusal } from "./api.js";
import { awaitConfiguration } from "./configuration.js";
import { byId, h, icon, setText } from "./dom.js";
import { ago, fullTime, orderName, statusIcon, statusName, when } from "./format.js";
import { LiveOrders } from "./tracking-live.js";

const RETRY_MS = 3000;

const STATIONS = [
  ["created", "Ordered"],
  ["picked_up", "Picked up"],
  ["in_transit", "On its way"],
  ["delivered", "Delivered"],
];

const WORDS = {
  created: ["We have your order", "It is being made ready."],
  picked_up: ["Picked up", "The carrier has your parcel."],
  in_transit: ["On its way", "Your parcel is travelling to you."],
  delivered: ["Delivered", "Your parcel has arrived. Enjoy it!"],
  cancelled: ["Cancelled", "This order will not be delivered. If that surprises you, ask the shop."],
};

const STORY = { created: "Ordered", picked_up: "Picked up", in_transit: "On its way", delivered: "Delivered", cancelled: "Cancelled" };

/** The order and token in the address, or null. */
function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  return given.get("token") ? { order: given.get("order") ?? "", token: given.get("token") } : null;
}

class TrackPage {
  #link;
  #api;
  #live;
  #steps = [];
  #order = null;

  constructor(configuration, link) {
    this.#link = link;
    const query = new URL(configuration.query, location.href).href.replace(/\/$/, "");
    this.#api = new Api({ query, ingest: null }, { token: link.token }, () => {});
    this.#live = new LiveOrders(configuration.stream, link.token, { filter: { order_id: [link.order] } });
    this.#live.addEventListener("events", ({ detail }) => this.#changed(detail));
    this.#live.addEventListener("status", ({ detail }) => this.#became(detail));
    this.#live.addEventListener("snapshot", () => this.#load());
    setText(byId("order-id"), link.order);
    setInterval(() => this.#tick(), 1000);
    this.#load().then(() => this.#live.start());
  }

  async #load() {
    const path = `/v1/orders/${encodeURIComponent(this.#link.order)}`;
    try {
      const [order, history] = await Promise.all([this.#api.get(path), this.#api.get(`${path}/history`)]);
      if (this.#order && this.#order.version >= order.version) return;
      this.#order = order;
      this.#steps = history.items;
      this.#draw();
    } catch (error) {
      if (error instanceof Refusal) this.#refused(error);
      else if (this.#order === null) setTimeout(() => this.#load(), RETRY_MS);
    }
  }

  #changed(events) {
    for (const { data, type } of events) {
      if (this.#order === null || data.version !== this.#order.version + 1) {
        this.#load();
        return;
      }
      this.#order = { ...this.#order, version: data.version, status: data.status, updated_at: data.recorded_at };
      this.#steps.push({ ...data, type });
    }
    this.#draw();
  }

  #became({ state, code }) {
    const texts = { live: "Live", refused: "Not live" };
    byId("live").dataset.state = state;
    setText(byId("live-text"), texts[state] ?? "Connecting…");
    byId("main").dataset.old = String(state === "refused" || state === "waiting");
    if (state === "refused" && code === 4401) this.#ended();
  }

  #refused(error) {
    if (error.slug === "unauthenticated") this.#ended();
    else if (error.slug === "order-not-found") say("We cannot find this order", "Perhaps it is too early: try again in a moment, or ask the shop for a new link.");
    else if (this.#order === null) setTimeout(() => this.#load(), RETRY_MS);
  }

  #ended() {
    const seen = this.#order !== null;
    say("This link has expired", seen ? "Below is what was known when it ended. Ask the shop for a new one." : "Ask the shop for a new one.");
    byId("live").dataset.state = "refused";
    setText(byId("live-text"), "Not live");
    this.#order = null;
  }

  #draw() {
    const { status, merchant_id } = this.#order;
    const page = byId("main");
    page.dataset.status = status;
    page.dataset.version = String(this.#order.version);
    document.title = `${statusName(status)} · your order`;
    setText(byId("order-id"), orderName(this.#order));
    setText(byId("merchant"), merchant_id);
    this.#tick();
    this.#drawWay(status);
    const story = byId("story");
    const drawn = story.children.length;
    for (const item of this.#steps.slice(drawn)) story.prepend(stepView(item, this.#steps));
  }

  #drawWay(status) {
    const at = STATIONS.findIndex(([name]) => name === status);
    const way = byId("way");
    way.hidden = at < 0;
    if (at < 0) return;
    way.querySelector(".road").style.setProperty("--at", String(at / (STATIONS.length - 1)));
    byId("stations").replaceChildren(
      ...STATIONS.map(([name, text], index) =>
        h("li", { "data-reached": String(index <= at), "aria-current": index === at ? "step" : null }, icon(statusIcon(name)), text),
      ),
    );
  }

  #tick() {
    if (this.#order === null) return;
    const { status, updated_at } = this.#order;
    const [title, words] = WORDS[status] ?? [statusName(status), ""];
    setText(byId("title"), title);
    setText(byId("words"), words);
    const news = ago((Date.now() - Date.parse(updated_at)) / 1000);
    setText(byId("news"), `Last news: ${news}`);
  }
}

/** The title of a step. A checkpoint tells something beside the way, a correction that an earlier step was wrong. */
function stepTitle(item, steps) {
  if (item.kind) return statusName(item.kind);
  if (item.type === "order.customer_erased") return "Name and contact erased";
  const status = STORY[item.status] ?? statusName(item.status);
  if (item.reason) return `Corrected: ${status.toLowerCase()}`;
  const again = steps.some((other) => other.version === item.version - 1 && other.status === item.status);
  return again ? "Passed another station" : status;
}

function stepView(item, steps) {
  const told = item.message ?? item.reason;
  const time = item.occurred_at ?? item.received_at;
  return h(
    "li",
    { "data-status": item.status, "data-testid": "track-step", "data-version": item.version },
    icon(statusIcon(item.status)),
    h("div", {}, h("strong", {}, stepTitle(item, steps)), told ? h("p", { "data-testid": "track-told" }, told) : null, h("time", { datetime: time, title: fullTime(time) }, when(time))),
  );
}

function say(title, words) {
  setText(byId("title"), title);
  setText(byId("words"), words);
  setText(byId("news"), "");
}

addEventListener("hashchange", () => location.reload()); // the address was changed to another link
const link = readLink();
if (link === null) say("There is no order in this link", "Open the whole link that the shop sent you.");
else new TrackPage(await awaitConfiguration(), link);
