"""How the console calls the API: what it asks again while a service is busy or away, and what it does not."""

from console_scripts import answer_of

SCRIPT = """
  import { Api } from "./api.js";
  const waits = [];
  globalThis.setTimeout = (act, milliseconds) => (waits.push(milliseconds), queueMicrotask(act));
  const sent = [];
  globalThis.fetch = async (address, request) => {
    const step = given.steps[Math.min(sent.length, given.steps.length - 1)];
    sent.push(request.headers["Idempotency-Key"] ?? address);
    if (step === "away") throw new TypeError("no connection");
    const problem = { type: "/problems/p", status: step, detail: `status ${step}` };
    return new Response(JSON.stringify(problem), { status: step });
  };
  const refusal = Object.assign(new Error("ended"), { isFinal: given.session === "ended" });
  const session = { freshToken: async () => (given.session ? Promise.reject(refusal) : "a.b.c") };
  const api = new Api({ query: "http://q", ingest: "http://i" }, session, () => {});
  const asked = given.sends ? api.send("/v1/orders", {}) : api.get("/v1/orders", undefined, given.options);
  const outcome = await asked.then(() => "answered", (error) => error.message);
  console.log(JSON.stringify([outcome, sent.length, new Set(sent).size, waits.length]));
"""


def test_a_get_is_asked_again_only_as_often_as_it_is_wanted() -> None:
    def asked(steps: list[object], **options: object) -> object:
        return answer_of(SCRIPT, {"steps": steps, "options": options})

    assert asked([503, 200], attempts=3) == ["answered", 2, 1, 1]
    assert asked(["away", 429, 503, 200], attempts=3) == ["status 503", 3, 1, 2]
    assert asked([503, 200]) == ["status 503", 1, 1, 0]
    assert asked([422, 200], attempts=3) == ["status 422", 1, 1, 0]


def test_an_update_is_sent_again_with_the_same_key() -> None:
    assert answer_of(SCRIPT, {"steps": ["away", 503, 201], "sends": True}) == ["answered", 3, 1, 2]
    assert answer_of(SCRIPT, {"steps": [503], "sends": True}) == ["status 503", 4, 1, 3]
    assert answer_of(SCRIPT, {"steps": [409], "sends": True}) == ["status 409", 1, 1, 0]


def test_nothing_is_sent_without_a_token_and_a_session_that_ended_is_not_asked_again() -> None:
    away = {"steps": [201], "sends": True, "session": "away"}
    assert answer_of(SCRIPT, away) == ["ended", 0, 0, 3]
    assert answer_of(SCRIPT, away | {"session": "ended"}) == ["ended", 0, 0, 0]


def test_a_401_for_a_token_that_was_renewed_meanwhile_does_not_end_the_session() -> None:
    script = """
        import { Api } from "./api.js";
        globalThis.fetch = async () => {
          if (given.renews) session.token = "new";
          return new Response("{}", { status: 401 });
        };
        let ended = 0;
        const session = { token: "old", freshToken: async () => session.token };
        const api = new Api({ query: "http://q", ingest: null }, session, () => (ended += 1));
        await api.get("/v1/orders").catch(() => {});
        console.log(ended);
    """
    assert answer_of(script, {"renews": False}) == 1
    assert answer_of(script, {"renews": True}) == 0
