// The JavaScript client behind lines of JSON: told on standard input, reports on standard output.
// The first line that it reads is its configuration, as `ClientProcess` writes it; then commands.
import { createInterface } from "node:readline";

// What a page has and Node has not: events of the window, and a document that is in sight or not.
const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });

const { LiveOrders } = await import("../../clients/js/tracking-live.js");

function say(name, detail) {
  process.stdout.write(`${JSON.stringify({ name, detail })}\n`);
}

/** Gives one after the other, then always the last one; null stands for a failure. */
function tokenSource(tokens) {
  return async () => {
    const token = tokens.length > 1 ? tokens.shift() : tokens[0];
    if (token === null) throw new Error("there is none");
    return token;
  };
}

function follow({ url, token, tokens, filter, options }) {
  const { silence_seconds: silenceSeconds, ...from } = options;
  const live = new LiveOrders(url, token ?? tokenSource(tokens), { filter, silenceSeconds, ...from });
  for (const name of ["snapshot", "gap", "problem"]) live.addEventListener(name, ({ detail }) => say(name, detail));
  live.addEventListener("events", ({ detail }) => detail.forEach(({ id }) => say("event", id)));
  live.addEventListener("status", ({ detail: { state, reason, code = null, retryAt = null, problem = null, transport } }) =>
    say("status", { state, reason, code, retryAt, problem: problem?.type ?? null, transport }),
  );
  live.start();
  return live;
}

let live;
for await (const line of createInterface({ input: process.stdin })) {
  if (!live) {
    live = follow(JSON.parse(line));
    continue;
  }
  const [command, argument] = line.split(" ");
  if (command === "stop") live.stop();
  if (command === "window") page.dispatchEvent(new Event(argument));
  if (command === "document") {
    document.visibilityState = argument;
    document.dispatchEvent(new Event("visibilitychange"));
  }
  const { orders, cursor, gaps, connections } = live;
  say("report", { orders: Object.fromEntries(orders), cursor, gaps, connections });
}
process.exit();
