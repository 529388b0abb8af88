// Compiled, not run: programs that the type declarations of tracking-live must accept, and mistakes that they must find.
import { FINAL_CLOSE_CODES, LiveOrders, orderAfter, refreshIn, waitSeconds } from "tracking-live";
import type { Order, OrderEvent, Status, Token } from "tracking-live";

const token: Token = async () => "token";
const live = new LiveOrders(new URL("wss://example.org/v1/stream"), token, {
  filter: { merchant_id: ["acme"], active: true, overdue: false },
  after: "cursor",
  silenceSeconds: 30,
});
live.addEventListener("events", ({ detail }) => {
  for (const event of detail) {
    const version: number = event.data.version;
    const order: Order = orderAfter(event);
    console.log(version, order.customer?.name, event.data.reason?.length);
  }
});
live.addEventListener("status", ({ detail }) => {
  const status: Status = detail;
  if (status.state === "waiting") console.log(status.retryAt?.getTime(), status.problem?.errors?.[0]?.pointer);
});
live.addEventListener("change", () => console.log(live.orders.get("o-1")?.allowed_next.join(), live.cursor?.length));
live.addEventListener("gap", ({ detail }) => console.log(detail.after ?? 0, detail.version));
live.start();
live.reconnect("now");
const seconds: number = waitSeconds(1) + (refreshIn("token") ?? 0);
console.log(seconds, FINAL_CLOSE_CODES.has(4400), ({} as OrderEvent).traceparent);

// @ts-expect-error: there is no such member of a filter
new LiveOrders("/v1/stream", "token", { filter: { colour: ["red"] } });
// @ts-expect-error: the position is only read
live.cursor = "another";
// @ts-expect-error: there is no such state
if (live.status.state === "asleep") live.stop();
