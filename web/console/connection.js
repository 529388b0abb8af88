/**
 * The state of the connection: live, catching up, reconnecting, or not connected.
 *
 * @module connection
 */

import { announce, byId, setAttribute, setText } from "./dom.js";
import { decimal, number, timeOfDay } from "./format.js";

/** A shorter interruption is not shown. */
const PATIENCE_MS = 700;

/** Shown at the state, so that it can be reported. */
const FALLBACK = "By server-sent events: WebSockets do not get through here";

export class Connection {
  #store;
  #session;
  #light = byId("connection");
  #words = byId("connection-text");
  #banner = byId("stale");
  #bannerText = byId("stale-text");
  #since = performance.now(); // when it stopped being live
  #wasLive = false;
  #announced = null;
  #timer = null;

  constructor(store, session) {
    this.#store = store;
    this.#session = session;
    store.addEventListener("status", () => this.#draw());
    session.addEventListener("change", () => this.#draw());
    byId("stale-retry").addEventListener("click", () => store.reconnect());
    setInterval(() => this.#draw(), 1000);
    this.#draw();
  }

  #draw() {
    clearTimeout(this.#timer);
    const state = this.#state;
    const live = state === "live";
    if (!live && this.#wasLive) this.#since = performance.now();
    this.#wasLive = live;
    const long = performance.now() - this.#since >= PATIENCE_MS;
    if (!live && !long) this.#timer = setTimeout(() => this.#draw(), PATIENCE_MS);
    const words = this.#text(state);
    this.#light.dataset.state = state;
    setAttribute(this.#light, "title", this.#store.status.transport === "event-stream" ? FALLBACK : "");
    setText(this.#words, words);
    this.#drawBanner(state, live || !long, words);
    this.#announce(state, long);
  }

  /** The state of the stream, or signed out. */
  get #state() {
    const { state } = this.#store.status;
    if (this.#session.token === null) return "signed-out";
    if (state !== "stopped") return state;
    return this.#store.currentAt === null ? "connecting" : "signed-out";
  }

  #text(state) {
    const { status, caughtUp } = this.#store;
    switch (state) {
      case "live":
        return "Live";
      case "catching-up":
        return caughtUp ? `Catching up · ${number(caughtUp)}` : "Catching up";
      case "waiting":
        return `Reconnecting in ${decimal(Math.max(0, (status.retryAt - Date.now()) / 1000))} s`;
      case "connecting":
        return "Connecting";
      default:
        return "Signed out";
    }
  }

  #drawBanner(state, quiet, words) {
    const { currentAt, status } = this.#store;
    const stale = !quiet && currentAt !== null;
    document.documentElement.dataset.stale = String(stale);
    this.#banner.hidden = !stale;
    if (!stale) return;
    this.#banner.dataset.state = state;
    byId("stale-retry").hidden = state !== "waiting";
    const why = state === "waiting" && status.reason ? ` (${status.reason})` : "";
    setText(this.#bannerText, `Not live: this is how things stood at ${timeOfDay(currentAt)}. ${words}${why}.`);
  }

  #announce(state, long) {
    const next = state === "live" ? "live" : long ? "away" : this.#announced;
    if (next === this.#announced) return;
    if (this.#announced !== null) announce(next === "live" ? "The board is live." : "The board is not live.");
    this.#announced = next;
  }
}
