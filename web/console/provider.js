/**
 * Signing in with an OpenID Connect provider: authorization code with PKCE, renewal by refresh tokens, sign-out.
 * Loaded only where a provider is set.
 *
 * @module provider
 */

import * as oauth from "./oauth4webapi.js";
import { faultOf, insecurePage, SignInFault, unknownCallback } from "./provider_words.js";
import { claimsOf } from "./session.js";

/** What belongs to the callback of this tab; its name in `sessionStorage`. */
const REQUEST = "tracking.sign-in-request";

const ATTEMPT_MS = 10_000;
const REVOKE_MS = 3_000;

/** The difference of clocks that is still accepted. */
const TOLERANCE_SECONDS = 60;

/** A token is renewed this time before its end, or in the last third of its lifetime if that is shorter: a little
 * earlier than the client of the stream asks for another one. */
const RENEW_MS = 90_000;

/** The shortest time between two attempts to renew. */
const RETRY_MS = 3_000;

/** Tokens are in memory only: a tab that is duplicated would use the same refresh token, which ends both sessions. */
export class Provider {
  #issuer;
  #settings;
  #client;
  #server = null;
  #tokens = null; // access, refresh and id token; the lifetime by this device's clock
  #renewal = null;
  #retryAt = 0;
  #prompt; // of the next sign-in

