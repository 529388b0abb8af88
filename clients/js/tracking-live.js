/**
 * Live orders in a browser (or in Node 22 and later), across reconnects, without gaps or repeats.
 *
 *     const live = new LiveOrders("/v1/stream", fetchToken, { filter: { merchant_id: ["acme"] } });
 *     live.addEventListener("change", () => draw(live.orders));
 *     live.addEventListener("status", ({ detail }) => showStatus(detail));
 *     live.start();
 *
 * No dependencies, no build step. `LiveOrders` and `OrderView` of the Python client (tracking_client,
 * clients/python) have the same names and behaviour; docs/live-updates.md describes both.
 *
 * @module tracking-live
 */

/**
 * @typedef {Object} Filter  Several values of one member mean any of them.
 * @property {string[]} [merchant_id]
 * @property {string[]} [order_id]
 * @property {string[]} [status]
 * @property {boolean} [active]  Without `active`, `status` and `order_id`: true.
 * @property {boolean} [overdue]
 *
 * @typedef {Object} Order  An order as REST shows it.
 * @property {string} order_id
 * @property {string} merchant_id
 * @property {string|null} reference  The merchant's own number for the order.
 * @property {?{name: string, contact_ref: string}} [customer]  Only for tokens that may see it; null: erased.
 * @property {string} [erased_at]  When the customer was erased.
 * @property {string} status
 * @property {number} version
 * @property {boolean} active
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string|null} due_at
 * @property {string|null} eta  By the newest estimate.
 * @property {boolean} overdue  It is open and its `due_at` has passed.
 * @property {{type: string, id: string}} source
 * @property {Object} metadata
 * @property {string[]} allowed_next
 *
 * @typedef {Object} OrderEvent  A CloudEvent; `data` has the order after the event, and the change.
 * @property {string} id  `<order id>:<version>`
 * @property {string} type  `order.created`, `order.status_changed`, `order.checkpoint_added`, `order.corrected`,
 *   `order.overdue` or `order.customer_erased`. More may follow; the order after the event is in `data` whatever the type.
 * @property {string} subject  The order id.
 * @property {string} time
 * @property {Object} data  With `kind` and perhaps `message` of a checkpoint, `reason` of a correction.
 *
 * @typedef {Object} Status  The state of a client, and the reason.
 * @property {State} state
 * @property {string} reason  For people: why it waits or was refused.
 * @property {number} [code]  The close code, if the server closed with one.
 * @property {Date} [retryAt]  The time of the next attempt, while it waits.
 * @property {Object} [problem]  The RFC 9457 document that the server sent before its close.
 * @property {Transport} transport  Of this connection or attempt, or of the last one.
 *
 * @typedef {"stopped"|"connecting"|"catching-up"|"live"|"waiting"|"refused"} State
 *   stopped: not started, or `stop()` was called. catching-up: connected; the snapshot or missed events are being
 *   received, and `orders` may be outdated. waiting: the connection ended and there will be another attempt;
 *   `orders` is outdated. refused: the server refuses this request permanently.
 *
 * @typedef {"websocket"|"event-stream"} Transport  event-stream: server-sent events, by HTTP.
 */

/** After these codes the same request would be refused again. After every other end, reconnect. */
export const FINAL_CLOSE_CODES = new Set([4400, 4401, 4403, 4413]);

/** The code that browsers report for a connection that ended without a close code. */
const NO_CLOSE = 1006;

/** Final for the refused token. One new token is tried. */
const NOT_AUTHENTICATED = 4401;

/** Waits double from the first to the longest, each shortened at random so that clients do not reconnect together. */
const FIRST_WAIT_SECONDS = 0.25;
const MAX_WAIT_SECONDS = 10;

/** After a stream was live for this time, waits start with the first one again. */
const STABLE_SECONDS = 10;

/** Time limit for the token and the handshake together. */
const CONNECT_SECONDS = 10;

/** Time limit for the first message of a connection. A proxy may hold back what it was sent. */
const FIRST_MESSAGE_SECONDS = 30;

