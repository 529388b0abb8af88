// Go's net/http. Its library has no WebSockets.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

type document = map[string]any

var (
	ingest, query   = os.Getenv("INGEST_URL"), os.Getenv("QUERY_URL")
	order, merchant = os.Getenv("ORDER_ID"), os.Getenv("MERCHANT_ID")
)

func ask(method, url, key string, body io.Reader, expect string) (*http.Response, document) {
	request, err := http.NewRequest(method, url, body)
	check(err)
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
	}
	if expect != "" {
		request.Header.Set("Expect", expect)
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	var found document
	check(json.NewDecoder(response.Body).Decode(&found))
	return response, found
}

func post(path, key string, body any, expect string) (*http.Response, document) {
	content, err := json.Marshal(body)
	check(err)
	return ask("POST", ingest+path, key, strings.NewReader(string(content)), expect)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func create(id string) document {
	customer := document{"name": "Zoë 東", "contact_ref": "crm:1"}
	return document{"order_id": id, "merchant_id": merchant, "customer": customer}
}

func operation(op string, body document) document {
	body["op"] = op
	return body
}

func main() {
	created, _ := post("/v1/orders", "create", create(order), "")
	repeated, _ := post("/v1/orders", "create", create(order), "")
	// A reader of unknown length: sent in chunks.
	picked := io.MultiReader(strings.NewReader(`{"status": `), strings.NewReader(`"picked_up"}`))
	updated, _ := ask("POST", ingest+"/v1/orders/"+order+"/updates", "pick-up", picked, "")
	_, results := post("/v1/batch", "batch", []document{
		operation("create", create(order+"-b")),
		operation("create", create(order+"-c")),
		operation("update", document{"order_id": order, "status": "in_transit"}),
	}, "100-continue")
	outcomes := []any{}
	for _, result := range results["results"].([]any) {
		outcomes = append(outcomes, result.(document)["outcome"])
	}

	_, found := ask("GET", query+"/v1/orders/"+order, "", nil, "")
	listed, pages := []any{}, 0
	for next := "/v1/orders?limit=1&merchant_id=" + merchant; next != ""; {
		response, page := ask("GET", query+next, "", nil, "")
		pages++
		for _, item := range page["items"].([]any) {
			listed = append(listed, item.(document)["order_id"])
		}
		next = strings.TrimPrefix(strings.Split(response.Header.Get("Link"), ">")[0], "<")
	}
	told, err := json.Marshal(document{
		"create": created.StatusCode, "repeat": repeated.StatusCode,
		"replayed": repeated.Header.Get("Idempotent-Replayed"), "update": updated.StatusCode,
		"batch": outcomes, "name": found["customer"].(document)["name"], "status": found["status"],
		"listed": listed, "pages": pages,
	})
	check(err)
	fmt.Println(string(told))
}
