/**
 * The addresses of the services, from query.
 *
 * @module configuration
 */

import { byId, setText } from "./dom.js";

const ATTEMPT_MS = 10_000;
const MAX_WAIT_SECONDS = 30;

/** @throws {Error} There is no answer, or it is not a configuration. */
export async function readConfiguration() {
  const response = await fetch("config.json", { signal: AbortSignal.timeout(ATTEMPT_MS) });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return response.json();
}

/** Reads the configuration, with retries until it succeeds. Meanwhile the page shows the reason. */
export async function awaitConfiguration() {
  const box = byId("load-fault");
  for (let attempt = 1; ; attempt += 1) {
    try {
      const configuration = await readConfiguration();
      if (document.documentElement.dataset.partMissing !== "true") {
        document.documentElement.dataset.started = "true";
        sessionStorage.removeItem("tracking.load_failures");
        box.hidden = true;
      }
      return configuration;
    } catch (error) {
      const seconds = Math.min(MAX_WAIT_SECONDS, 2 ** attempt);
      setText(box.querySelector("strong"), "This page cannot start yet");
      setText(box.querySelector("span"), `Its configuration could not be read (${error.message}). It is tried again in ${seconds} s.`);
      box.hidden = false;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    }
  }
}