/** WebSockets that did not get through are tried again after this time, at the next connection. */
const WEBSOCKET_AGAIN_SECONDS = 3600;

/** The close codes that stand for the statuses of problems. An event stream has no close codes. */
const CLOSE_CODE_OF_STATUS = new Map([
  ...[[400, 4400], [401, NOT_AUTHENTICATED], [403, 4403], [413, 4413], [422, 4400], [429, 4429], [503, 1013]],
]);

/** Time limit for the request that checks whether a server answers at all. */
const PROBE_SECONDS = 3;

/** A token is refreshed this time before it expires, or in the last quarter of its lifetime if that is shorter. */
const REFRESH_SECONDS = 60;

/** The shortest time between two requests for a new token. */
const MIN_REFRESH_SECONDS = 0.5;

/** A connection that received nothing for this time is replaced: scripts see no pings, so it may be dead. */
const SILENCE_SECONDS = 90;

/** The same when the page becomes visible again. */
const SILENCE_AT_RETURN_SECONDS = 30;

/** Longer waits are split: a timer can express 24.8 days at most. */
const MAX_TIMER_SECONDS = 86_400;

/** The members of an event from which an order is made. */
const EVENT_MEMBERS = [
  ...["order_id", "merchant_id", "version", "status", "previous_status", "active", "allowed_next"],
  ...["created_at", "recorded_at", "source", "order_metadata"],
];

const ORDER_MEMBERS = ["order_id", "version", "status", "active"];

/** The server sent an invalid message, or one that the protocol does not allow at this point. */
export class GarbledMessage extends Error {}

/**
 * The orders that match a filter, kept up to date by the messages of the server. It has no connection of its own.
 */
export class OrderView {
  /** @type {Map<string, Order>} By order id. */
  orders = new Map();
  /** @type {string|null} The position to continue from after a reconnect; null: there is none. */
  cursor;
  /** The number of times that versions were missing. */
  gaps = 0;
  /** True if `orders` started as a snapshot, so that it has all orders that match. */
  fromSnapshot = false;

  #filter;
  #notify;
  #snapshot;
  #arriving = null; // orders of a snapshot that is not complete yet
  #resyncReason = null;
  #overlapping = false; // between a snapshot and `live` on the same connection: events may repeat the snapshot
  #settled = false; // after that `live`: an order that is not in `orders` does not match
  #activity = new Map(); // status → is it active; a workflow has few statuses

  /**
   * @param {Filter} filter
   * @param {(name: string, detail: Object) => void} notify  Is called for snapshots, gaps and problems.
   * @param {{after?: string|null, snapshot?: boolean}} [from]  With a cursor, or without a snapshot, `orders` has
   *   only the orders of received events.
   */
  constructor(filter, notify, { after = null, snapshot = true } = {}) {
    this.#filter = filter;
    this.#notify = notify;
    this.cursor = after;
    this.#snapshot = snapshot;
  }

