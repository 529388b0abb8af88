/**
 * What a page does about the provider before anything else: it completes a sign-in, or begins one without questions.
 *
 * @module arrival
 */

import { AT_PROVIDER, claimsOf, LEFT } from "./session.js";

/** Shown once, by the next page of this tab. */
const NOTE = "tracking.sign-in-note";

const never = new Promise(() => {});

/**
 * Loads the provider of the configuration, and signs in with it where that needs no person. It does not return if the
 * page is left for the provider's.
 * @param {Object} configuration
 * @param {() => boolean} needsToken  True if there is no other token.
 * @returns {Promise<{provider: Object|null, fault: string}>}
 */
export async function arrive(configuration, needsToken) {
  if (!configuration.sign_in) return { provider: null, fault: "" };
  const parts = await Promise.all([import("./provider.js"), import("./provider_words.js")]).catch(() => null);
  if (parts === null) return { provider: null, fault: "A part of this page could not be loaded. Load the page again." };
  const [{ Provider }, { uselessBecause }] = parts;
  const skewSeconds = (Date.parse(configuration.time) - Date.now()) / 1000;
  const provider = new Provider(configuration.sign_in, skewSeconds);
  const parameters = new URLSearchParams(location.search);
  try {
    if (isCallback(parameters)) {
      await provider.finish(parameters);
      const fault = uselessBecause(claimsOf(provider.token), configuration.claims, provider.host);
      if (fault !== null) {
        provider.askForAnother();
        return { provider, fault };
      }
      localStorage.setItem(AT_PROVIDER, "1");
      localStorage.setItem(LEFT, "1"); // else the next page would be that of the demonstration's user
    } else if (needsToken() && localStorage.getItem(AT_PROVIDER)) {
      await provider.begin({ prompt: "none" });
      await never;
    }
  } catch (error) {
    return { provider, fault: error.message };
  }
  return { provider, fault: takeNote() };
}

/** True for the parameters of RFC 6749 4.1.2; the console has none of these names. */
export const isCallback = (parameters) => parameters.has("state") && (parameters.has("code") || parameters.has("error"));

export const leaveNote = (text) => sessionStorage.setItem(NOTE, text);

function takeNote() {
  const note = sessionStorage.getItem(NOTE) ?? "";
  sessionStorage.removeItem(NOTE);
  return note;
}
