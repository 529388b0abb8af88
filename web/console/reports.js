/**
 * Requests the reports one after the other: a service computes few at a time, for all users.
 *
 * @module reports
 */

import { Refusal } from "./api.js";

const ATTEMPTS = 6;
const BUSY = ["too-many-requests", "overloaded"];

export class Reports {
  #api;
  #last = Promise.resolve();

  constructor(api) {
    this.#api = api;
  }

  /**
   * Requests a report after the earlier requests are answered. If the service is busy with
   * others, the request is repeated after its `Retry-After`.
   * @throws {Refusal|Unreachable}
   */
  get(name, parameters) {
    const answer = this.#last.then(() => this.#ask(name, parameters));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #ask(name, parameters) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#api.get(`/v1/reports/${name}`, parameters);
      } catch (error) {
        const busy = error instanceof Refusal && BUSY.includes(error.slug) && attempt < ATTEMPTS;
        if (!busy) throw error;
        await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? 2) * 1000));
      }
    }
  }
}
