/**
 * Who is at the screen: a token, kept for this tab alone and only until it is closed.
 *
 * @module session
 */

const TOKEN = "tracking.token";

/** For all tabs, and no token: somebody here chose not to be who the demonstration offers, or signed out. */
const LEFT = "tracking.signed-out";

/**
 * Events: `change`, when another token is there or none; its detail has `isSamePerson`: whether the token before was
 * of the same person, so that what that one was shown and typed may stay.
 */
export class Session extends EventTarget {
  #offered;
  #names;

  /**
   * @param {string} [offered]  A token for whoever comes; only demonstrations have one.
   * @param {{scope: string[], merchants: string, writing: string[]}} names  Where tokens say what they are for, and
   *   which values of their scope allow to write.
   */
  constructor(offered, names) {
    super();
    this.#offered = offered ?? null;
    this.#names = names;
  }

  /** Whether this stack signs readers in by itself. */
  get isOffered() {
    return this.#offered !== null;
  }

  /** @returns {string|null} */
  get token() {
    const own = sessionStorage.getItem(TOKEN);
    return own ?? (localStorage.getItem(LEFT) ? null : this.#offered);
  }

  /** What the token says of itself; {} without one. Nothing here trusts it: the services verify. */
  get claims() {
    return claimsOf(this.token ?? "");
  }

  get canWrite() {
    return this.#scopes.some((scope) => this.#names.writing.includes(scope));
  }

  /** The merchants that the token names; empty where it is for all of them. */
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

  /** Takes the token that is offered to everybody. */
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

/** The claim of that name, or at the end of that path; undefined where there is none. */
function claimAt(claims, name) {
  if (Object.hasOwn(claims, name)) return claims[name];
  return name.split("/").reduce((value, part) => (Object.hasOwn(Object(value), part) ? value[part] : undefined), claims);
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
