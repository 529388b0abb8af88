/**
 * The session: a token, kept for this tab alone and only until it is closed.
 *
 * @module session
 */

const TOKEN = "tracking.token";

/** Shared by all tabs, without a token: the user rejected the token of the demonstration, or signed out. */
const LEFT = "tracking.signed-out";

/**
 * Dispatches `change` when the token changes. Its detail has `isSamePerson`: true if the token before was
 * of the same person, so that the contents of the page may stay.
 */
export class Session extends EventTarget {
  #offered;
  #names;

  /**
   * @param {string} [offered]  A token for every visitor; only demonstrations have one.
   * @param {{scope: string[], merchants: string, writing: string[], correcting: string[], managing: string[]}} names
   *   The claims of scope and merchants, and the values of the scope that allow writing, corrections and webhooks.
   */
  constructor(offered, names) {
    super();
    this.#offered = offered ?? null;
    this.#names = names;
  }

  /** True if this installation offers a token to every visitor. */
  get isOffered() {
    return this.#offered !== null;
  }

  /** @returns {string|null} */
  get token() {
    const own = sessionStorage.getItem(TOKEN);
    return own ?? (localStorage.getItem(LEFT) ? null : this.#offered);
  }

  /** The unverified claims of the token; {} without one. Only the services verify them. */
  get claims() {
    return claimsOf(this.token ?? "");
  }

  get canWrite() {
    return this.#scopes.some((scope) => this.#names.writing.includes(scope));
  }

  get canCorrect() {
    return this.#scopes.some((scope) => this.#names.correcting?.includes(scope) ?? false); // an earlier release names none
  }

  get canManageWebhooks() {
    return this.#scopes.some((scope) => this.#names.managing?.includes(scope) ?? false);
  }

  /** The merchants of the token; empty if it is for all of them. */
  get merchants() {
    const merchants = claimAt(this.claims, this.#names.merchants);
    const texts = typeof merchants === "string" ? [merchants] : Array.isArray(merchants) ? merchants.map(String) : [];
    return texts.flatMap((text) => text.split(/[\s,]+/)).filter((merchant) => merchant !== "" && merchant !== "*");
  }

  get #scopes() {
    const scope = this.#names.scope.map((name) => claimAt(this.claims, name)).find((value) => value !== undefined);
    return typeof scope === "string" ? scope.split(" ") : Array.isArray(scope) ? scope : [];
  }

  signIn(token) {
    this.#change(() => {
      localStorage.setItem(LEFT, "1");
      sessionStorage.setItem(TOKEN, token);
    });
  }

  /** Uses the token that is offered to every visitor. */
  signInAsOffered() {
    this.#change(() => {
      localStorage.removeItem(LEFT);
      sessionStorage.removeItem(TOKEN);
    });
  }

  signOut() {
    this.#change(() => {
      sessionStorage.removeItem(TOKEN);
      localStorage.setItem(LEFT, "1");
    });
  }

  #change(act) {
    const before = this.claims;
    act();
    const { sub, iss } = this.claims;
    const isSamePerson = sub !== undefined && sub === before.sub && iss === before.iss;
    this.dispatchEvent(new CustomEvent("change", { detail: { isSamePerson } }));
  }
}

/** The claim with this name or path; undefined if there is none. */
function claimAt(claims, name) {
  if (Object.hasOwn(claims, name)) return claims[name];
  return name.split("/").reduce((value, part) => (Object.hasOwn(Object(value), part) ? value[part] : undefined), claims);
}

/** The unverified claims of a token; {} if it is not a token. */
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
