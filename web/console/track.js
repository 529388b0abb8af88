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
import { ago, fullTime, kindIcon, orderName, statusIcon, statusName, when } from "./format.js";
import { takenBackIn } from "./timeline.js";
import { headline, promise, story } from "./track_words.js";
import { LiveOrders, orderAfter } from "./tracking-live.js";

const RETRY_MS = 3000;

const STATIONS = [
  ["created", "Ordered"],
  ["picked_up", "Picked up"],
  ["in_transit", "On its way"],
  ["delivered", "Delivered"],
];

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
  #final; // the statuses in which nothing follows

  constructor(configuration, link) {
    this.#link = link;
    this.#final = configuration.statuses?.final ?? []; // an earlier release of query sends none
    const query = new URL(configuration.query, location.href).href.replace(/\/$/, "");
    this.#api = new Api({ query, ingest: null }, { freshToken: async () => link.token }, () => {});
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
    for (const event of events) {
      const { data, type } = event;
      if (this.#order === null || data.version !== this.#order.version + 1) {
        this.#load();
        return;
      }
      this.#order = orderAfter(event);
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
    const takenBack = takenBackIn(this.#steps, this.#final);
    const rows = this.#steps.map((item, index) => stepView(item, this.#steps[index - 1], takenBack.has(item.version)));
    byId("story").replaceChildren(...rows.reverse());
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
    const { updated_at } = this.#order;
    const [title, words] = headline(this.#order, this.#steps);
    setText(byId("title"), title);
    setText(byId("words"), words);
    const { text, isLate } = promise(this.#order, Date.now());
    setText(byId("promise"), text);
    byId("promise").dataset.late = String(isLate);
    const news = ago((Date.now() - Date.parse(updated_at)) / 1000);
    setText(byId("news"), `Last news: ${news}`);
  }
}

function stepView(item, before, isTakenBack) {
  const { title, told } = story(item, before);
  const time = item.occurred_at ?? item.received_at;
  return h(
    "li",
    { "data-status": item.status, "data-testid": "track-step", "data-kind": item.kind ?? null, "data-version": item.version, "data-taken-back": String(isTakenBack) },
    icon(markOf(item)),
    h(
      "div",
      {},
      h("strong", {}, isTakenBack ? h("s", {}, title) : title, isTakenBack ? h("span", { class: "quiet" }, " reported by mistake") : null),
      told.map((text) => h("p", { "data-testid": "track-told" }, text)),
      h("time", { datetime: time, title: fullTime(time) }, when(time)),
    ),
  );
}

function markOf({ kind, reason, type, status }) {
  if (kind) return kindIcon(kind);
  if (reason || type === "order.customer_erased") return "edit";
  return type === "order.overdue" ? "late" : statusIcon(status);
}

function say(title, words) {
  setText(byId("title"), title);
  setText(byId("words"), words);
  for (const name of ["promise", "news"]) setText(byId(name), "");
}

addEventListener("hashchange", () => location.reload()); // the address was changed to another link
const link = readLink();
if (link === null) say("There is no order in this link", "Open the whole link that the shop sent you.");
else new TrackPage(await awaitConfiguration(), link);
