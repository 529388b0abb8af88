/**
 * Who is at the screen: a token, kept for this tab alone and only until it is closed.
 *
 * @module session
 */

const TOKEN = "tracking.token";
const LEFT = "tracking.signed-out";

/** Events: `change`, when another token is there or none. */
export class Session extends EventTarget {
  #offered;

  /** @param {string} [offered]  A token for whoever comes; only demonstrations have one. */
  constructor(offered) {
    super();
    this.#offered = offered ?? null;
  }

  /** Whether this stack signs readers in by itself. */
  get isOffered() {
    return this.#offered !== null;
  }

  /** @returns {string|null} */
  get token() {
    const own = sessionStorage.getItem(TOKEN);
    return own ?? (sessionStorage.getItem(LEFT) ? null : this.#offered);
  }

  /** What the token says of itself; {} without one. Nothing here trusts it: the services verify. */
  get claims() {
    return claimsOf(this.token ?? "");
  }

  get canWrite() {
    return this.#scopes.some((scope) => scope === "orders:write" || scope === "orders:admin");
  }

  /** The merchants that the token names; empty where it is for all of them. */
  get merchants() {
    const { merchants } = this.claims;
    return Array.isArray(merchants) ? merchants.filter((merchant) => merchant !== "*").map(String) : [];
  }

  get #scopes() {
    const { scope } = this.claims;
    return typeof scope === "string" ? scope.split(" ") : [];
  }

  signIn(token) {
    sessionStorage.removeItem(LEFT);
    sessionStorage.setItem(TOKEN, token);
    this.dispatchEvent(new Event("change"));
  }

  /** Takes the token that is offered to everybody. */
  signInAsOffered() {
    sessionStorage.removeItem(LEFT);
    sessionStorage.removeItem(TOKEN);
    this.dispatchEvent(new Event("change"));
  }

  signOut() {
    sessionStorage.removeItem(TOKEN);
    sessionStorage.setItem(LEFT, "1");
    this.dispatchEvent(new Event("change"));
  }
}

/** The claims of a token, unverified; {} for what is none. */
export function claimsOf(token) {
  try {
    const payload = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(payload, (byte) => byte.charCodeAt(0))));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {};
  }
}

/** A pasted token without what people paste around it. */
export const tidyToken = (text) => text.trim().replace(/^(authorization:\s*)?bearer\s+/i, "").replace(/\s+/g, "");
