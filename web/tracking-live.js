/**
 * Live orders in a browser (or in Node 22 and later), across reconnects, without gap or repeat.
 *
 *     const live = new LiveOrders("/v1/stream", fetchToken, { filter: { merchant_id: ["acme"] } });
 *     live.addEventListener("change", () => draw(live.orders));
 *     live.addEventListener("status", ({ detail }) => light(detail.state));
 *     live.start();
 *
 * No dependencies, no build step. `LiveOrders` and `OrderView` of the Python client (tracking.live,
 * tracking.live_view) are the same, name by name; docs/live-updates.md describes both.
 *
 * @module tracking-live
 */

/**
 * @typedef {Object} Filter  Several values of one member mean any of them.
 * @property {string[]} [merchant_id]
 * @property {string[]} [order_id]
 * @property {string[]} [status]
 * @property {boolean} [active]  Without `active`, `status` and `order_id`: true.
 *
 * @typedef {Object} Order  An order as REST shows it.
 * @property {string} order_id
 * @property {string} merchant_id
 * @property {{name: string, contact_ref: string}} [customer]  For those entitled to it.
 * @property {string} status
 * @property {number} version
 * @property {boolean} active
 * @property {string} created_at
 * @property {string} updated_at
 * @property {{type: string, id: string}} source
 * @property {Object} metadata
 * @property {string[]} allowed_next
 *
 * @typedef {Object} OrderEvent  A CloudEvent; `data` holds the order after it, and what changed.
 * @property {string} id  `<order id>:<version>`
 * @property {string} type  `order.created` or `order.status_changed`
 * @property {string} subject  The order id.
 * @property {string} time
 * @property {Object} data
 *
 * @typedef {Object} Status  What a client is doing, and why.
 * @property {State} state
 * @property {string} reason  For a person: why it waits or was refused.
 * @property {number} [code]  The close code, if the server closed with one.
 * @property {Date} [retryAt]  When the next attempt comes, while it waits.
 * @property {Object} [problem]  The RFC 9457 document that the server sent before its close.
 *
 * @typedef {"stopped"|"connecting"|"catching-up"|"live"|"waiting"|"refused"} State
 *   stopped: not started, or told to stop. catching-up: connected; the snapshot, or what was missed, is on
 *   its way, and `orders` may be of earlier. waiting: the connection ended and there will be another attempt;
 *   `orders` is of earlier. refused: the server will never serve this request.
 */

/** Trying again with the same request would end the same way. Every other end asks for a reconnect. */
export const FINAL_CLOSE_CODES = new Set([4400, 4401, 4403, 4413]);

/** What browsers report when a connection ended without a close code. */
const NO_CLOSE = 1006;

/** Final for the token that was refused; a fresh one is tried, once. */
const NOT_AUTHENTICATED = 4401;

/** Waits double from the first to the last one, each cut by a random part so that clients spread. */
const FIRST_WAIT_SECONDS = 0.25;
const MAX_WAIT_SECONDS = 10;

/** A stream that was live for so long begins with the first wait again. */
const STABLE_SECONDS = 10;

/** For the token and the handshake together. */
const CONNECT_SECONDS = 10;

/** For the question whether a server is there at all that did not open a connection. */
const PROBE_SECONDS = 3;

/** A token is refreshed so long before it expires, or in the last quarter of its life if that is shorter. */
const REFRESH_SECONDS = 60;

/** Between two requests for a fresh token, however short its life. */
const MIN_REFRESH_SECONDS = 0.5;

/** A connection that brought nothing for so long is replaced: scripts see no pings, so it may be dead. */
const SILENCE_SECONDS = 90;

/** The same when a person comes back to the page, and looks at it now. */
const SILENCE_AT_RETURN_SECONDS = 30;

/** The longest wait that a timer can express is 24.8 days. */
const MAX_TIMER_SECONDS = 86_400;

/** What an event must tell to make an order of it. */
const EVENT_MEMBERS = [
  ...["order_id", "merchant_id", "version", "status", "previous_status", "active", "allowed_next"],
  ...["created_at", "recorded_at", "source", "order_metadata"],
];

const ORDER_MEMBERS = ["order_id", "version", "status", "active"];

