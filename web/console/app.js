/**
 * The composition root of the console: the session, the route, and the parts of the page.
 *
 * @module app
 */

import { Api, Refusal } from "./api.js";
import { arrive, leaveNote } from "./arrival.js";
import { Board, connectSearch } from "./board.js";
import { awaitConfiguration, readConfiguration } from "./configuration.js";
import { Connection } from "./connection.js";
import { isSmallDevice } from "./device.js";
import { byId, closeMenus, h, loaded, setText, toast } from "./dom.js";
import { faultsOf, readFilter, writeFilter } from "./filters.js";
import { GapNotice } from "./gap_notice.js";
import { Latency } from "./latency.js";
import { OpenCounts } from "./open_counts.js";
import { OrderPanel } from "./order.js";
import { Overview } from "./overview.js";
import { Pulse } from "./pulse.js";
import { Reports } from "./reports.js";
import { SavedViews } from "./saved_views.js";
import { Session, tidyToken } from "./session.js";
import { SessionEnd } from "./session_end.js";
import { countByStatus } from "./status_totals.js";
import { Store } from "./store.js";
import { connectThemeSwitch } from "./theme.js";
import { Today } from "./today.js";

const COMPARE_CLOCKS_MS = 10 * 60_000;

/** The statuses of the default workflow, for an earlier release of query, which does not send its own. */
const KNOWN_STATUSES = { open: ["created", "picked_up", "in_transit"], final: ["delivered", "cancelled"] };

/** The width below which an open order covers everything else; as in app.css. */
const narrow = matchMedia("(width < 760px)");

/** The views, with their titles. */
const VIEWS = { board: "Live board", overview: "Overview", webhooks: "Webhooks" };

const latency = new Latency();

/** Needs a request of its own: the first one was sent before this script ran. */
async function compareClocks() {
  const sent = performance.now();
  try {
    const { time } = await readConfiguration();
    latency.compareClocks(time, sent, performance.now());
  } catch {
    // the result of the last comparison is kept
  }
}

class App {
  #provider;
  #session;
  #store;
  #api;
  #open;
  #board;
  #panel;
  #overview;
  #create = null;
  #webhooks = null; // a promise of their page
  #route = { view: "board", filter: null, order: null, webhook: null };
  #opened = null; // id and name of the newest order that was shown
  #running = false;
  #hasRun = false; // something of somebody's may be in the page
  #mustSignIn = false;
  #known; // the statuses of the workflow: `open` and `final`
  #checkpoints; // the kinds of the workflow
  #limits; // seconds after which an order in a status is late, if the workflow defines it

