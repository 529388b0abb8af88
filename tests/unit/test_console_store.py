"""The orders of a large board or a small device, without a page: what is held, and what is listed anew."""

import pytest
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
  const answers = [null]; // those of the service that counts the open orders, the last one again and again
  const count = async () => (answers.length > 1 ? answers.shift() : answers[0]);
  const told = [];
  const opened = (isSmall) => {
    const store = new Store("ws://localhost/v1/stream", () => "a.b.c", { isSmall, count });
    for (const name of ["reset", "outdated"]) store.addEventListener(name, () => told.push(name));
    store.start();
    return store;
  };
  const store = opened(true);
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
    assert ran(script) == [False, ["a"], "created", "delivered", True, ["outdated", "reset"]]


def test_a_small_device_lists_anew_when_much_has_changed_and_drops_what_was_listed_since() -> None:
    script = """
      const sizes = [];
      for (let number = 1; number <= 3 * given; number += 1) {
        const events = [event(`o-${number}`, 1, "created")];
        sockets[0].hear({ type: "events", events, cursor: `c${number}` });
        if (number % given === 0) sizes.push(store.open.size);
      }
      const ends = Array.from({ length: given }, (_, number) => event(`x-${number}`, 2, "delivered", false));
      sockets[0].hear({ type: "events", events: ends, cursor: "d" });
      console.log(JSON.stringify([told, sizes, store.open.size, store.get("o-1"), store.closed.has("x-0")]));
    """
    changes = 4000
    outdated = ["outdated", "reset", *["outdated"] * 4]
    assert ran(script, changes) == [outdated, [changes, changes, changes], 0, None, True]


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
    assert ran(script) == [0, 3, False, False, ["outdated", "reset"] * 2, "live"]


@pytest.mark.parametrize(
    ("total", "is_small", "partial"),
    [(20_000, False, False), (20_001, False, True), (1, True, True), (None, False, False)],
)
def test_a_large_board_is_not_held_and_goes_on_where_it_was_counted(
    total: int | None, *, is_small: bool, partial: bool
) -> None:
    script = """
      const [total, isSmall] = given;
      answers[0] = total && { total, cursor: "counted" };
      const other = opened(isSmall);
      const first = other.status.state;
      await turn();
      sockets[1].open();
      const { after, snapshot } = sockets[1].sent[0];
      const asked = [after ?? null, snapshot ?? null];
      console.log(JSON.stringify([first, other.isPartial, ...asked, other.isComplete, told.slice(2)]));
    """
    joined = ["counted", None, True, ["reset"]] if partial else [None, True, False, ["outdated"]]
    assert ran(script, [total, is_small]) == ["connecting", partial, *joined]


def test_where_the_log_cannot_be_joined_orders_are_counted_anew() -> None:
    script = """
      answers.unshift({ total: 30000, cursor: "a" }, { total: 30000, cursor: "b" });
      const other = opened(false);
      await turn();
      sockets[1].open();
      sockets[1].hear({ type: "live", cursor: "c2" });
      sockets[1].hear({ type: "resync", reason: "too-slow", cursor: "c3" });
      await Promise.resolve();
      const whileCounting = [other.isComplete, other.status.state];
      await turn();
      sockets[2].open();
      const [asked] = sockets[2].sent;
      console.log(JSON.stringify([...whileCounting, other.isComplete, other.status.state, asked.after]));
    """
    assert ran(script) == [False, "connecting", True, "catching-up", "b"]


def test_what_is_stopped_while_it_is_counted_is_not_connected_until_it_is_started_again() -> None:
    script = """
      const other = opened(false);
      other.stop();
      await turn();
      const sofar = [sockets.length, other.status.state];
      other.start();
      await turn();
      console.log(JSON.stringify([...sofar, sockets.length]));
    """
    assert ran(script) == [1, "stopped", 2]


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


COUNTING = """
  import { OpenCounts } from "./open_counts.js";
  import { Refusal } from "./api.js";
  const asked = [];
  let answer = async () => ({ cursor: "c", rows: given });
  const open = new OpenCounts({ get: (path, parameters) => (asked.push(`${path}?${parameters}`), answer()) });
  const change = (merchant_id, previous_status, status, active, more = {}) =>
    open.add([{ data: { merchant_id, previous_status, status, active, overdue: false, ...more } }]);
  const shown = (...merchants) => {
    const { counts, why } = open.of(merchants);
    return counts === null ? why : Object.fromEntries(counts);
  };
"""
ROWS = [
    {"merchant_id": "m", "status": "created", "count": 5, "overdue": 2},
    {"merchant_id": "m", "status": "picked_up", "count": 1, "overdue": 0},
    {"merchant_id": "n", "status": "created", "count": 2, "overdue": 2},
]


def test_open_orders_that_are_not_held_are_counted_by_the_service_and_on_by_the_stream() -> None:
    script = """
      const before = shown("m");
      const counted = await open.read();
      change("m", "created", "picked_up", true);
      change("m", "picked_up", "delivered", false);
      change("other", null, "created", true);
      const after = [shown("m"), shown("m", "n"), shown(), open.merchants];
      console.log(JSON.stringify([before, asked, counted, ...after]));
    """
    assert ran(COUNTING + script, ROWS) == [
        "Being counted",
        ["/v1/reports/open-counts?group_by=merchant"],
        {"cursor": "c", "total": 8},
        {"created": 4, "picked_up": 1},
        {"created": 6, "picked_up": 1},
        {"created": 7, "picked_up": 1},
        ["m", "n", "other"],
    ]