/** The server sent what is no message of the protocol, or one where it cannot stand. */
export class GarbledMessage extends Error {}

/**
 * The orders that match a filter. It holds these and nothing else, whatever comes along. No connection
 * in here: messages in, orders out.
 */
export class OrderView {
  /** @type {Map<string, Order>} By order id. */
  orders = new Map();
  /** @type {string|null} Where to go on after a reconnect; null: nowhere. */
  cursor;
  /** How often versions were found missing. */
  gaps = 0;
  /** Whether `orders` began as a snapshot, so that it holds all that match. */
  fromSnapshot = false;

  #filter;
  #tell;
  #snapshot;
  #arriving = null; // pages of a snapshot that is not whole yet
  #resyncReason = null;
  #overlapping = false; // on the connection that brought the snapshot, and before its `live`
  #settled = false; // past what the snapshot overlaps with: an order that is not held does not match
  #activity = new Map(); // of the statuses seen; a workflow has a handful

  /**
   * @param {Filter} filter
   * @param {(name: string, detail: Object) => void} tell  Is called with what is no event.
   * @param {{after?: string|null, snapshot?: boolean}} [from]  With a cursor of earlier, or without a
   *   snapshot, `orders` holds only what events brought.
   */
  constructor(filter, tell, { after = null, snapshot = true } = {}) {
    this.#filter = filter;
    this.#tell = tell;
    this.cursor = after;
    this.#snapshot = snapshot;
  }

