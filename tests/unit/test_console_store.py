"""The orders of a small device, without a page: what it holds, and when they must be listed anew."""

from console_scripts import answer_of

PRELUDE = """
  import { Store } from "./store.js";
  const sockets = [];
  globalThis.WebSocket = class extends EventTarget {
    sent = [];
    constructor() {
      super();
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
    open() {
      this.dispatchEvent(new Event("open"));
    }
    hear(message) {
      const event = new Event("message");
      event.data = JSON.stringify(message);
      this.dispatchEvent(event);
    }
  };
  const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
  const event = (order_id, version, status, active = true) => ({
    data: {
      ...{ order_id, version, status, active, merchant_id: "m" },
      previous_status: version > 1 ? "created" : null,
      ...{ allowed_next: [], created_at: "t", recorded_at: "t" },
      ...{ source: { type: "system" }, order_metadata: {} },
    },
  });
  const store = new Store("ws://localhost/v1/stream", () => "a.b.c", true);
  const told = [];
  store.addEventListener("reset", () => told.push("reset"));
  store.start();
  await turn();
  sockets[0].open();
  sockets[0].hear({ type: "live", cursor: "c1" });
"""


def ran(script: str, given: object = None) -> object:
    """What the script prints, after the prelude."""
    return answer_of(f"{PRELUDE}{script}\nprocess.exit(0);", given)


def test_a_small_device_asks_for_no_snapshot_and_holds_what_changes() -> None:
    script = """
      const { snapshot } = sockets[0].sent[0];
      const ends = event("b", 5, "delivered", false);
      const events = [event("a", 1, "created"), event("b", 4, "picked_up"), ends];
      sockets[0].hear({ type: "events", events, cursor: "c2" });
      const held = [[...store.open.keys()], store.get("a").status, store.get("b").status, store.isComplete];
      console.log(JSON.stringify([snapshot, ...held, told]));
    """
    assert ran(script) == [False, ["a"], "created", "delivered", True, ["reset"]]


def test_a_small_device_lists_anew_when_more_has_changed_than_it_holds() -> None:
    script = """
      for (let number = 0; number <= given; number += 1) {
        const events = [event(`o-${number}`, 1, "created")];
        sockets[0].hear({ type: "events", events, cursor: `c${number}` });
      }
      await turn();
      console.log(JSON.stringify([told, store.open.size]));
    """
    assert ran(script, 2000) == [["reset", "reset"], 0]


def test_a_small_device_begins_anew_where_the_log_cannot_be_joined_and_takes_no_snapshot() -> None:
    script = """
      sockets[0].hear({ type: "events", events: [event("a", 1, "created")], cursor: "c2" });
      sockets[0].hear({ type: "resync", reason: "too-slow", cursor: "c3" });
      await turn();
      sockets[0].hear({ type: "snapshot", orders: [], more: false });
      sockets[1].open();
      const [asked] = sockets[1].sent;
      const before = [store.open.size, told.length, asked.snapshot, "after" in asked];
      sockets[1].hear({ type: "live", cursor: "c9" });
      console.log(JSON.stringify([...before, told, store.status.state]));
    """
    assert ran(script) == [0, 1, False, False, ["reset", "reset"], "live"]


def test_open_orders_that_are_not_held_are_counted_by_the_service_and_on_by_the_stream() -> None:
    script = """
      import { OpenCounts } from "./open_counts.js";
      const page = new EventTarget();
      page.isComplete = true;
      let answer = null;
      const asked = (name, parameters) => new Promise((resolve) => (answer = { name, parameters, resolve }));
      const reports = { get: asked };
      const open = new OpenCounts({ reports, store: page });
      const tell = (...events) =>
        page.dispatchEvent(new CustomEvent("events", { detail: events.map((data) => ({ data })) }));
      const change = (merchant_id, previous_status, status, active, recorded_at) =>
        tell({ merchant_id, previous_status, status, active, recorded_at });
      const before = open.of(["m"]).counts;
      change("m", null, "created", true, "2026-03-01T08:00:00.000Z"); // in the answer already
      change("m", "created", "picked_up", true, "2026-03-01T08:00:05.000Z");
      const ages = [["created", 2], ["created", 3], ["picked_up", 1]];
      const rows = ages.map(([status, count]) => ({ status, count }));
      answer.resolve({ as_of: "2026-03-01T08:00:03.000Z", rows });
      await turn();
      change("m", "picked_up", "delivered", false, "2026-03-01T08:00:06.000Z");
      change("other", null, "created", true, "2026-03-01T08:00:07.000Z");
      const after = Object.fromEntries(open.of(["m"]).counts);
      console.log(JSON.stringify([before, answer.name, answer.parameters.toString(), after]));
    """
    counts = {"created": 4, "picked_up": 1}
    assert ran(script) == [None, "open-orders", "merchant_id=m", counts]


def test_what_closed_today_is_counted_once_and_anew_after_a_correction() -> None:
    script = """
      import { Today } from "./today.js";
      const page = new EventTarget();
      page.isComplete = true;
      const asked = [];
      const api = { get: (path) => new Promise((resolve) => asked.push(resolve)) };
      const today = new Today({ api, store: page });
      const tell = (type, previous_status, status, active) => {
        const data = { merchant_id: "m", version: 5, previous_status, status, active, recorded_at: "9" };
        page.dispatchEvent(new CustomEvent("events", { detail: [{ type, data }] }));
      };
      today.of([]);
      asked[0]({ to: "2", rows: [{ status: "created", entered: 3 }, { status: "delivered", entered: 1 }] });
      await turn();
      tell("order.status_changed", "in_transit", "delivered", false);
      tell("order.checkpoint_added", "delivered", "delivered", false);
      const counted = today.of([]).counts.get("delivered");
      const before = asked.length;
      tell("order.corrected", "delivered", "in_transit", true);
      today.of([]);
      console.log(JSON.stringify([counted, before, asked.length]));
    """
    assert ran(script) == [2, 1, 2]
