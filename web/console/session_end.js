/**
 * The warning before a token expires, in time to sign in again without losing input.
 *
 * @module session_end
 */

import { byId, setText } from "./dom.js";
import { hourAndMinute } from "./format.js";

const WARN_SECONDS = 5 * 60;

/** Checks the expiry once a second, and shows the warning where the user can reach it. */
export class SessionEnd {
  #session;
  #now;
  #element = byId("session-end");
  #text = byId("session-end-text"); // kept, because a dialog that is drawn again removes the warning from the page
  #home = document.createComment("the place of the warning outside of dialogs");

  /** @param {{session: Object, now: () => number, renew: () => void}} use  `now` in ms, by the server's clock. */
  constructor({ session, now, renew }) {
    this.#session = session;
    this.#now = now;
    this.#element.before(this.#home);
    byId("session-end-renew").addEventListener("click", renew);
    session.addEventListener("change", () => this.#draw());
    setInterval(() => this.#draw(), 1000);
    this.#draw();
  }

  #draw() {
    const { exp } = this.#session.claims;
    const left = typeof exp === "number" ? exp - this.#now() / 1000 : Infinity;
    this.#element.hidden = this.#session.renews || !(left > 0 && left <= WARN_SECONDS);
    if (this.#element.hidden) return;
    const minutes = Math.ceil(left / 60);
    const inTime = minutes === 1 ? "in less than a minute" : `in ${minutes} minutes`;
    const typed = this.#session.isProvided ? "Signing in again leaves this page: send what you have typed first." : "What you have typed is kept.";
    setText(this.#text, `Your sign-in ends at ${hourAndMinute(exp * 1000)}, ${inTime}. ${typed}`);
    this.#place();
  }

  /** While a modal dialog is open, only its contents can be used. */
  #place() {
    const dialog = document.querySelector("dialog[open]:not(#sign-in)");
    if (dialog && this.#element.parentElement !== dialog) dialog.prepend(this.#element);
    else if (!dialog && this.#home.nextSibling !== this.#element) this.#home.after(this.#element);
  }
}