  /** The members of a `subscribe` that say what is wanted, and from where. */
  request() {
    this.#arriving = null; // a snapshot that was cut off counts for nothing
    this.#overlapping = false; // `live` tells nothing of the overlap on another connection
    if (this.cursor !== null) return { filter: this.#filter, after: this.cursor };
    return { filter: this.#filter, snapshot: this.#snapshot };
  }

  /** What is held cannot be continued: the next request asks for a snapshot. */
  forget(reason = null) {
    this.cursor = null;
    this.#snapshot = true;
    this.#settled = false;
    this.#resyncReason = reason;
  }

  /**
   * Applies one message of the server.
   * @param {Object} message
   * @returns {OrderEvent[]} The events in it that are new, in their order.
   * @throws {GarbledMessage} It is none; nothing of it was applied.
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
        this.#tell("problem", member(message, "problem", "object"));
        break;
      default: // a type that is unknown is of a later version of the protocol
        member(message, "type", "string");
    }
    return [];
  }

  #takePage(orders, more) {
    for (const order of orders) check(order, ORDER_MEMBERS);
    // Until it is whole, a reconnect must ask for another one: half of one and a cursor lose the rest.
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
    this.#tell("snapshot", { reason });
  }

  #takeEvents(events, cursor) {
    this.#expectNoPage();
    for (const event of events) check(member(event, "data", "object"), EVENT_MEMBERS);
    const fresh = events.filter((event) => this.#apply(event));
    this.cursor = cursor;
    return fresh;
  }

  #expectNoPage() {
    if (this.#arriving !== null) throw new GarbledMessage("a snapshot ended without its last page");
  }

  #apply(event) {
    const { order_id, version, status, active } = event.data;
    const known = this.orders.get(order_id);
    if (known && version <= known.version) return false; // the snapshot was ahead
    if (this.#missesSomething(known, event.data)) {
      this.gaps += 1;
      this.#tell("gap", { order_id, after: known ? known.version : null, version });
    }
    this.#activity.set(status, active);
    if (this.#matches(status, active)) this.orders.set(order_id, orderAfter(event));
    else this.orders.delete(order_id);
    return true;
  }

  #missesSomething(known, { version, previous_status }) {
    if (known) return version !== known.version + 1;
    if (!this.#settled || previous_status === null) return false;
    return this.#matches(previous_status, this.#activity.get(previous_status));
  }

  #matches(status, active) {
    const filter = this.#filter;
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
  const { order_id, merchant_id, customer, status, version, active, created_at } = data;
  return {
    ...{ order_id, merchant_id, ...(customer && { customer }), status, version, active, created_at },
    updated_at: data.recorded_at,
    source: data.source,
    metadata: data.order_metadata,
    allowed_next: data.allowed_next,
  };
}

/**
 * Live orders over a WebSocket that is opened again whenever it ends. All that happens comes as a
 * `CustomEvent`, after `orders`, `cursor` and `status` have been brought up to date:
 *
 * | event | detail |
 * |---|---|
 * | `change` | none: `orders` is another than before. Once a message, however many events it brought |
 * | `events` | the new events (`OrderEvent[]`) of one message, each once, in version order per order |
 * | `snapshot` | `{reason}`: `orders` was replaced as a whole; what lies between has no events. `reason`: why the server began anew, or null |
 * | `status` | a `Status` |
 * | `problem` | an RFC 9457 document: a message was refused, or the end is near |
 * | `gap` | `{order_id, after, version}`: events are missing, which is a fault of the server. What came was applied |
 */
export class LiveOrders extends EventTarget {
  /** How many connections were opened so far; more than 1 means that the stream was interrupted. */
  connections = 0;

  #url;
  #token;
  #view;
  #notices = []; // of one message
  #silenceSeconds;
  #status = { state: "stopped", reason: "" };
  #attempt = 0; // counts up when a connection is given up, so that what it still says is not heard
  #socket = null;
  #timers = new Map();
  #environment = null; // cancels the listeners on window and document
  #subscribedToken = null;
  #newestToken = null; // that the server was given on this connection
  #spareToken = null; // got to compare it with the one that was refused
  #snapshotOf = null; // whose orders these are
  #unservedTokens = 0; // refused one after the other, before anything else came
  #failures = 0;
  #liveSince = null;
  #warned = false; // of an origin that seems to be refused
  #heardAt = 0;
  #problem = undefined;

  /**
   * @param {string|URL} url  Of the stream. It may be relative to the page, and begin with http or ws.
   * @param {string|(() => string|Promise<string>)} token  A token, or a function that gives a good one: it is
   *   asked before each connection and before a token expires. When it throws, it is asked again later.
   * @param {Object} [options]
   * @param {Filter} [options.filter]
   * @param {string} [options.after]  A cursor of earlier, to go on from there.
   * @param {boolean} [options.snapshot]  False: only what comes from now on.
   * @param {number} [options.silenceSeconds]  A connection that brought nothing for so long is replaced.
   */
  constructor(url, token, { filter = {}, after, snapshot, silenceSeconds = SILENCE_SECONDS } = {}) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    if (!/^wss?:$/.test(this.#url.protocol)) throw new TypeError(`not the address of a stream: ${url}`);
    this.#token = token;
    this.#silenceSeconds = silenceSeconds;
    this.#view = new OrderView(filter, (name, detail) => this.#told(name, detail), { after, snapshot });
  }

  /** @returns {Map<string, Order>} By order id. To be read only. A snapshot replaces the whole map. */
  get orders() {
    return this.#view.orders;
  }

  /** @returns {string|null} Everything up to here is in `orders` and was told. Null while a snapshot arrives. */
  get cursor() {
    return this.#view.cursor;
  }

  /** @returns {number} How often versions were found missing; anything but 0 is a fault of the server. */
  get gaps() {
    return this.#view.gaps;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** Connects, and stays connected until `stop()` or until it is refused. */
  start() {
    if (this.#environment) return;
    this.#environment = new AbortController();
    this.#watchEnvironment(this.#environment.signal);
    this.#failures = this.#unservedTokens = 0;
    this.#connect();
  }

  /** Ends the connection. `orders` stays as it is, and `start()` goes on from there. */
  stop() {
    if (!this.#environment) return;
    this.#end();
    this.#become({ state: "stopped" });
  }

  /** Gives up the connection, or the wait for the next attempt, and connects anew in a moment. Nothing is lost. */
  reconnect(reason = "asked for") {
    if (!this.#environment) return;
    this.#failures = 0;
    this.#retry(reason);
  }

  async #connect() {
    this.#become({ state: "connecting" });
    this.#after("connect", CONNECT_SECONDS, () => this.#retry("no connection in time"));
    this.#problem = undefined;
    const current = this.#currency();
    let token;
    try {
      token = this.#spareToken ?? (await this.#askToken());
    } catch (error) {
      if (current()) this.#retry(`no token: ${error?.message ?? error}`);
      return;
    }
    this.#spareToken = null;
    if (current()) this.#open(token, current);
  }

  #open(token, current) {
    const socket = (this.#socket = new WebSocket(this.#url));
    const hear = (kind, handle) => socket.addEventListener(kind, (event) => current() && handle(event));
    hear("open", () => this.#opened(token));
    hear("message", ({ data }) => this.#received(data));
    hear("close", ({ code, reason }) => this.#closed(code, reason));
  }

  #opened(token) {
    this.#cancel("connect");
    this.connections += 1;
    this.#subscribedToken = this.#newestToken = token;
    if (this.#view.fromSnapshot && entitlement(token) !== this.#snapshotOf) {
      // A cursor would not bring the orders that are new to this token, nor take away the others.
      this.#view.forget("entitlement-changed");
    }
    this.#send({ type: "subscribe", token, heartbeat: true, ...this.#view.request() });
    this.#heardAt = Date.now();
    this.#endSilence(this.#silenceSeconds * (0.75 + Math.random() / 4)); // clients that came together spread
    this.#refreshLater();
    this.#become({ state: "catching-up" });
  }

  #received(data) {
    this.#heardAt = Date.now();
    const current = this.#currency();
    try {
      const message = parsed(data);
      const events = this.#view.take(message);
      if (message.type !== "problem") this.#unservedTokens = 0;
      this.#announce(events);
      // A listener may have stopped this, or connected anew.
      if (current()) this.#follow(message);
    } catch (error) {
      if (!(error instanceof GarbledMessage)) throw error;
      this.#retry(error.message);
    }
  }

  #follow({ type, reason }) {
    if (type === "resync") this.#become({ state: "catching-up", reason });
    if (type !== "live") return;
    this.#liveSince = Date.now();
    this.#become({ state: "live" });
  }

  #announce(events) {
    const notices = this.#notices.splice(0);
    for (const [name, detail] of notices) this.#dispatch(name, detail);
    if (events.length) this.#dispatch("events", events);
    if (events.length || notices.some(([name]) => name === "snapshot")) this.#dispatch("change", null);
  }

  #told(name, detail) {
    this.#notices.push([name, detail]);
    if (name === "snapshot") this.#snapshotOf = entitlement(this.#newestToken);
    if (name !== "problem") return;
    this.#problem = detail;
    this.#newestToken = this.#subscribedToken; // what was refused may be the newest one
  }

  async #closed(code, reason) {
    const current = this.#currency();
    this.#abandonTimers();
    this.#socket = null;
    const final = await this.#isFinal(code);
    if (!current()) return;
    if (final) this.#refuse(code, reason);
    else if (code !== NO_CLOSE) this.#retry(reason || `closed with ${code}`, code);
    else if (this.connections > 0 || !globalThis.location) this.#retry("connection lost");
    else await this.#failToOpen();
  }

  /** Browsers do not say why a handshake failed. A server that answers all the same has refused it. */
  async #failToOpen() {
    const current = this.#currency();
    this.#after("connect", CONNECT_SECONDS, () => this.#retry("no connection in time"));
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
    this.#unservedTokens += 1;
    if (this.#unservedTokens > 1) return true; // a fresh one was refused, too
    this.#become({ state: "connecting" });
    this.#after("connect", CONNECT_SECONDS, () => this.#retry("no token in time", code));
    try {
      this.#spareToken = await this.#askToken();
      return this.#spareToken === this.#subscribedToken;
    } catch {
      return false;
    }
  }

  #refuse(code, reason) {
    const problem = this.#problem;
    this.#end();
    const words = problem?.detail ?? `closed with ${code} ${reason}`.trim();
    this.#become({ state: "refused", reason: words, code, problem });
  }

  #retry(reason, code) {
    const stable = this.#liveSince !== null && Date.now() - this.#liveSince >= STABLE_SECONDS * 1000;
    this.#liveSince = null;
    this.#failures = stable ? 1 : this.#failures + 1;
    this.#abandon();
    const seconds = waitSeconds(this.#failures);
    this.#after("retry", seconds, () => this.#connect());
    const retryAt = new Date(Date.now() + seconds * 1000);
    this.#become({ state: "waiting", reason, code, retryAt, problem: this.#problem });
  }

  #abandon() {
    this.#attempt += 1;
    this.#abandonTimers();
    this.#socket?.close();
    this.#socket = null;
  }

  #end() {
    this.#abandon();
    this.#spareToken = null;
    this.#environment.abort();
    this.#environment = null;
  }

  async #askToken() {
    return typeof this.#token === "string" ? this.#token : this.#token();
  }