  /**
   * @param {{issuer: string, client_id: string, scope: string, resource: string|null, audience: string|null}} settings
   * @param {number} skewSeconds  What to add to this device's clock to get the server's.
   */
  constructor(settings, skewSeconds) {
    this.#issuer = new URL(settings.issuer);
    this.#settings = settings;
    this.#client = {
      client_id: settings.client_id,
      [oauth.clockSkew]: Math.round(skewSeconds),
      [oauth.clockTolerance]: TOLERANCE_SECONDS,
    };
  }

  /** The provider's name for people. */
  get host() {
    return this.#issuer.host;
  }

  /** @returns {string|null} */
  get token() {
    return this.#tokens?.access ?? null;
  }

  /** True if the session goes on without the person. */
  get renews() {
    return Boolean(this.#tokens?.refresh);
  }

  forget() {
    this.#tokens = null;
  }

  /** Forgets somebody who may see nothing. The provider would sign the same person in again without asking. */
  askForAnother() {
    this.forget();
    this.#prompt = "login";
  }

  /**
   * Leaves this page for the provider's. It returns to the address that this page has now.
   * @param {{prompt?: string}} [how]  `none`: the provider must not ask the person anything.
   * @throws {SignInFault}
   */
  async begin({ prompt = this.#prompt } = {}) {
    const server = await this.#speak(() => this.#discover());
    const address = new URL(server.authorization_endpoint);
    // A script's address would be run as a script.
    if (address.protocol !== "https:" && address.protocol !== this.#issuer.protocol) throw faultOf({ code: "protocol" }, this.host);
    const verifier = oauth.generateRandomCodeVerifier();
    const request = {
      state: oauth.generateRandomState(),
      nonce: oauth.generateRandomNonce(),
      verifier,
      returnTo: location.search + location.hash,
    };
    sessionStorage.setItem(REQUEST, JSON.stringify(request));
    const { client_id, scope, resource, audience } = this.#settings;
    const parameters = {
      ...{ response_type: "code", client_id, scope, redirect_uri: redirectUri() },
      ...{ state: request.state, nonce: request.nonce },
      ...{ code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256" },
      ...(resource && { resource }),
      ...(audience && { audience }),
      ...(prompt && { prompt }),
    };
    for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
    // Without a person's click, the button "back" must not lead here again.
    if (prompt === "none") location.replace(address);
    else location.assign(address);
  }

  /**
   * Completes the sign-in with the parameters of the callback, and restores the address that it began at.
   * @throws {SignInFault}
   */
  async finish(parameters) {
    const request = takeRequest(parameters.get("state"));
    // No address but this page's own, whatever the parameters say.
    history.replaceState(null, "", `${location.pathname}${request?.returnTo ?? ""}`);
    if (request === null) throw unknownCallback();
    await this.#speak(async () => {
      const server = await this.#discover();
      const callback = oauth.validateAuthResponse(server, this.#client, parameters, request.state);
      const options = this.#options();
      const began = Date.now();
      const response = await oauth.authorizationCodeGrantRequest(
        ...[server, this.#client, oauth.None(), callback, redirectUri(), request.verifier, options],
      );
      const checks = { expectedNonce: request.nonce, requireIdToken: true };
      this.#keep(await oauth.processAuthorizationCodeResponse(server, this.#client, response, checks), began);
    });
  }

  /**
   * Renews the tokens if that is due. The token that is still valid is kept if the provider does not answer.
   * @throws {SignInFault}
   */
  async renewIfDue() {
    const tokens = this.#tokens;
    if (!tokens?.refresh || Date.now() < tokens.renewAt) return;
    const isOver = Date.now() >= tokens.endsAt;
    if (!this.#renewal && Date.now() < this.#retryAt && !isOver) return;
    this.#renewal ??= this.#renew(tokens).finally(() => {
      this.#renewal = null;
    });
    try {
      await this.#renewal;
    } catch (error) {
      if (error.isFinal || isOver) throw error;
    }
  }

  async #renew(tokens) {
    this.#retryAt = Date.now() + RETRY_MS;
    const began = Date.now();
    const answer = await this.#speak(async () => {
      const server = await this.#discover();
      const response = await oauth.refreshTokenGrantRequest(
        ...[server, this.#client, oauth.None(), tokens.refresh, this.#options()],
      );
      return oauth.processRefreshTokenResponse(server, this.#client, response);
    });
    if (this.#tokens !== tokens) return; // signed out meanwhile
    const sub = oauth.getValidatedIdTokenClaims(answer)?.sub;
    if (sub !== undefined && sub !== tokens.sub) throw new SignInFault("The provider renewed the session of somebody else.", { isFinal: true });
    this.#keep(answer, began);
  }

  /**
   * Ends the session here, and withdraws its refresh token.
   * @returns {Promise<URL|null>} Where the provider ends its own session; null if it has no such page, or is away.
   */
  async leave() {
    const tokens = this.#tokens;
    this.forget();
    if (!tokens || !this.#server) return null;
    const server = this.#server;
    if (tokens.refresh && server.revocation_endpoint) {
      const options = { ...this.#options(REVOKE_MS), additionalParameters: { token_type_hint: "refresh_token" } };
      try {
        await oauth.revocationRequest(server, this.#client, oauth.None(), tokens.refresh, options);
      } catch {
        return null;
      }
    }
    if (!server.end_session_endpoint) return null;
    const address = new URL(server.end_session_endpoint);
    if (address.protocol !== "https:" && address.protocol !== this.#issuer.protocol) return null;
    address.searchParams.set("id_token_hint", tokens.id);
    address.searchParams.set("client_id", this.#client.client_id);
    address.searchParams.set("post_logout_redirect_uri", redirectUri());
    return address;
  }

  async #discover() {
    try {
      this.#server ??= await oauth.processDiscoveryResponse(this.#issuer, await oauth.discoveryRequest(this.#issuer, this.#options()));
    } catch (error) {
      throw faultOf(error, this.host, `${this.#issuer.href.replace(/\/$/, "")}/.well-known/openid-configuration`);
    }
    return this.#server;
  }

  /** The settings allow http for an issuer on this machine only. */
  #options(milliseconds = ATTEMPT_MS) {
    const { resource } = this.#settings;
    return {
      signal: AbortSignal.timeout(milliseconds),
      [oauth.allowInsecureRequests]: this.#issuer.protocol === "http:",
      ...(resource && { additionalParameters: { resource } }),
    };
  }

  async #speak(talk) {
    if (!isSecureContext) throw insecurePage();
    try {
      return await talk();
    } catch (error) {
      throw faultOf(error, this.host);
    }
  }

  /** A provider that does not rotate refresh tokens, or sends no new ID token, leaves the former ones valid. */
  #keep(answer, began) {
    const former = this.#tokens;
    const life = lifetimeSeconds(answer) * 1000;
    this.#tokens = {
      access: answer.access_token,
      refresh: answer.refresh_token ?? former?.refresh,
      id: answer.id_token ?? former?.id,
      sub: oauth.getValidatedIdTokenClaims(answer)?.sub ?? former?.sub,
      endsAt: began + life,
      renewAt: began + life - Math.min(RENEW_MS, life / 3),
    };
    this.#retryAt = 0;
  }
}

/** `expires_in` is optional; without both the token is never renewed. */
function lifetimeSeconds({ expires_in, access_token }) {
  const { exp, iat } = claimsOf(access_token);
  return expires_in ?? (typeof exp === "number" && typeof iat === "number" ? exp - iat : Infinity);
}

/** The folder of the console: the one address to register with the provider. */
const redirectUri = () => new URL(".", location.origin + location.pathname).href;

/** The request that this callback belongs to, once; null if there is none. */
function takeRequest(state) {
  const request = JSON.parse(sessionStorage.getItem(REQUEST) ?? "null");
  if (request === null || request.state !== state) return null;
  sessionStorage.removeItem(REQUEST);
  return request;
}
