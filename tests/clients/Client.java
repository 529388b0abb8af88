// Java's own client, java.net.http: for HTTP, where its first request offers an upgrade to HTTP/2, and for WebSockets.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

public class Client {
    static final String INGEST = System.getenv("INGEST_URL");
    static final String QUERY = System.getenv("QUERY_URL");
    static final String TOKEN = System.getenv("TOKEN");
    static final String ORDER = System.getenv("ORDER_ID");
    static final String MERCHANT = System.getenv("MERCHANT_ID");
    static final HttpClient http = HttpClient.newHttpClient();

    static HttpRequest.Builder to(String url) {
        return HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + TOKEN);
    }

    static HttpResponse<String> post(String path, String key, String body, boolean expect) throws Exception {
        return http.send(
            to(INGEST + path)
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", key)
                .expectContinue(expect)
                .POST(BodyPublishers.ofString(body))
                .build(),
            BodyHandlers.ofString());
    }

    static HttpResponse<String> get(String path) throws Exception {
        return http.send(to(QUERY + path).build(), BodyHandlers.ofString());
    }

    /** All values of a member, wherever it stands: enough for what is asked here, without a JSON library. */
    static List<String> all(String member, String json) {
        var found = Pattern.compile("\"" + member + "\":\"?([^\",}]*)").matcher(json);
        return found.results().map(result -> result.group(1)).toList();
    }

    static String order(String id) {
        return "{\"order_id\": \"" + id + "\", \"merchant_id\": \"" + MERCHANT
            + "\", \"customer\": {\"name\": \"Zoë 東\", \"contact_ref\": \"crm:1\"}}";
    }

    static String json(List<String> texts) {
        return texts.isEmpty() ? "[]" : "[\"" + String.join("\", \"", texts) + "\"]";
    }

    static class Listener implements WebSocket.Listener {
        final StringBuilder message = new StringBuilder();
        final CompletableFuture<Void> live = new CompletableFuture<>();
        final CompletableFuture<List<String>> events = new CompletableFuture<>();

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            message.append(data);
            if (last) {
                String text = message.toString();
                if (text.contains("\"type\":\"live\"")) live.complete(null);
                if (text.contains("\"type\":\"events\"")) events.complete(all("id", text).subList(0, 1));
                message.setLength(0);
            }
            socket.request(1);
            return null;
        }
    }

    static List<String> stream() throws Exception {
        var listener = new Listener();
        var socket = http.newWebSocketBuilder()
            .header("Authorization", "Bearer " + TOKEN)
            .buildAsync(URI.create(System.getenv("STREAM_URL")), listener)
            .get(20, TimeUnit.SECONDS);
        socket.sendText("{\"type\": \"subscribe\", \"filter\": {\"order_id\": [\"" + ORDER + "\"]}}", true);
        listener.live.get(20, TimeUnit.SECONDS);
        post("/v1/orders/" + ORDER + "/updates", "deliver", "{\"status\": \"delivered\"}", false);
        var events = listener.events.get(20, TimeUnit.SECONDS);
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(20, TimeUnit.SECONDS);
        return events;
    }

    public static void main(String[] arguments) throws Exception {
        var created = post("/v1/orders", "create", order(ORDER), false);
        var repeated = post("/v1/orders", "create", order(ORDER), false);
        var updated = post("/v1/orders/" + ORDER + "/updates", "pick-up", "{\"status\": \"picked_up\"}", false);
        var batch = "[{\"op\": \"create\", " + order(ORDER + "-b").substring(1) + ", {\"op\": \"create\", "
            + order(ORDER + "-c").substring(1)
            + ", {\"op\": \"update\", \"order_id\": \"" + ORDER + "\", \"status\": \"in_transit\"}]";
        var outcomes = all("outcome", post("/v1/batch", "batch", batch, true).body());

        var order = get("/v1/orders/" + ORDER).body();
        var listed = new ArrayList<String>();
        var pages = 0;
        var next = "/v1/orders?limit=1&merchant_id=" + MERCHANT;
        while (next != null) {
            var page = get(next);
            pages += 1;
            listed.addAll(all("order_id", page.body()));
            var link = page.headers().firstValue("Link").orElse(null);
            next = link == null ? null : link.substring(1, link.indexOf('>'));
        }
        System.out.println(
            "{\"create\": " + created.statusCode() + ", \"repeat\": " + repeated.statusCode()
            + ", \"replayed\": \"" + repeated.headers().firstValue("Idempotent-Replayed").orElse("") + "\""
            + ", \"update\": " + updated.statusCode() + ", \"batch\": " + json(outcomes)
            + ", \"name\": \"" + all("name", order).get(0) + "\", \"status\": \"" + all("status", order).get(0) + "\""
            + ", \"listed\": " + json(listed) + ", \"pages\": " + pages
            + ", \"streamed\": " + json(stream()) + "}");
        System.exit(0);
    }
}
