"""The dialogs of webhooks, where their answer comes after they were closed. The page is a stub."""

from console_scripts import answer_of

SCRIPT = """
  class Node {
    children = [];
    listeners = {};
    isConnected = true;
    open = false;
    constructor(name) { this.name = name; }
    setAttribute(name, value) { this[name] = value; }
    addEventListener(name, act) { this.listeners[name] = act; }
    append(...nodes) { this.children.push(...nodes); }
    replaceChildren(...nodes) {
      for (const node of this.children) node.isConnected = false;
      this.children = nodes;
    }
    querySelector() { return null; }
    focus() {}
    scrollIntoView() {}
    showModal() { this.open = true; }
    close() {
      this.open = false;
      queueMicrotask(() => this.listeners.close?.());
    }
    get values() { return [this.value, ...this.children.flatMap((child) => child.values ?? [])]; }
  }
  const told = new Node("toasts");
  Object.assign(globalThis, { Node, FormData: class {}, setTimeout() {} });
  globalThis.document = {
    createElement: (name) => new Node(name),
    createElementNS: (_space, name) => new Node(name),
    getElementById: () => told,
    body: new Node("body"),
  };
  const { WebhookDialogs } = await import("./webhook_dialogs.js");
  let answer;
  const api = { change: () => new Promise((resolve, reject) => (answer = { resolve, reject })) };
  const dialogs = new WebhookDialogs({ api, statuses: [], changed() {} });
  const [dialog] = document.body.children;
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  dialogs[given.act]({ id: "w-1", url: "https://shop.example" });
  const sending = dialog.children[0].listeners.submit({ preventDefault() {} });
  dialog.close();
  if (given.reopens) dialogs.remove({ id: "w-2", url: "https://shop.example" });
  else await settled();
  if (given.fails) answer.reject(new Error("away"));
  else answer.resolve({ secret: "whsec_new", previous_until: "2026-01-01T00:00:00.000Z" });
  await sending;
  await settled();
  const shown = [dialog.open, dialog.values.includes("whsec_new"), told.children.length];
  dialog.close();
  await settled();
  console.log(JSON.stringify([...shown, dialog.children.length]));
"""


def test_a_secret_that_comes_after_its_form_was_closed_is_shown_and_does_not_stay_in_the_page() -> None:
    assert answer_of(SCRIPT, {"act": "rotate"}) == [True, True, 0, 0]


def test_an_answer_closes_only_its_own_form() -> None:
    assert answer_of(SCRIPT, {"act": "remove"}) == [False, False, 1, 0]
    assert answer_of(SCRIPT, {"act": "remove", "reopens": True}) == [True, False, 1, 0]


def test_a_failure_that_comes_after_its_form_was_closed_is_told() -> None:
    assert answer_of(SCRIPT, {"act": "rotate", "fails": True}) == [False, False, 1, 0]