  /** The filter and the position of a `subscribe`. */
  request() {
    this.#arriving = null; // an incomplete snapshot is discarded
    this.#overlapping = false; // the overlap is over on a new connection only if it brings a snapshot
    if (this.cursor !== null) return { filter: this.#filter, after: this.cursor };
    return { filter: this.#filter, snapshot: this.#snapshot };
  }

  /** The orders cannot be brought up to date: the next request asks for a snapshot. */
  forget(reason = null) {
    this.cursor = null;
    this.#snapshot = true;
    this.#settled = false;
    this.#resyncReason = reason;
  }

  /**
   * Applies one message of the server.
   * @param {Object} message
   * @returns {OrderEvent[]} Its new events, in their order.
   * @throws {GarbledMessage} It is invalid; nothing of it was applied.
   */
  take(message) {
    switch (message.type) {
      case "snapshot":
        this.#takePage(documents(message, "orders"), member(message, "more", "boolean"));
        break;
      case "events":
        return this.#takeEvents(documents(message, "events"), member(message, "cursor", "string"));
      case "live":
        this.#expectNoPage();
        this.cursor = member(message, "cursor", "string");
        this.#settled ||= this.#overlapping;
        break;
      case "resync":
        this.forget(member(message, "reason", "string"));
        this.#arriving = new Map();
        break;
      case "problem":
        this.#notify("problem", member(message, "problem", "object"));
        break;
      default: // an unknown type belongs to a later version of the protocol
        member(message, "type", "string");
    }
    return [];
  }

  #takePage(orders, more) {
    for (const order of orders) check(order, ORDER_MEMBERS);
    // Until it is complete, a reconnect must ask for another one: with half of it and a cursor, the rest is lost.
    if (this.#arriving === null) this.forget(this.#resyncReason);
    const arriving = this.#arriving ?? new Map();
    for (const order of orders) {
      arriving.set(order.order_id, order);
      this.#activity.set(order.status, order.active);
    }
    this.#arriving = arriving;
    if (more) return;
    this.orders = arriving;
    this.#arriving = null;
    this.fromSnapshot = this.#overlapping = true;
    const reason = this.#resyncReason;
    this.#resyncReason = null;
    this.#notify("snapshot", { reason });
  }

  #takeEvents(events, cursor) {
    this.#expectNoPage();
    for (const event of events) check(member(event, "data", "object"), EVENT_MEMBERS);
    const applied = events.filter((event) => this.#apply(event));
    this.cursor = cursor;
    return applied;
  }

  #expectNoPage() {
    if (this.#arriving !== null) throw new GarbledMessage("a snapshot ended without its last page");
  }

  #apply(event) {
    const { order_id, version, status, active, overdue = false } = event.data;
    const known = this.orders.get(order_id);
    if (known && version <= known.version) return false; // the snapshot has it already
    if (this.#missesSomething(known, event.data)) {
      this.gaps += 1;
      this.#notify("gap", { order_id, after: known ? known.version : null, version });
    }
    this.#activity.set(status, active);
    if (this.#matches(status, active, overdue)) this.orders.set(order_id, orderAfter(event));
    else this.orders.delete(order_id);
    return true;
  }

  #missesSomething(known, { version, previous_status, previous_overdue = false }) {
    if (known) return version !== known.version + 1;
    if (!this.#settled || previous_status === null) return false;
    return this.#matches(previous_status, this.#activity.get(previous_status), previous_overdue);
  }

  #matches(status, active, overdue) {
    const filter = this.#filter;
    if ((filter.overdue ?? overdue) !== overdue) return false;
    if (filter.status && !filter.status.includes(status)) return false;
    const wanted = filter.active ?? (filter.status || filter.order_id ? null : true);
    return wanted === null || wanted === active;
  }
}

/**
 * The order as REST shows it after this event.
 * @param {OrderEvent} event
 * @returns {Order}
 */
export function orderAfter({ data }) {
  const { order_id, merchant_id, reference = null, status, version, active, created_at } = data;
  // A person who was erased is null; a token that may not see it gets none.
  const person = Object.fromEntries(["customer", "erased_at"].filter((name) => name in data).map((name) => [name, data[name]]));
  return {
    ...{ order_id, merchant_id, reference, ...person, status, version, active, created_at },
    updated_at: data.recorded_at,
    // An earlier release of the server does not send them.
    ...{ due_at: data.due_at ?? null, eta: data.eta ?? null, overdue: data.overdue ?? false },
    source: data.source,
    metadata: data.order_metadata,
    allowed_next: data.allowed_next,
  };
}

/**
 * An event stream that looks like a `WebSocket`: events `open`, `message` and `close`, and `activity` for all that comes,
 * comments included. It is fetched, because an `EventSource` cannot send a token. A refusal is a `problem` message.
 */
class EventStream extends EventTarget {
  #abort = new AbortController();
  #data = []; // the lines of the event that is being received
  #rest = ""; // of a line that is not complete
  #closeCode = NO_CLOSE;

  constructor(url, token) {
    super();
    this.#run(url, token);
  }

  close() {
    this.#abort.abort();
  }

