// Gives the JavaScript `OrderView` the messages of a follower, connection by connection, and says what it made
// of them: one line of JSON in, one line out.
import { createInterface } from "node:readline";
import { OrderView } from "../../clients/js/tracking-live.js";

for await (const line of createInterface({ input: process.stdin })) {
  const { filter, connections } = JSON.parse(line);
  const told = [];
  const view = new OrderView(filter, (name) => told.push(name));
  const events = [];
  const requests = [];
  for (const messages of connections) {
    requests.push(view.request());
    for (const message of messages) events.push(...view.take(message).map(({ id }) => id));
  }
  const { orders, cursor, gaps } = view;
  console.log(JSON.stringify({ requests, events, told, orders: Object.fromEntries(orders), cursor, gaps }));
}