  constructor(configuration, { provider, fault }) {
    const query = new URL(configuration.query, location.href).href.replace(/\/$/, "");
    this.#provider = provider;
    this.#session = new Session(configuration.token, configuration.claims, provider);
    this.#api = new Api({ query, ingest: configuration.ingest }, this.#session, (problem) => this.#expired(problem));
    this.#open = new OpenCounts(this.#api);
    const count = () => this.#open.read();
    this.#store = new Store(configuration.stream, () => this.#session.freshToken(), { isSmall: isSmallDevice(), count });
    this.#known = configuration.statuses ?? KNOWN_STATUSES;
    this.#checkpoints = configuration.checkpoints ?? []; // an earlier release of query sends none
    this.#limits = configuration.late_after_seconds ?? {};
    this.#build();
    if (fault && this.#session.token === null) setText(byId("sign-in-fault"), fault);
  }

  #build() {
    const [api, store, open, session, now] = [this.#api, this.#store, this.#open, this.#session, () => latency.now()];
    const navigate = (change) => this.#navigate(change);
    store.addEventListener("events", ({ detail }) => store.isPartial && open.add(detail));
    store.addEventListener("status", ({ detail }) => detail.state === "refused" && this.#expired(detail.problem, detail.reason));
    new Connection(store, session);
    new GapNotice(store);
    new SessionEnd({ session, now, renew: () => this.#askForToken(true, true) });
    const reports = new Reports(api);
    const today = new Today({ api, store });
    const openByStatus = () => openCountsOf(store, open);
    const overdue = () => overdueIn(store, open);
    const views = new SavedViews(localStorage, () => session.claims);
    const mayAct = () => this.#mayAct;
    const merchants = () => this.#merchants();
    this.#board = new Board({ api, store, today, open, statuses: this.#known, limits: this.#limits, views, now, mayAct, merchants, navigate });
    const pulse = new Pulse(store, openByStatus);
    this.#overview = new Overview({ api, reports, today, openByStatus, overdue, store, now, navigate, pulse, latency });
    const close = () => this.#navigate({ order: null });
    const drawn = (order_id, name) => {
      this.#opened = { id: order_id, name };
      this.#drawTitle();
    };
    this.#panel = new OrderPanel({ api, store, session, now, close, drawn, statuses: () => this.#statuses(), checkpoints: this.#checkpoints, final: this.#known.final });
    // After the board, because it measures the drawing of the board.
    store.addEventListener("events", ({ detail }) => store.status.state === "live" && latency.measure(detail));
    byId("board").append(this.#board.element);
    byId("overview").append(this.#overview.element);
    byId("main").append(this.#panel.element);
    this.#listen();
    this.#become();
  }

  #listen() {
    connectSearch(() => this.#route.filter, (change) => this.#navigate({ ...change, view: "board" }));
    addEventListener("popstate", () => this.#draw());
    narrow.addEventListener("change", () => this.#draw());
    document.addEventListener("click", (event) => this.#clickedLink(event));
    document.addEventListener("keydown", (event) => this.#pressed(event));
    this.#session.addEventListener("change", ({ detail }) => this.#changedSession(detail.isSamePerson));
    byId("sign-in").addEventListener("cancel", (event) => this.#mustSignIn && event.preventDefault());
    // Browsers close a dialog at the second Escape, even if the page prevents it.
    byId("sign-in").addEventListener("close", () => this.#mustSignIn && byId("sign-in").showModal());
    byId("sign-in-later").addEventListener("click", () => this.#askForToken(false));
    byId("sign-in-form").addEventListener("submit", (event) => this.#signIn(event));
    byId("sign-in-offer").addEventListener("click", () => this.#session.signInAsOffered());
    byId("sign-out").addEventListener("click", () => this.#signOut());
    if (this.#provider) this.#listenToProvider();
    for (const button of document.querySelectorAll("[data-act=create]")) button.addEventListener("click", () => this.#createOrder());
    setInterval(compareClocks, COMPARE_CLOCKS_MS);
    compareClocks();
  }

  #listenToProvider() {
    const button = byId("sign-in-provider");
    setText(button, `Sign in with ${this.#provider.host}`);
    for (const id of ["sign-in-provider", "sign-in-by-hand"]) byId(id).hidden = false;
    byId("sign-in-token").hidden = true;
    button.addEventListener("click", () => this.#signInAtProvider());
    byId("sign-in-by-hand").addEventListener("click", () => {
      byId("sign-in-token").hidden = false;
      byId("sign-in-by-hand").hidden = true;
      byId("token").focus();
    });
    this.#session.addEventListener("ended", ({ detail }) => this.#expired({ detail }));
    // After "back", a browser may show the page as it was before it was left.
    addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  }

  // --- the session ---------------------------------------------------------------------------------------------

  /** Reloads the page for another person, so that nothing of the first one's data is left. The same person continues. */
  #changedSession(isSamePerson) {
    if (this.#hasRun && !isSamePerson) location.reload();
    else this.#become();
  }

  /**
   * Shows or hides the form for a token. It covers everything, open dialogs too, and leaves the page below unchanged.
   * `optional`: the present token is still valid, so that the form may be closed.
   */
  #askForToken(asked, optional = false) {
    const form = byId("sign-in");
    this.#mustSignIn = asked && !optional;
    byId("sign-in-later").hidden = !optional;
    if (asked && !form.open) form.showModal();
    else if (!asked) form.close();
  }

  #become() {
    const signedIn = this.#session.token !== null;
    this.#askForToken(!signedIn);
    setText(byId("sign-in-fault"), "");
    byId("sign-in-offer").hidden = !this.#session.isOffered;
    if (this.#running) this.#store.stop();
    this.#running = signedIn;
    this.#hasRun ||= signedIn;
    const { sub, source_type } = this.#session.claims;
    const whose = signedIn ? [h("span", {}, sub ?? "somebody"), source_type ? `, ${source_type}` : null] : ["Nobody"];
    byId("who").replaceChildren(...whose.filter((part) => part !== null));
    for (const button of document.querySelectorAll("[data-act=create]")) button.hidden = !this.#mayAct;
    byId("to-webhooks").hidden = !this.#session.canManageWebhooks;
    if (!signedIn) {
      this.#panel.show(null);
      return;
    }
    this.#store.start();
    this.#draw();
  }

  /** The token is not accepted (any more): the page stays, marked as outdated. The first reason is the one that is shown. */
  #expired(problem, reason = "") {
    if (!this.#running) return;
    this.#store.stop();
    this.#running = false;
    this.#askForToken(true);
    setText(byId("sign-in-fault"), problem?.detail ?? reason ?? "Sign in again.");
  }

  async #signIn(event) {
    event.preventDefault();
    const token = tidyToken(byId("token").value);
    const fault = byId("sign-in-fault");
    setText(fault, "");
    if (token.split(".").length !== 3) {
      setText(fault, "That is not a token: it has three parts with dots between them.");
      return;
    }
    const asking = new Api({ query: new URL("..", location.href).href.replace(/\/$/, ""), ingest: null }, { freshToken: async () => token }, () => {});
    try {
      await asking.get("/v1/orders", new URLSearchParams([["limit", "1"]]));
    } catch (error) {
      setText(fault, error instanceof Refusal ? error.problem.detail : error.message);
      return;
    }
    byId("token").value = "";
    this.#session.signIn(token);
  }

  async #createOrder() {
    const part = await loaded(() => import("./create_dialog.js"));
    if (part === null) return;
    const created = (order) => this.#navigate({ order });
    this.#create ??= new part.CreateDialog({ api: this.#api, merchants: () => this.#merchants(), created });
    this.#create.open();
  }

  async #signInAtProvider() {
    const button = byId("sign-in-provider");
    button.disabled = true;
    setText(byId("sign-in-fault"), "");
    try {
      await this.#provider.begin();
    } catch (error) {
      setText(byId("sign-in-fault"), error.message);
      button.disabled = false;
    }
  }

  async #signOut() {
    if (!this.#session.isProvided) {
      this.#session.signOut();
      return;
    }
    this.#store.stop();
    const address = await this.#session.signOutAtProvider();
    if (address) {
      location.assign(address);
      return;
    }
    leaveNote(`You are signed out here. Your session at ${this.#provider.host} may go on: sign out there, too.`);
    location.reload();
  }

  get #mayAct() {
    return this.#session.token !== null && this.#session.canWrite && this.#api.canSend;
  }

  #merchants() {
    const known = new Set([...this.#session.merchants, ...this.#open.merchants]);
    for (const { merchant_id } of this.#store.open.values()) known.add(merchant_id);
    return [...known].sort();
  }

  get #workflowStatuses() {
    return [...this.#known.open, ...this.#known.final];
  }

  #statuses() {
    const known = new Set(this.#workflowStatuses);
    for (const { status, allowed_next } of this.#store.open.values()) for (const name of [status, ...allowed_next]) known.add(name);
    return known;
  }

  // --- the route --------------------------------------------------------------------------------------------

  #navigate({ view = this.#route.view, filter = this.#route.filter, order = this.#route.order, webhook = null, replace = false }) {
    const parameters = writeFilter(filter);
    if (view !== "board") parameters.set("view", view);
    if (order !== null) parameters.set("order", order);
    if (webhook !== null) parameters.set("webhook", webhook);
    const address = `${location.pathname}${parameters.size ? `?${parameters}` : ""}`;
    history[replace ? "replaceState" : "pushState"](null, "", address);
    const closed = order === null && this.#route.order !== null;
    this.#draw();
    if (closed && view === "board") this.#board.focusList();
  }

  #draw() {
    const parameters = new URLSearchParams(location.search);
    const view = this.#viewOf(parameters.get("view"));
    const [order, webhook] = ["order", "webhook"].map((name) => parameters.get(name) || null);
    this.#route = { view, filter: readFilter(parameters, this.#workflowStatuses), order, webhook };
    const { filter } = this.#route;
    document.documentElement.dataset.view = view;
    document.documentElement.dataset.order = String(order !== null);
    this.#drawTitle();
    for (const name of Object.keys(VIEWS)) byId(name).hidden = name !== view;
    for (const link of document.querySelectorAll("a[data-view]")) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      link.href = this.#addressOf(link.dataset.view);
    }
    const field = byId("search");
    if (field.value.trim() !== filter.q) field.value = filter.q;
    const covered = order !== null && narrow.matches;
    for (const name of Object.keys(VIEWS)) byId(name).inert = covered;
    if (this.#session.token === null) return;
    this.#board.show(filter);
    this.#board.faults = faultsOf(parameters, this.#workflowStatuses);
    this.#board.opened = order;
    this.#overview.shown = view === "overview";
    if (view === "webhooks" || this.#webhooks) this.#showWebhooks();
    this.#panel.show(order);
  }

  #viewOf(name) {
    if (name === "webhooks" && !this.#session.canManageWebhooks) return "board";
    return Object.hasOwn(VIEWS, name) ? name : "board";
  }

  async #showWebhooks() {
    const navigate = (webhook) => this.#navigate({ view: "webhooks", order: null, webhook });
    const use = { api: this.#api, statuses: this.#workflowStatuses, navigate };
    this.#webhooks ??= loaded(() => import("./webhooks.js")).then((part) => part?.openWebhooks(use) ?? null);
    const page = await this.#webhooks;
    if (page === null) {
      this.#webhooks = null;
      return;
    }
    if (!page.element.isConnected) byId("webhooks").append(page.element);
    page.show(this.#route.view === "webhooks", this.#route.webhook);
  }

  /** Until an order is there, its id is its name. */
  #drawTitle() {
    const { view, order } = this.#route;
    const name = order === this.#opened?.id ? this.#opened.name : order;
    document.title = `${name ?? VIEWS[view]} · Tracking`;
  }

  #addressOf(view) {
    const parameters = writeFilter(this.#route.filter);
    if (view !== "board") parameters.set("view", view);
    return `${location.pathname}${parameters.size ? `?${parameters}` : ""}`;
  }

  #clickedLink(event) {
    const link = event.target.closest("a[data-view], a[data-saved-view]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.matches("[data-saved-view]")) {
      history.pushState(null, "", link.href);
      this.#draw();
      this.#board.focusList();
      return;
    }
    this.#navigate({ view: link.dataset.view, order: null });
  }

  #pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape") this.#escaped(typing);
    else if (typing) {
      if (event.key !== "ArrowDown" || event.target.id !== "search") return;
      this.#board.focusList();
    } else if (event.key === "/") byId("search").focus();
    else if (this.#route.view === "board" && (event.key === "j" || event.key === "k")) this.#board.move(event.key === "j" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  #escaped(typing) {
    if (typing?.id === "search") {
      if (typing.value) this.#navigate({ filter: { ...this.#route.filter, q: "" }, replace: true });
      else this.#board.focusList();
    } else if (this.#route.order !== null) {
      if (!this.#panel.cancelForm()) this.#navigate({ order: null });
    } else this.#board.clearSelection();
  }
}

/** Open orders by status; null while unknown. */
function openCountsOf(store, open) {
  if (!store.isComplete) return null;
  return store.isPartial ? open.of([]).counts : countByStatus(store.open);
}

/** The number of overdue orders; null while unknown. */
function overdueIn(store, open) {
  if (!store.isComplete) return null;
  const counts = store.isPartial ? open.of([]).overdue : null;
  if (counts) return [...counts.values()].reduce((sum, count) => sum + count, 0);
  if (store.isPartial) return null;
  let number = 0;
  for (const { overdue } of store.open.values()) if (overdue) number += 1;
  return number;
}

connectThemeSwitch(byId("theme"));
closeMenus();
addEventListener("unhandledrejection", ({ reason }) => toast(`Something went wrong in this page: ${reason?.message ?? reason}`, "bad"));
const configuration = await awaitConfiguration();
const needsToken = () => new Session(configuration.token, configuration.claims).token === null;
new App(configuration, await arrive(configuration, needsToken));
