#!/usr/bin/env bash
# curl and wget, as CLIENT says: curl with the options in CURL_OPTIONS.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# ask URL [KEY BODY [HEADER]]: the body goes to standard output; status and headers to $folder/head.
ask() {
  local headers=("Authorization: Bearer $TOKEN")
  if [ $# -gt 1 ]; then headers+=("Content-Type: application/json" "Idempotency-Key: $2"); fi
  if [ $# -gt 3 ]; then headers+=("$4"); fi
  "with_$CLIENT" "$@"
}

with_curl() {
  local data=()
  if [ $# -gt 1 ]; then data=(--data-binary "$3"); fi
  # shellcheck disable=SC2086  # several options
  curl ${CURL_OPTIONS:-} --silent --show-error --max-time 20 --dump-header "$folder/head" \
    "${headers[@]/#/-H}" "${data[@]}" "$1"
}

with_wget() {
  local data=()
  if [ $# -gt 1 ]; then data=(--post-data="$3"); fi
  wget --quiet --server-response --tries=1 --timeout=20 --output-document=- \
    "${headers[@]/#/--header=}" "${data[@]}" "$1" 2>"$folder/head"
}

# The final one: "100 Continue" or an upgrade may have come before it.
status() { grep -o 'HTTP/[0-9.]* [0-9]*' "$folder/head" | tail -n 1 | cut -d' ' -f2; }
header() { sed -n "s/^ *$1: *\([^\r]*\).*/\1/Ip" "$folder/head"; }
all() { grep -o "\"$1\":\"[^\"]*\"" | cut -d'"' -f4; }
list() { sed 's/.*/"&"/' | paste -sd, - | sed 's/.*/[&]/'; }

created_order() {
  printf '"order_id": "%s", "merchant_id": "%s", "customer": {"name": "Zoë 東", "contact_ref": "crm:1"}' "$1" "$MERCHANT_ID"
}

ask "$INGEST_URL/v1/orders" create "{$(created_order "$ORDER_ID")}" >"$folder/body"
create=$(status)
ask "$INGEST_URL/v1/orders" create "{$(created_order "$ORDER_ID")}" >"$folder/body"
repeat=$(status) replayed=$(header idempotent-replayed)
ask "$INGEST_URL/v1/orders/$ORDER_ID/updates" pick-up '{"status": "picked_up"}' >"$folder/body"
update=$(status)
operations="[{\"op\": \"create\", $(created_order "$ORDER_ID-b")}, {\"op\": \"create\", $(created_order "$ORDER_ID-c")},
  {\"op\": \"update\", \"order_id\": \"$ORDER_ID\", \"status\": \"in_transit\"}]"
batch=$(ask "$INGEST_URL/v1/batch" batch "$operations" "${BATCH_HEADER:-Accept: */*}" | all outcome | list)

ask "$QUERY_URL/v1/orders/$ORDER_ID" >"$folder/order"
next="/v1/orders?limit=1&merchant_id=$MERCHANT_ID" pages=0
while [ -n "$next" ]; do
  ask "$QUERY_URL$next" | all order_id >>"$folder/listed"
  pages=$((pages + 1))
  next=$(header link | sed -n 's/^<\(.*\)>; rel="next"$/\1/p')
done

printf '{"create": %s, "repeat": %s, "replayed": "%s", "update": %s, "batch": %s, "name": "%s", "status": "%s", "listed": %s, "pages": %s}\n' \
  "$create" "$repeat" "$replayed" "$update" "$batch" "$(all name <"$folder/order")" "$(all status <"$folder/order")" \
  "$(list <"$folder/listed")" "$pages"