def test_overdue_orders_are_counted_on_by_the_stream_as_they_become_and_cease_to_be() -> None:
    script = """
      const overdue = (...merchants) => Object.fromEntries(open.of(merchants).overdue);
      const unknown = open.of([]).overdue;
      await open.read();
      change("m", "created", "picked_up", true, { previous_overdue: true, overdue: true });
      change("m", "created", "created", true, { overdue: true });
      change("n", "created", "cancelled", false, { previous_overdue: true });
      change("n", "created", "created", true, { previous_overdue: true });
      change("n", "created", "created", true, { previous_overdue: false });
      console.log(JSON.stringify([unknown, overdue("m"), overdue("n"), overdue(), shown("m", "n")]));
    """
    assert ran(COUNTING + script, ROWS) == [
        None,
        {"created": 2, "picked_up": 1},
        {"created": 0},
        {"created": 2, "picked_up": 1},
        {"created": 5, "picked_up": 2},
    ]


def test_of_too_many_merchants_all_are_counted_together() -> None:
    script = """
      const problem = { type: "/problems/validation-failed", status: 422, detail: "too many" };
      const together = async () => ({ cursor: "c", rows: [{ status: "created", count: 9, overdue: 0 }] });
      answer = async () => {
        answer = together;
        throw new Refusal(problem);
      };
      const { total } = await open.read();
      change("m", "created", "picked_up", true);
      console.log(JSON.stringify([asked, total, shown(), shown("m"), open.merchants]));
    """
    assert ran(COUNTING + script) == [
        ["/v1/reports/open-counts?group_by=merchant", "/v1/reports/open-counts?"],
        9,
        {"created": 8, "picked_up": 1},
        "Not counted by merchant: there are too many",
        [],
    ]


def test_counts_that_cannot_be_read_stay_unknown_with_the_reason() -> None:
    script = """
      answer = async () => {
        throw new Error("nobody is there");
      };
      const counted = await open.read();
      change("m", null, "created", true);
      console.log(JSON.stringify([counted, shown()]));
    """
    assert ran(COUNTING + script) == [None, "Not known: nobody is there"]


LISTING = """
  import { ListedOrders } from "./listed_orders.js";
  const asked = [];
  const pages = [];
  const items = (from, number, version) =>
    Array.from({ length: number }, (_, index) => ({ order_id: `o-${from + index}`, version }));
  const api = { get: async (_, parameters) => (asked.push(Object.fromEntries(parameters)), pages.shift()()) };
  const asksFor = { status: [], merchant_id: [], times: {}, active: true, overdue: null };
  const filter = { ...asksFor, sort: "-created_at", q: "" };
  const answered = (fault) => told.push(fault);
  const use = { isPaged: () => true, isFirst: () => false, asked: () => {}, answered };
  const listed = new ListedOrders(api, use);
  listed.forget(filter);
"""


def test_a_list_is_unknown_until_it_was_read() -> None:
    script = """
      pages.push(() => ({ items: items(0, 3, 1), next_cursor: "a" }));
      pages.push(() => ({ items: [], next_cursor: null }));
      const seen = [listed.isUnknown];
      for (let list = 0; list < 2; list += 1) {
        listed.askSoon(0);
        await turn();
        seen.push(listed.isUnknown);
        listed.forget(filter);
      }
      pages.push(() => {
        throw new Error("away");
      });
      listed.askSoon(0);
      await turn();
      console.log(JSON.stringify([...seen, listed.isUnknown, told.slice(2)]));
    """
    assert ran(LISTING + script) == [True, False, False, True, ["", "", "away"]]


def test_what_is_listed_again_is_as_long_as_before_and_replaced_at_once() -> None:
    script = """
      pages.push(() => ({ items: items(0, 200, 1), next_cursor: "a" }));
      pages.push(() => ({ items: items(200, 200, 1), next_cursor: "b" }));
      pages.push(() => ({ items: items(400, 200, 1), next_cursor: "c" }));
      listed.askSoon(0);
      await turn();
      for (let page = 0; page < 2; page += 1) {
        listed.more();
        await turn();
      }
      const sizes = [];
      pages.push(() => ({ items: items(0, 500, 2), next_cursor: "d" }));
      pages.push(() => {
        sizes.push([...listed.entries()].length);
        return { items: items(500, 200, 2), next_cursor: "e" };
      });
      listed.outdate();
      listed.askSoon(0);
      await turn();
      const versions = new Set([...listed.entries()].map(([, { version }]) => version));
      sizes.push([...listed.entries()].length);
      const cursors = asked.map(({ limit, cursor }) => [limit, cursor ?? ""]);
      console.log(JSON.stringify([sizes, [...versions], cursors, listed.lastListed.order_id]));
    """
    limits = [["200", ""], ["200", "a"], ["200", "b"], ["500", ""], ["200", "d"]]
    assert ran(LISTING + script) == [[600, 700], [2], limits, "o-699"]
