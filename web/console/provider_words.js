/**
 * What a person is told when signing in with the provider fails.
 *
 * @module provider_words
 */

import { claimAt } from "./session.js";

/** The sign-in, or its renewal, failed. The message is for the person. `isFinal`: only a new sign-in helps. */
export class SignInFault extends Error {
  constructor(message, { isFinal = false } = {}) {
    super(message);
    this.isFinal = isFinal;
  }
}

/** Errors of OpenID Connect Core 3.1.2.6 to a request that must not ask the person anything. */
const NEEDS_A_PERSON = new Set(["login_required", "interaction_required", "consent_required", "account_selection_required"]);

/**
 * The fault for an error of the library, of `fetch` or of the provider, by its `code`.
 * @param {Error} error
 * @param {string} host  The provider's name for the person.
 */
export function faultOf(error, host) {
  if (error instanceof SignInFault) return error;
  if (mayPass(error)) return unreachable(host);
  const described = error.error_description ? `: ${error.error_description}` : ".";
  switch (error.code) {
    case "OAUTH_AUTHORIZATION_RESPONSE_ERROR":
      return authorizationFault(error.error, described, host);
    case "OAUTH_RESPONSE_BODY_ERROR":
      return tokenFault(error, described, host);
    case "OAUTH_JWT_TIMESTAMP_CHECK_FAILED":
      return final(`The clocks of ${host} and of this system differ too much: the sign-in is not valid at this time.`);
    case "OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED":
      return final(`The provider at ${host} calls itself something else than OIDC_ISSUER says. Tell your administrator.`);
    default:
      return final(`The answer of ${host} was not the one to this sign-in, so it was refused. Sign in again.`);
  }
}

/** True if there was no answer, none in time or half of one, or the provider or a proxy of it is busy or away. */
function mayPass({ code, cause, status = cause?.status }) {
  if (typeof code !== "string") return true; // of `fetch`: a number if it took too long
  if (code === "OAUTH_PARSE_ERROR" && !(cause instanceof SyntaxError)) return true;
  return status >= 500 || status === 429;
}

function authorizationFault(error, described, host) {
  if (NEEDS_A_PERSON.has(error)) return final(`Your session at ${host} has ended. Sign in again.`);
  if (error === "access_denied") return final(`The sign-in was refused or cancelled at ${host}.`);
  if (error === "temporarily_unavailable" || error === "server_error") return unreachable(host);
  return final(`${host} refused the sign-in (${error})${described}`);
}

function tokenFault({ error }, described, host) {
  if (error === "invalid_grant") return final(`Your session at ${host} has ended. Sign in again.`);
  return final(`${host} refused the sign-in (${error})${described}`);
}

const final = (message) => new SignInFault(message, { isFinal: true });

const unreachable = (host) =>
  new SignInFault(`${host} cannot be reached, or does not allow this page to ask it. Try again in a moment.`);

/** A callback without the request that belongs to it. */
export const unknownCallback = () =>
  final("This sign-in did not begin in this tab, or is already complete. Sign in again.");

export const insecurePage = () => final("Signing in needs a page over https. Ask for its address.");

/**
 * Why a new access token is of no use; null if it may be. Only the services decide.
 * @param {Object} claims  {} if the token is not a JWT.
 * @param {{merchants: string, orders?: string, all?: string[], scope: string[]}} names
 */
export function uselessBecause(claims, names, host) {
  if (Object.keys(claims).length === 0) {
    return `${host} did not issue a JWT as the access token. Tell your administrator: OIDC_RESOURCE or OIDC_AUDIENCE is missing.`;
  }
  if (isGranted(claimAt(claims, names.merchants)) || (names.orders && isGranted(claimAt(claims, names.orders)))) return null;
  const scope = names.scope.map((name) => claimAt(claims, name)).find((value) => value !== undefined) ?? [];
  const values = Array.isArray(scope) ? scope : String(scope).split(" ");
  if (values.some((value) => names.all?.includes(value))) return null;
  return `You are signed in at ${host}, but your account there has no merchants, so it may see no orders. Ask whoever manages accounts.`;
}

const isGranted = (claim) => (typeof claim === "string" || Array.isArray(claim)) && claim.length > 0;
