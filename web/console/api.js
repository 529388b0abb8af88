/**
 * The public API over HTTP. A refusal is an error with the problem document that the service sent.
 *
 * @module api
 */

const SEND_ATTEMPTS = 4;
const MAX_WAIT_SECONDS = 8;

/** A service refused the request. */
export class Refusal extends Error {
  /** @param {Object} problem  An RFC 9457 document. */
  constructor(problem, retryAfter = null) {
    super(problem.detail ?? problem.title ?? "refused");
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  get slug() {
    return String(this.problem.type ?? "").replace(/^.*\/problems\//, "");
  }
}

/** No service answered. */
export class Unreachable extends Error {}

export class Api {
  #query;
  #ingest;
  #session;
  #onSignedOut;

  /**
   * @param {{token?: string|null, freshToken: () => Promise<string|null>}} session
   * @param {(problem: Object) => void} onSignedOut  Is called when its token is no longer accepted.
   */
  constructor({ query, ingest }, session, onSignedOut) {
    this.#query = query;
    this.#ingest = ingest;
    this.#session = session;
    this.#onSignedOut = onSignedOut;
  }

  /** True if there is an ingest to send to. */
  get canSend() {
    return this.#ingest !== null;
  }

  /**
   * Sends a GET to query and returns the answer. `attempts`: how often, while the service is busy or away.
   * @throws {Refusal|Unreachable}
   */
  get(path, parameters = new URLSearchParams(), { signal, attempts = 1 } = {}) {
    const text = parameters.toString();
    return this.#persist(attempts, `${this.#query}${path}${text && `?${text}`}`, { signal });
  }

  /**
   * Sends a change. Retries use the same idempotency key.
   * @param {string} [key]  That of an earlier attempt of the same change, if its outcome is unknown.
   * @returns {Promise<Object>} The result; `outcome` is `accepted` or `held` if it is not decided yet.
   * @throws {Refusal|Unreachable}
   */
  send(path, body, key = newKey()) {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
    return this.#persist(SEND_ATTEMPTS, `${this.#ingest}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  }

  /**
   * Sends a change to query, once.
   * @returns {Promise<Object|null>} Null: the answer is empty.
   * @throws {Refusal|Unreachable}
   */
  async change(method, path, body, key) {
    const headers = { ...(body && { "Content-Type": "application/json" }), ...(key && { "Idempotency-Key": key }) };
    const response = await this.#fetch(`${this.#query}${path}`, { method, headers, body: body && JSON.stringify(body) });
    return response.status === 204 ? null : response.json();
  }

  async #persist(attempts, address, request) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await (await this.#fetch(address, request)).json();
      } catch (error) {
        const wait = attempt < attempts ? secondsToWait(error, attempt) : null;
        if (wait === null) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait * 1000));
      }
    }
  }

  async #fetch(address, request) {
    const headers = { ...request.headers, Accept: "application/json, application/problem+json" };
    const token = await this.#token();
    if (token) headers.Authorization = `Bearer ${token}`;
    let response;
    try {
      // Without the browser's cache, where the second of two equal requests, of another window, waits for the first one.
      response = await fetch(address, { ...request, headers, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Unreachable("The service cannot be reached.");
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    // A token that has been renewed or replaced meanwhile says nothing about the new one.
    if (response.status === 401 && token === this.#session.token) this.#onSignedOut(problem);
    throw new Refusal(problem, Number(response.headers.get("Retry-After")) || null);
  }

  async #token() {
    try {
      return await this.#session.freshToken();
    } catch (error) {
      throw error.isFinal ? error : new Unreachable(error.message);
    }
  }
}

function secondsToWait(error, attempt) {
  if (error instanceof Unreachable) return Math.min(MAX_WAIT_SECONDS, 0.3 * 2 ** attempt);
  const passing = error instanceof Refusal && [429, 503].includes(error.problem.status);
  return passing ? Math.min(MAX_WAIT_SECONDS, error.retryAfter ?? attempt) : null;
}

async function problemOf(response) {
  try {
    const problem = await response.json();
    if (typeof problem === "object" && problem !== null) return { status: response.status, ...problem };
  } catch {
    // not JSON: see below
  }
  return { status: response.status, title: `The service answered ${response.status}` };
}

/** A unique update id. `crypto.randomUUID` does not exist on plain http. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
