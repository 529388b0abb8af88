/**
 * The session: a token of the provider, in memory, or a pasted one, kept for this tab alone until it is closed.
 *
 * @module session
 */

const TOKEN = "tracking.token";

/** Shared by all tabs, without a token: the user rejected the token of the demonstration, or signed out. */
const LEFT = "tracking.signed-out";

/** Shared by all tabs: somebody signed in with the provider here, and did not sign out. */
export const AT_PROVIDER = "tracking.signed-in-with-provider";

/**
 * Dispatches `change` when the token changes, but not when it is renewed. Its detail has `isSamePerson`: true if the
 * token before was of the same person, so that the contents of the page may stay. Dispatches `ended`, with the reason,
 * when the provider no longer renews the token.
 */
export class Session extends EventTarget {
  #offered;
  #names;
  #provider;

  /**
   * @param {string} [offered]  A token for every visitor; only demonstrations have one.
   * @param {{scope: string[], merchants: string, writing: string[], correcting: string[], managing: string[]}} names
   *   The claims of scope and merchants, and the values of the scope that allow writing, corrections and webhooks.
   * @param {Object|null} [provider]  Signs people in, if one is set.
   */
  constructor(offered, names, provider = null) {
    super();
    this.#offered = offered ?? null;
    this.#names = names;
    this.#provider = provider;
    if (provider?.token) sessionStorage.removeItem(TOKEN);
    if (provider) addEventListener("storage", ({ key, newValue }) => key === AT_PROVIDER && newValue === null && this.#signedOutElsewhere());
  }

  /** True if this installation offers a token to every visitor. */
  get isOffered() {
    return this.#offered !== null;
  }

  /** @returns {string|null} */
  get token() {
    const own = sessionStorage.getItem(TOKEN);
    return own ?? this.#provider?.token ?? (localStorage.getItem(LEFT) ? null : this.#offered);
  }

  /** True if the token is the provider's. */
  get isProvided() {
    return this.token !== null && this.token === this.#provider?.token;
  }

  /** True if the token is renewed without its holder. */
  get renews() {
    return this.isProvided && this.#provider.renews;
  }

  /**
   * The token, renewed if that is due.
   * @returns {Promise<string|null>}
   * @throws {Error} It has expired, and the provider does not answer.
   */
  async freshToken() {
    if (!this.isProvided) return this.token;
    try {
      await this.#provider.renewIfDue();
    } catch (error) {
      if (error.isFinal) this.#end(error.message);
      throw error;
    }
    return this.token;
  }

  #end(reason) {
    if (!this.isProvided) return;
    this.#provider.forget();
    this.dispatchEvent(new CustomEvent("ended", { detail: reason }));
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
      this.#provider?.forget();
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
      this.#provider?.forget();
      sessionStorage.removeItem(TOKEN);
      localStorage.removeItem(AT_PROVIDER);
      localStorage.setItem(LEFT, "1");
    });
  }

  /**
   * Signs out here and in the other tabs of the provider's session.
   * @returns {Promise<URL|null>} Where to end the session of the provider; null if it cannot be ended.
   */
  signOutAtProvider() {
    // First, because the other tabs must not wait for the provider, and this one may be closed meanwhile.
    sessionStorage.removeItem(TOKEN);
    localStorage.removeItem(AT_PROVIDER);
    localStorage.setItem(LEFT, "1");
    return this.#provider.leave();
  }

  /** A tab whose session has ended still has the orders in its page. */
  #signedOutElsewhere() {
    if (this.isProvided || this.token === null) this.#change(() => this.#provider.forget());
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
export function claimAt(claims, name) {
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
