# Ruby's net/http. Its library has no WebSockets.
require "json"
require "net/http"

INGEST, QUERY = ENV.fetch("INGEST_URL"), ENV.fetch("QUERY_URL")
ORDER, MERCHANT = ENV.fetch("ORDER_ID"), ENV.fetch("MERCHANT_ID")

# Connections are kept and used again; net/http sends nothing of the body before "100 Continue" if told to wait.
CONNECTIONS = [INGEST, QUERY].to_h do |url|
  address = URI(url)
  http = Net::HTTP.new(address.host, address.port)
  http.continue_timeout = 10
  [url, http.start]
end

def ask(base, request)
  request["Authorization"] = "Bearer #{ENV.fetch("TOKEN")}"
  response = CONNECTIONS[base].request(request)
  [response, JSON.parse(response.body)]
end

def post(path, key, body, headers = {})
  named = { "Content-Type" => "application/json", "Idempotency-Key" => key }
  request = Net::HTTP::Post.new(path, named.merge(headers))
  request.body = JSON.generate(body)
  ask(INGEST, request)
end

def create(id)
  { order_id: id, merchant_id: MERCHANT, customer: { name: "Zoë 東", contact_ref: "crm:1" } }
end

created, = post("/v1/orders", "create", create(ORDER))
repeated, = post("/v1/orders", "create", create(ORDER))
updated, = post("/v1/orders/#{ORDER}/updates", "pick-up", { status: "picked_up" })
_, batch = post("/v1/batch", "batch", [
  { op: "create", **create("#{ORDER}-b") },
  { op: "create", **create("#{ORDER}-c") },
  { op: "update", order_id: ORDER, status: "in_transit" },
], { "Expect" => "100-continue" })

_, order = ask(QUERY, Net::HTTP::Get.new("/v1/orders/#{ORDER}"))
listed, pages, nxt = [], 0, "/v1/orders?limit=1&merchant_id=#{MERCHANT}"
while nxt
  response, page = ask(QUERY, Net::HTTP::Get.new(nxt))
  pages += 1
  listed.concat(page["items"].map { |item| item["order_id"] })
  nxt = response["Link"]&.slice(/<([^>]+)>; rel="next"/, 1)
end

puts JSON.generate({
  create: created.code.to_i, repeat: repeated.code.to_i, replayed: repeated["Idempotent-Replayed"],
  update: updated.code.to_i, batch: batch["results"].map { |result| result["outcome"] },
  name: order["customer"]["name"], status: order["status"], listed: listed, pages: pages,
})
