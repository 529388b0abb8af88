// What Node brings: fetch, and WebSocket (from version 22 on).
const { INGEST_URL, QUERY_URL, STREAM_URL, TOKEN, ORDER_ID, MERCHANT_ID } = process.env;

async function ask(url, options = {}) {
  const headers = { Authorization: `Bearer ${TOKEN}`, ...options.headers };
  const response = await fetch(url, { ...options, headers });
  return [response, await response.json()];
}

function post(path, key, body, options = {}) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  return ask(INGEST_URL + path, { method: "POST", headers, body, ...options });
}

function create(id) {
  return { order_id: id, merchant_id: MERCHANT_ID, customer: { name: "Zoë 東", contact_ref: "crm:1" } };
}

const order = JSON.stringify(create(ORDER_ID));
const [created] = await post("/v1/orders", "create", order);
const [repeated] = await post("/v1/orders", "create", order);
const updates = `/v1/orders/${ORDER_ID}/updates`;
// A stream has no length: it is sent in chunks.
const [updated] = await post(updates, "pick-up", new Blob(['{"status": ', '"picked_up"}']).stream(), { duplex: "half" });
const operations = [
  { op: "create", ...create(`${ORDER_ID}-b`) },
  { op: "create", ...create(`${ORDER_ID}-c`) },
  { op: "update", order_id: ORDER_ID, status: "in_transit" },
];
const [, batch] = await post("/v1/batch", "batch", JSON.stringify(operations));

const [, found] = await ask(`${QUERY_URL}/v1/orders/${ORDER_ID}`);
const listed = [];
let pages = 0;
for (let next = `/v1/orders?limit=1&merchant_id=${MERCHANT_ID}`; next; pages += 1) {
  const [response, page] = await ask(QUERY_URL + next);
  listed.push(...page.items.map((item) => item.order_id));
  next = response.headers.get("Link")?.match(/<([^>]+)>; rel="next"/)[1];
}

function stream() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(STREAM_URL);
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "subscribe", token: TOKEN, filter: { order_id: [ORDER_ID] } }));
    };
    socket.onerror = reject;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "live") post(updates, "deliver", '{"status": "delivered"}').catch(reject);
      if (message.type !== "events") return;
      socket.close();
      resolve(message.events.map((event) => event.id));
    };
  });
}

console.log(
  JSON.stringify({
    create: created.status,
    repeat: repeated.status,
    replayed: repeated.headers.get("Idempotent-Replayed"),
    update: updated.status,
    batch: batch.results.map((result) => result.outcome),
    name: found.customer.name,
    status: found.status,
    listed,
    pages,
    streamed: await stream(),
  }),
);