  async #run(url, token) {
    await undefined; // listeners are added after the constructor
    try {
      const headers = { Accept: "text/event-stream", Authorization: `Bearer ${token}` };
      const { signal } = this.#abort;
      const response = await fetch(url, { headers, signal, cache: "no-store", credentials: "omit" });
      const kind = response.headers.get("Content-Type")?.split(";")[0];
      if (response.ok && kind === "text/event-stream") await this.#read(response.body);
      else if (kind === "application/problem+json") this.#refused(await response.json());
    } catch {
      // no answer, or it broke off: closed without a code
    }
    this.#tell("close", { code: this.#closeCode, reason: "" });
  }

  #refused(problem) {
    // Of another status: there is no event stream here.
    if (CLOSE_CODE_OF_STATUS.has(problem.status)) this.#receive(JSON.stringify({ type: "problem", problem }));
  }

  async #read(body) {
    this.#tell("open");
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      this.#tell("activity");
      const lines = (this.#rest + decoder.decode(value, { stream: true })).split("\n");
      this.#rest = lines.pop();
      for (const line of lines) this.#takeLine(line);
    }
  }

  #takeLine(line) {
    if (line.startsWith("data: ")) this.#data.push(line.slice(6));
    if (line !== "" || !this.#data.length) return; // type and cursor are in the data, too
    this.#receive(this.#data.splice(0).join("\n"));
  }

  #receive(data) {
    const { type, problem } = JSON.parse(data);
    if (type === "problem") this.#closeCode = CLOSE_CODE_OF_STATUS.get(problem.status) ?? NO_CLOSE;
    this.#tell("message", { data });
  }

  #tell(kind, members = {}) {
    this.dispatchEvent(Object.assign(new Event(kind), members));
  }
}

/** The address of an event stream, with what a `subscribe` says as its query. */
function eventStreamUrl(url, { filter, ...request }) {
  const address = new URL(url);
  address.protocol = address.protocol.replace("ws", "http");
  for (const [name, values] of Object.entries({ ...filter, ...request })) {
    for (const value of [values ?? []].flat()) address.searchParams.append(name, value);
  }
  return address;
}

/**
 * Live orders over a WebSocket that is reopened whenever it ends, or over server-sent events where WebSockets do not get
 * through. Changes are dispatched as a `CustomEvent`, after `orders`, `cursor` and `status` are updated:
 *
 * | event | detail |
 * |---|---|
 * | `change` | none: `orders` has changed. Once per message, however many events it contains |
 * | `events` | the new events (`OrderEvent[]`) of one message, each once, in version order per order |
 * | `snapshot` | `{reason}`: `orders` was replaced as a whole, without events for the changes in between. `reason`: that of the `resync`, or null |
 * | `status` | a `Status` |
 * | `problem` | an RFC 9457 document: a message was refused, or the connection is about to be closed |
 * | `gap` | `{order_id, after, version}`: events are missing, which is a bug of the server. The event was applied |
 */
export class LiveOrders extends EventTarget {
  /** The number of connections so far; more than 1 means that the stream was interrupted. */
  connections = 0;

  #url;
  #token;
  #view;
  #isAuto; // whether the transport is chosen here
  #transport; // of this attempt, or of the next one
  #usedTransport; // of the last attempt
  #heard = true; // a message came on this connection; true without a connection, of which nothing can be said
  #webSocketsWork = false; // a message came on one, since the network was the same
  #webSocketTriedAt = 0;
  #notices = []; // of the message that is being handled
  #silenceSeconds;
  #status;
  #attempt = 0; // increases when a connection is given up, so that its later events are ignored
  #socket = null;
  #timers = new Map();
  #listeners = null; // cancels the listeners on window and document
  #subscribedToken = null;
  #newestToken = null; // the last one that was sent on this connection
  #spareToken = null; // fetched to compare it with the refused one
  #snapshotEntitlement = null; // of the token with which the snapshot was received
  #refusedTokens = 0; // in a row, without another message in between
  #failures = 0;
  #liveSince = null;
  #warned = false; // about an origin that seems to be refused
  #receivedAt = 0;
  #problem = undefined;