  #refreshLater(again = false) {
    const seconds = typeof this.#token === "string" ? null : refreshIn(this.#newestToken, again);
    if (seconds === null) return;
    if (seconds > MAX_TIMER_SECONDS) this.#after("refresh", MAX_TIMER_SECONDS, () => this.#refreshLater());
    else this.#after("refresh", seconds, () => this.#refresh());
  }

  async #refresh() {
    const current = this.#currency();
    const newest = this.#newestToken;
    const token = await this.#askToken().catch(() => newest);
    if (!current() || !this.#socket) return;
    if (token !== newest) this.#send({ type: "refresh", token });
    this.#newestToken = token;
    this.#refreshLater(token === newest);
  }

  #endSilence(limit) {
    const left = limit - this.#silence();
    if (left <= 0) this.#retry(`nothing heard for ${Math.round(limit)} s`);
    else this.#after("silence", left, () => this.#endSilence(limit));
  }

  #silence() {
    return (Date.now() - this.#heardAt) / 1000;
  }

  #watchEnvironment(signal) {
    const visible = () => globalThis.document?.visibilityState === "visible" && this.#looked();
    globalThis.addEventListener?.("offline", () => this.reconnect("offline"), { signal });
    globalThis.addEventListener?.("online", () => this.reconnect("online again"), { signal });
    globalThis.document?.addEventListener("visibilitychange", visible, { signal });
  }

  #looked() {
    const { state } = this.#status;
    const doubtful = this.#socket !== null && this.#silence() > SILENCE_AT_RETURN_SECONDS;
    if (state === "waiting" || (doubtful && state !== "connecting")) this.reconnect("the page is visible again");
  }

  /** A function that says whether this connection, or attempt, still counts. */
  #currency() {
    const attempt = this.#attempt;
    return () => attempt === this.#attempt;
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #become(status) {
    this.#status = { reason: "", ...status };
    this.#dispatch("status", this.#status);
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #after(name, seconds, act) {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(act, seconds * 1000));
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #abandonTimers() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
  }
}

