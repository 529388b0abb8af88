/**
 * One webhook: its state, the newest attempts, and what can be done with it.
 *
 * @module webhook_view
 */

import { h, icon, setIcon, setText } from "./dom.js";
import { statusName, when } from "./format.js";
import { problemView } from "./problem.js";
import { pathOf } from "./webhook_dialogs.js";
import { STATE_ICONS, UNKNOWN, filterWords, outcomeWords, pendingWords, stateWords, tookWords } from "./webhook_words.js";

const SHOWN_ATTEMPTS = 50;

export class WebhookView {
  element;

  #use;
  #webhook = null;
  #parts;

  /** @param {{api: Object, dialogs: WebhookDialogs, close: () => void, changed: (id: string) => void}} use */
  constructor(use) {
    this.#use = use;
    this.element = this.#build();
  }

  /** Shows another webhook, of which nothing is known yet. */
  begin() {
    this.#webhook = null;
    this.#parts.answer.replaceChildren();
    this.#parts.attempts.replaceChildren();
    setText(this.#parts.title, UNKNOWN);
    for (const part of [this.#parts.body, this.#parts.none]) part.hidden = true;
    this.#parts.title.focus();
  }

  /** Reads and shows the webhook. @throws {Refusal|Unreachable} */
  async read(id, signal) {
    const path = pathOf({ id });
    const [webhook, { items }] = await Promise.all([
      this.#use.api.get(path, undefined, { signal }),
      this.#use.api.get(`${path}/attempts`, new URLSearchParams([["limit", String(SHOWN_ATTEMPTS)]]), { signal }),
    ]);
    if (signal.aborted) return null;
    this.#draw(webhook);
    this.#drawAttempts(items);
    return webhook;
  }

  #draw(webhook) {
    const { title, state, symbol, words, facts, enable, body } = this.#parts;
    this.#webhook = webhook;
    body.hidden = false;
    setText(title, webhook.description ?? new URL(webhook.url).host);
    state.dataset.state = webhook.state;
    setIcon(symbol, STATE_ICONS[webhook.state]);
    setText(state.lastChild, statusName(webhook.state));
    setText(words, stateWords(webhook));
    enable.hidden = webhook.state === "active";
    setText(enable, webhook.state === "disabled" ? "Enable" : "Try again now");
    const told = {
      url: webhook.url,
      filter: filterWords(webhook.filter),
      pending: pendingWords(webhook),
      delayed: String(webhook.delayed_orders),
      created: `${when(webhook.created_at)}, by ${webhook.created_by}`,
      cursor: webhook.cursor,
    };
    for (const [name, text] of Object.entries(told)) setText(facts[name], text);
  }

  #drawAttempts(items) {
    const { attempts, none } = this.#parts;
    none.hidden = items.length > 0;
    attempts.replaceChildren(
      ...items.map((attempt) =>
        h(
          "tr",
          { "data-outcome": attempt.outcome, "data-testid": "webhook-attempt" },
          h("td", {}, h("time", { datetime: attempt.at }, when(attempt.at))),
          h("td", { class: "outcome" }, outcomeWords(attempt)),
          h("td", {}, tookWords(attempt)),
          h("td", { class: "mono" }, attempt.event_id),
        ),
      ),
    );
  }

  async #test() {
    const { answer, test } = this.#parts;
    test.disabled = true;
    answer.replaceChildren(h("p", { class: "quiet" }, "Sending a test. This takes up to 10 seconds."));
    await this.#act("test", (attempt) =>
      attempt.outcome
        ? h("p", { "data-testid": "webhook-test" }, `Test: ${outcomeWords(attempt)}, after ${tookWords(attempt)}.`)
        : h("p", {}, "The test is not sent yet. Its outcome appears below. If it does not, no sender is running."),
    );
    test.disabled = false;
  }

  #enable() {
    return this.#act("enable", ({ state }) => h("p", {}, `It is ${state} and goes on where it stood.`));
  }

  async #act(name, words) {
    const { id } = this.#webhook;
    let view;
    try {
      view = words(await this.#use.api.change("POST", `${pathOf({ id })}/${name}`));
    } catch (error) {
      view = problemView(error);
    }
    if (this.#webhook?.id !== id) return;
    this.#parts.answer.replaceChildren(view);
    this.#use.changed(id);
  }

  #build() {
    const { dialogs } = this.#use;
    const button = (name, text, onclick) => h("button", { class: "button", type: "button", "data-testid": `webhook-${name}`, onclick }, text);
    const dialog = (name) => () => dialogs[name](this.#webhook);
    const symbol = icon("check");
    const facts = Object.fromEntries(["url", "filter", "pending", "delayed", "created", "cursor"].map((name) => [name, h("dd", { "data-testid": `webhook-${name}` }, UNKNOWN)]));
    facts.cursor.classList.add("mono");
    const parts = (this.#parts = {
      ...{ symbol, facts },
      title: h("h2", { id: "webhook-title", tabindex: "-1" }, UNKNOWN),
      state: h("strong", { class: "webhook-state", "data-testid": "webhook-state" }, symbol, h("span")),
      words: h("p", { class: "quiet", "data-testid": "webhook-words" }),
      answer: h("div", { role: "status", "data-testid": "webhook-answer" }),
      attempts: h("tbody"),
      none: h("p", { class: "quiet" }, "Nothing was sent yet."),
      test: button("test-send", "Send a test", () => this.#test()),
      enable: button("enable", "Enable", () => this.#enable()),
    });
    const names = { url: "Address", filter: "Events", pending: "Still to be delivered", delayed: "Orders that wait", created: "Created", cursor: "Cursor" };
    parts.body = h(
      "div",
      { class: "webhook-body" },
      h("div", {}, parts.state, parts.words),
      h(
        "div",
        { class: "choices" },
        ...[parts.enable, parts.test],
        button("replay", "Replay…", dialog("replay")),
        button("rotate", "New secret…", dialog("rotate")),
        button("edit", "Edit…", dialog("edit")),
        button("delete", "Delete…", dialog("remove")),
      ),
      parts.answer,
      h("dl", { class: "facts" }, Object.entries(names).map(([name, text]) => [h("dt", {}, text), facts[name]])),
      h("h3", {}, `Newest attempts, up to ${SHOWN_ATTEMPTS}`),
      parts.none,
      h("div", { class: "attempts", tabindex: "0", role: "region", "aria-label": "Newest attempts" }, h("table", {}, h("thead", {}, h("tr", {}, ["When", "Outcome", "Took", "Event"].map((name) => h("th", { scope: "col" }, name)))), parts.attempts)),
    );
    const head = h("div", { class: "panel-head" }, parts.title, h("button", { class: "button icon-button", type: "button", "aria-label": "Close this webhook", "data-testid": "webhook-close", onclick: () => this.#use.close() }, icon("close")));
    return h("section", { class: "webhook", "aria-labelledby": "webhook-title", "data-testid": "webhook" }, head, parts.body);
  }
}