  /**
   * @param {string|URL} url  The address of the stream. It may be relative to the page, and begin with http or ws.
   * @param {string|(() => string|Promise<string>)} token  A token, or a function that returns a valid one. It is
   *   called before each connection and before a token expires. If it throws, it is called again later.
   * @param {Object} [options]
   * @param {Filter} [options.filter]
   * @param {string} [options.after]  A cursor to continue from.
   * @param {boolean} [options.snapshot]  False: only events from now on.
   * @param {number} [options.silenceSeconds]  A connection that received nothing for this time is replaced.
   * @param {"auto"|Transport} [options.transport]  auto: WebSockets, or server-sent events where they do not get through.
   */
  constructor(url, token, { filter = {}, after, snapshot, silenceSeconds = SILENCE_SECONDS, transport = "auto" } = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    if (!/^wss?:$/.test(this.#url.protocol)) throw new TypeError(`not the address of a stream: ${url}`);
    this.#token = token;
    this.#silenceSeconds = silenceSeconds;
    this.#view = new OrderView(filter, (name, detail) => this.#onNotice(name, detail), { after, snapshot });
    this.#isAuto = transport === "auto";
    this.#transport = this.#usedTransport = this.#isAuto ? "websocket" : transport;
    this.#status = { state: "stopped", reason: "", transport: this.#usedTransport };
  }

  /** @returns {Map<string, Order>} By order id. To be read only. A snapshot replaces the whole map. */
  get orders() {
    return this.#view.orders;
  }

  /** @returns {string|null} The position of `orders`. Null while a snapshot arrives. */
  get cursor() {
    return this.#view.cursor;
  }

  /** @returns {number} The number of times that versions were missing; anything but 0 is a bug of the server. */
  get gaps() {
    return this.#view.gaps;
  }

  /** @returns {Transport} That of this connection or attempt, or of the last one. */
  get transport() {
    return this.#usedTransport;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** Connects, and reconnects until `stop()` or until the server refuses permanently. */
  start() {
    if (this.#listeners) return;
    this.#listeners = new AbortController();
    this.#watchPage(this.#listeners.signal);
    this.#failures = this.#refusedTokens = 0;
    this.#connect();
  }

  /** Ends the connection. `orders` is kept, and `start()` continues from there. */
  stop() {
    if (!this.#listeners) return;
    this.#end();
    this.#setStatus({ state: "stopped" });
  }

  /** Replaces the connection, or ends the wait for the next attempt. No event is missed. */
  reconnect(reason = "asked for") {
    if (!this.#listeners) return;
    this.#failures = 0;
    this.#retry(reason);
  }

  async #connect() {
    const again = Date.now() - this.#webSocketTriedAt > WEBSOCKET_AGAIN_SECONDS * 1000;
    if (this.#isAuto && again) this.#transport = "websocket";
    this.#usedTransport = this.#transport;
    this.#setStatus({ state: "connecting" });
    this.#schedule("connect", CONNECT_SECONDS, () => this.#retry("no connection in time"));
    this.#problem = undefined;
    const current = this.#stillCurrent();
    let token;
    try {
      token = this.#spareToken ?? (await this.#fetchToken());
    } catch (error) {
      if (current()) this.#retry(`no token: ${error?.message ?? error}`);
      return;
    }
    this.#spareToken = null;
    if (current()) this.#open(token, current);
  }

  #open(token, current) {
    this.#heard = false;
    this.#subscribedToken = this.#newestToken = token;
    const socket = (this.#socket = this.#usedTransport === "websocket" ? this.#openWebSocket() : this.#openEventStream(token));
    const on = (kind, handle) => socket.addEventListener(kind, (event) => current() && handle(event));
    on("open", () => this.#opened(token));
    on("activity", () => (this.#receivedAt = Date.now()));
    on("message", ({ data }) => this.#received(data));
    on("close", ({ code, reason }) => this.#closed(code, reason));
  }

  #openWebSocket() {
    this.#webSocketTriedAt = Date.now();
    return new WebSocket(this.#url);
  }

  #openEventStream(token) {
    return new EventStream(eventStreamUrl(this.#url, this.#request(token)), token);
  }

  #request(token) {
    if (this.#view.fromSnapshot && entitlement(token) !== this.#snapshotEntitlement) {
      // A resume would neither add the orders that only this token may see, nor remove the others.
      this.#view.forget("entitlement-changed");
    }
    return { heartbeat: true, ...this.#view.request() };
  }

  #opened(token) {
    if (this.#isAuto && this.#usedTransport === "event-stream" && this.#webSocketsWork) {
      // The WebSocket failed because the server was away. It is back. If another one fails now, they do not get through.
      this.#webSocketsWork = false;
      this.#retry("the server is there again");
      return;
    }
    this.#cancel("connect");
    this.connections += 1;
    if (this.#usedTransport === "websocket") this.#send({ type: "subscribe", token, ...this.#request(token) });
    this.#receivedAt = Date.now();
    this.#schedule("first", FIRST_MESSAGE_SECONDS, () => this.#retry("nothing comes through: does a proxy hold it back?"));
    this.#watchSilence(this.#silenceSeconds * (0.75 + Math.random() / 4)); // clients that connected together do not reconnect together
    this.#scheduleRefresh();
    this.#setStatus({ state: "catching-up" });
  }

  #received(data) {
    this.#receivedAt = Date.now();
    this.#cancel("first");
    const current = this.#stillCurrent();
    try {
      const message = parsed(data);
      this.#webSocketsWork ||= this.#usedTransport === "websocket";
      this.#heard ||= this.#usedTransport === "websocket" || message.type !== "problem"; // which may be the whole answer
      const events = this.#view.take(message);
      if (message.type !== "problem") this.#refusedTokens = 0;
      this.#announce(events);
      // A listener may have called `stop()` or `reconnect()`.
      if (current()) this.#follow(message);
    } catch (error) {
      if (!(error instanceof GarbledMessage)) throw error;
      this.#retry(error.message);
    }
  }

  #follow({ type, reason }) {
    if (type === "resync") this.#setStatus({ state: "catching-up", reason });
    if (type !== "live") return;
    this.#liveSince = Date.now();
    this.#setStatus({ state: "live" });
  }

  #announce(events) {
    const notices = this.#notices.splice(0);
    for (const [name, detail] of notices) this.#dispatch(name, detail);
    if (events.length) this.#dispatch("events", events);
    if (events.length || notices.some(([name]) => name === "snapshot")) this.#dispatch("change", null);
  }

  #onNotice(name, detail) {
    this.#notices.push([name, detail]);
    if (name === "snapshot") this.#snapshotEntitlement = entitlement(this.#newestToken);
    if (name !== "problem") return;
    this.#problem = detail;
    this.#newestToken = this.#subscribedToken; // the newest one may be the refused one
  }

  async #closed(code, reason) {
    const current = this.#stillCurrent();
    this.#cancelTimers();
    this.#socket = null;
    const final = await this.#isFinal(code);
    if (!current()) return;
    if (final) this.#refuse(code, reason);
    else if (code !== NO_CLOSE) this.#retry(reason || `closed with ${code}`, code);
    else if (this.connections > 0 || !globalThis.location) this.#retry("connection lost");
    else if (this.#isAuto && this.#usedTransport === "websocket") this.#retry("no WebSocket could be opened");
    else await this.#failToOpen();
  }

  /** Browsers do not report why a connection failed. If the server answers over HTTP, it has refused it. */
  async #failToOpen() {
    const current = this.#stillCurrent();
    this.#schedule("connect", CONNECT_SECONDS, () => this.#retry("no connection in time"));
    const answers = await answersHttp(this.#url);
    if (!current()) return;
    if (!answers) {
      this.#retry("no server answers");
      return;
    }
    const { origin } = globalThis.location;
    const reason = `the server answers, but refuses the connection: is ${origin} in its ALLOWED_ORIGINS?`;
    if (!this.#warned) console.warn(`tracking-live: ${this.#url.origin}: ${reason}`);
    this.#warned = true;
    this.#retry(reason);
  }

  async #isFinal(code) {
    if (code !== NOT_AUTHENTICATED) return FINAL_CLOSE_CODES.has(code);
    this.#refusedTokens += 1;
    if (this.#refusedTokens > 1) return true; // a new one was refused, too
    this.#setStatus({ state: "connecting" });
    this.#schedule("connect", CONNECT_SECONDS, () => this.#retry("no token in time", code));
    try {
      this.#spareToken = await this.#fetchToken();
      return this.#spareToken === this.#subscribedToken;
    } catch {
      return false;
    }
  }

  #refuse(code, reason) {
    const problem = this.#problem;
    this.#end();
    const text = problem?.detail ?? `closed with ${code} ${reason}`.trim();
    this.#setStatus({ state: "refused", reason: text, code, problem });
  }

  #retry(reason, code) {
    const stable = this.#liveSince !== null && Date.now() - this.#liveSince >= STABLE_SECONDS * 1000;
    this.#liveSince = null;
    this.#failures = stable ? 1 : this.#failures + 1;
    // Where nothing came through, the next attempt is made the other way.
    if (this.#isAuto && !this.#heard) this.#transport = this.#usedTransport === "websocket" ? "event-stream" : "websocket";
    this.#dropConnection();
    const seconds = waitSeconds(this.#failures);
    this.#schedule("retry", seconds, () => this.#connect());
    const retryAt = new Date(Date.now() + seconds * 1000);
    this.#setStatus({ state: "waiting", reason, code, retryAt, problem: this.#problem });
  }

  #dropConnection() {
    this.#attempt += 1;
    this.#heard = true;
    this.#cancelTimers();
    this.#socket?.close();
    this.#socket = null;
  }

  #end() {
    this.#dropConnection();
    this.#spareToken = null;
    this.#listeners.abort();
    this.#listeners = null;
  }

  async #fetchToken() {
    return typeof this.#token === "string" ? this.#token : this.#token();
  }

  #scheduleRefresh(again = false) {
    const seconds = typeof this.#token === "string" ? null : refreshIn(this.#newestToken, again);
    if (seconds === null) return;
    if (seconds > MAX_TIMER_SECONDS) this.#schedule("refresh", MAX_TIMER_SECONDS, () => this.#scheduleRefresh());
    else this.#schedule("refresh", seconds, () => this.#refresh());
  }

  async #refresh() {
    const current = this.#stillCurrent();
    const newest = this.#newestToken;
    const token = await this.#fetchToken().catch(() => newest);
    if (!current() || !this.#socket) return;
    if (token !== newest && this.#usedTransport === "event-stream") this.#replaceConnection(token);
    else this.#refreshOn(token, newest);
  }

  /** An event stream cannot be sent a new token. */
  #replaceConnection(token) {
    this.#dropConnection();
    this.#spareToken = token;
    this.#connect();
  }

  #refreshOn(token, newest) {
    if (token !== newest) this.#send({ type: "refresh", token });
    this.#newestToken = token;
    this.#scheduleRefresh(token === newest);
  }

  #watchSilence(limit) {
    const left = limit - this.#secondsSilent();
    if (left <= 0) this.#retry(`nothing heard for ${Math.round(limit)} s`);
    else this.#schedule("silence", left, () => this.#watchSilence(limit));
  }

  #secondsSilent() {
    return (Date.now() - this.#receivedAt) / 1000;
  }

  #watchPage(signal) {
    const visible = () => globalThis.document?.visibilityState === "visible" && this.#onVisible();
    globalThis.addEventListener?.("offline", () => this.#onNetworkChange("offline"), { signal });
    globalThis.addEventListener?.("online", () => this.#onNetworkChange("online again"), { signal });
    globalThis.document?.addEventListener("visibilitychange", visible, { signal });
  }

  #onNetworkChange(reason) {
    this.reconnect(reason);
    if (this.#isAuto) this.#transport = "websocket"; // another network may let them through
    this.#webSocketsWork = false;
  }

  #onVisible() {
    const { state } = this.#status;
    const doubtful = this.#socket !== null && this.#secondsSilent() > SILENCE_AT_RETURN_SECONDS;
    if (state === "waiting" || (doubtful && state !== "connecting")) this.reconnect("the page is visible again");
  }

  /** Returns a function that is true until this connection, or attempt, is given up. */
  #stillCurrent() {
    const attempt = this.#attempt;
    return () => attempt === this.#attempt;
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #setStatus(status) {
    this.#status = { reason: "", transport: this.#usedTransport, ...status };
    this.#dispatch("status", this.#status);
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #schedule(name, seconds, act) {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(act, seconds * 1000));
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #cancelTimers() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
  }
}

/** Returns true if a server answers at the address of the stream. From a foreign origin, its answer cannot be read. */
async function answersHttp(stream) {
  const address = new URL("../healthz", stream);
  address.protocol = address.protocol.replace("ws", "http");
  const signal = AbortSignal.timeout(PROBE_SECONDS * 1000);
  try {
    await fetch(address, { mode: "no-cors", credentials: "omit", cache: "no-store", signal });
    return true;
  } catch {
    return false;
  }
}

/** The wait after this number of failures (1 and more) in a row, in seconds. */
export function waitSeconds(failures) {
  const longest = Math.min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (failures - 1));
  return longest * (0.5 + Math.random() / 2);
}

/**
 * Seconds until a token should be replaced; null if it does not contain its expiry. `again`: the last request returned
 * the same token.
 */
export function refreshIn(token, again = false) {
  const { exp, iat } = claimsOf(token);
  if (typeof exp !== "number") return null;
  let left = exp - Date.now() / 1000;
  // The lifetime is used in case the clock of this device is wrong.
  if (typeof iat === "number") left = left > 0 ? Math.min(left, exp - iat) : exp - iat;
  if (left <= 0) return null;
  if (again) return Math.max(MIN_REFRESH_SECONDS, left / 2);
  const ahead = Math.min(REFRESH_SECONDS, left / 4) * (0.5 + Math.random() / 2);
  return Math.max(MIN_REFRESH_SECONDS, left - ahead);
}

/** Claims that differ in each token of a login, and do not affect what it allows. */
const OF_ONE_TOKEN = new Set([
  ...["exp", "iat", "nbf", "jti", "auth_time", "nonce", "at_hash", "sid", "session_state"],
  ...["origin_jti", "event_id", "uti", "aio", "rh"],
]);

/**
 * The subject and the rights of a token: tokens that agree in this get the same orders. Only the services know which
 * claims matter, so all claims are compared that the tokens of one login have in common.
 */
function entitlement(token) {
  const claims = Object.entries(claimsOf(token)).filter(([name]) => !OF_ONE_TOKEN.has(name));
  return JSON.stringify(claims.sort(([one], [another]) => (one < another ? -1 : 1)));
}

/** The claims of a token. Only the server verifies it. */
function claimsOf(token) {
  try {
    const payload = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(payload, (byte) => byte.charCodeAt(0)))) ?? {};
  } catch {
    return {};
  }
}

function parsed(data) {
  try {
    const message = typeof data === "string" ? JSON.parse(data) : null;
    if (isObject(message)) return message;
  } catch {
    // not JSON: see below
  }
  throw new GarbledMessage("a message that is no JSON object");
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function member(document, name, kind) {
  const value = document[name];
  if (kind === "object" ? !isObject(value) : typeof value !== kind) {
    throw new GarbledMessage(`${name} is not a ${kind}`);
  }
  return value;
}

function documents(message, name) {
  const values = message[name];
  if (!Array.isArray(values) || !values.every(isObject)) throw new GarbledMessage(`${name} is not a list of objects`);
  return values;
}

function check(document, members) {
  const missing = members.filter((name) => !(name in document));
  if (missing.length) throw new GarbledMessage(`without ${missing.join(", ")}`);
  if (!Number.isInteger(document.version) || typeof document.order_id !== "string") {
    throw new GarbledMessage("an order id or a version of the wrong kind");
  }
}