/** Whether anything answers where the stream is. What it answers cannot be read from a foreign origin. */
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

/** How long to wait after so many failures (1 and more) in a row, in seconds. */
export function waitSeconds(failures) {
  const longest = Math.min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (failures - 1));
  return longest * (0.5 + Math.random() / 2);
}

/**
 * Seconds until a token should be replaced; null if it does not say when it expires. `again`: there was no
 * other one just now.
 */
export function refreshIn(token, again = false) {
  const { exp, iat } = claimsOf(token);
  if (typeof exp !== "number") return null;
  let left = exp - Date.now() / 1000;
  // The token's life makes up for a clock that is wrong here.
  if (typeof iat === "number") left = left > 0 ? Math.min(left, exp - iat) : exp - iat;
  if (left <= 0) return null;
  if (again) return Math.max(MIN_REFRESH_SECONDS, left / 2);
  const ahead = Math.min(REFRESH_SECONDS, left / 4) * (0.5 + Math.random() / 2);
  return Math.max(MIN_REFRESH_SECONDS, left - ahead);
}

/** Claims that issuers give each token anew, and that say nothing of what it is for. */
const OF_ONE_TOKEN = new Set([
  ...["exp", "iat", "nbf", "jti", "auth_time", "nonce", "at_hash", "sid", "session_state"],
  ...["origin_jti", "event_id", "uti", "aio", "rh"],
]);

/**
 * Whose token it is, and for what; tokens that agree in this are shown the same orders. Which claims say so, only
 * the services know: all are compared that tokens of one login have in common.
 */
function entitlement(token) {
  const claims = Object.entries(claimsOf(token)).filter(([name]) => !OF_ONE_TOKEN.has(name));
  return JSON.stringify(claims.sort(([one], [another]) => (one < another ? -1 : 1)));
}

/** What a token says, without verifying it: that is for the server. */
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
    // said below
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
