"""Rows of an order, sent in the order in which they happened and decided by order-state's own rule."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import EVERYONE
from property_examples import max_examples
from tracking.load.order_records import OrderQueue, sort_records
from tracking.load.readers import Files, read_files
from tracking.load.records import Record
from tracking.load.spool import open_spool
from tracking.load.summary import Summary
from tracking_ingest.api.answers import batch_line
from tracking_ingest.api.bodies import BadOperation, parse_batch
from tracking_ingest.api.requests import CommandFactory
from tracking_order_state.domain.batch import decide_batch
from tracking_order_state.domain.decisions import Known
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.documents import EventDocument, OrderDocument, UpdateDocument, update_key
from tracking_shared.contracts.timestamps import now
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

HEADER = "order_id,merchant_id,customer_name,customer_contact_ref,status,occurred_at"
CREATE = "o-1,acme,Ada,crm-1,,2026-11-01T08:00:00Z"


class Server:
    """ingest's reading of an operation and order-state's decision on it, without a network."""

    def __init__(self) -> None:
        self.orders: dict[str, OrderDocument] = {}
        self.events: dict[str, EventDocument] = {}
        self.refusals: dict[str, UpdateDocument] = {}
        principal = Principal.model_construct(
            subject="load",
            source_type="system",
            grant=EVERYONE,
            scopes=frozenset({"orders:write", "orders:correct"}),
        )
        self._factory = CommandFactory(principal, DEFAULT_WORKFLOW, "0" * 32)

    def decide(self, body: bytes) -> dict[str, Any]:
        """The line of a batch's answer."""
        [operation] = parse_batch(b"[" + body + b"]", lines=False)
        assert not isinstance(operation, BadOperation), operation
        assert operation.update_id is not None
        command = self._factory.operation(operation, operation.update_id)
        known = Known(self.orders, self.events, self.refusals)
        decided = decide_batch(
            [command], known, partition=0, seq=len(self.events), time=now(), workflow=DEFAULT_WORKFLOW
        )
        self.orders |= decided.orders
        made = {update_key(event["order_id"], event["update_id"]): event for event in decided.events}
        self.events |= made
        for key in decided.replaced & made.keys():
            del self.refusals[key]
        self.refusals |= decided.refusals
        [outcome] = decided.outcomes
        return batch_line(
            0, command.update_id, command.order_id, outcome, instance="/v1/batch", trace_id=None
        )

    @property
    def history(self) -> list[str]:
        """The statuses that the orders went through, in the sequence of the events."""
        return [event["status"] for event in self.events.values()]

    @property
    def applied_ids(self) -> list[str]:
        return [f"{event['order_id']}/{event['update_id']}" for event in self.events.values()]


def orders_of(folder: Path, rows: Sequence[str], header: str = HEADER) -> list[list[Record]]:
    """What would be sent of one file."""
    path = folder / "a.csv"
    path.write_text("\n".join([header, *rows, ""]))
    with open_spool() as spool:
        spool.add_all(read_files(Files([path], lambda _: None)))
        return [sort_records(records, DEFAULT_WORKFLOW) for records in spool.orders()]


def load(server: Server, orders: Iterable[list[Record]]) -> Summary:
    summary = Summary()
    for records in orders:
        work = OrderQueue(records, DEFAULT_WORKFLOW)
        while (record := work.next(summary)) is not None:
            work.take(server.decide(record.body), summary)
    return summary


def step(status: str, day: int, order_id: str = "o-1") -> str:
    return f"{order_id},,,,{status},2026-11-{day:02}T08:00:00Z"


def flat(status: str, day: int, order_id: str = "o-1") -> str:
    return f"{order_id},acme,Ada,crm-1,{status},2026-11-{day:02}T08:00:00Z"


STEPS = [CREATE, step("picked_up", 2), step("in_transit", 3), step("in_transit", 4), step("delivered", 5)]
WHOLE = ["created", "picked_up", "in_transit", "in_transit", "delivered"]


def test_a_file_that_has_the_newest_row_first_is_sent_as_it_happened(tmp_path: Path) -> None:
    server = Server()

    summary = load(server, orders_of(tmp_path, STEPS[::-1]))

    assert server.history == WHOLE
    assert (summary.applied, summary.rejected.total()) == (5, 0)


def test_steps_of_one_moment_are_sent_as_the_workflow_allows(tmp_path: Path) -> None:
    rows = [step("delivered", 2), step("in_transit", 2), step("picked_up", 2), CREATE]
    server = Server()
    load(server, orders_of(tmp_path, rows))
    assert server.history == ["created", "picked_up", "in_transit", "delivered"]
    cancelled = Server()
    load(cancelled, orders_of(tmp_path, [step("cancelled", 2), step("picked_up", 2), CREATE]))
    assert cancelled.history == ["created", "picked_up", "cancelled"]


def test_checkpoints_and_corrections_are_sent_among_the_steps_as_they_happened(tmp_path: Path) -> None:
    header = f"{HEADER},kind,reason"
    rows = [
        "o-1,,,,delivered,2026-11-04T08:00:00Z,,",
        "o-1,,,,in_transit,2026-11-04T08:00:00Z,,wrong parcel",
        "o-1,,,,,2026-11-03T09:00:00Z,delivery_attempted,",
        "o-1,,,,in_transit,2026-11-03T08:00:00Z,,",
        "o-1,,,,,2026-11-05T08:00:00Z,note,",
        "o-1,,,,delivered,2026-11-06T08:00:00Z,,",
        "o-1,,,,picked_up,2026-11-02T08:00:00Z,,",
        f"{CREATE},,",
    ]
    server = Server()
    assert load(server, orders_of(tmp_path, rows, header)).rejected.total() == 0
    assert [
        (event["status"], event.get("kind"), event.get("reason")) for event in server.events.values()
    ] == [
        ("created", None, None),
        ("picked_up", None, None),
        ("in_transit", None, None),
        ("in_transit", "delivery_attempted", None),
        ("delivered", None, None),
        ("in_transit", None, "wrong parcel"),
        ("in_transit", "note", None),
        ("delivered", None, None),
    ]
    again = load(server, orders_of(tmp_path, rows, header))
    assert (again.duplicate, again.applied) == (8, 0)


def test_a_status_is_reached_also_where_the_order_got_a_checkpoint_before(tmp_path: Path) -> None:
    header = f"{HEADER},kind"
    rows = [f"{CREATE},", "o-1,,,,,2026-11-02T08:00:00Z,note", f"{flat('delivered', 3)},"]
    server = Server()
    load(server, orders_of(tmp_path, rows, header))
    assert server.history == ["created", "created", "picked_up", "in_transit", "delivered"]


def test_a_row_without_a_time_goes_with_the_one_before_it(tmp_path: Path) -> None:
    rows = [step("in_transit", 3), "o-1,,,,delivered,", step("picked_up", 2), CREATE]
    server = Server()
    load(server, orders_of(tmp_path, rows))
    assert server.history == ["created", "picked_up", "in_transit", "delivered"]


def test_a_delivery_that_came_too_early_is_applied_on_the_day_that_has_all_steps(tmp_path: Path) -> None:
    server = Server()

    first = load(server, orders_of(tmp_path, [STEPS[0], STEPS[4]]))
    assert dict(first.rejected) == {"invalid-transition": 1}
    again = load(server, orders_of(tmp_path, [STEPS[0], STEPS[4]]))
    assert (dict(again.rejected), again.replayed) == ({"invalid-transition": 1}, 0)
    last = load(server, orders_of(tmp_path, STEPS))

    assert (last.applied, last.duplicate, last.rejected.total()) == (4, 1, 0)
    assert server.history == WHOLE
    assert load(server, orders_of(tmp_path, STEPS)).duplicate == 5


def test_a_refusal_under_an_id_of_the_file_is_named_as_one_of_an_earlier_load(tmp_path: Path) -> None:
    rows = [f"{STEPS[0]},", f"{STEPS[4]},mine"]
    server = Server()
    load(server, orders_of(tmp_path, rows, f"{HEADER},update_id"))

    summary = load(server, orders_of(tmp_path, rows, f"{HEADER},update_id"))

    assert summary.replayed == 1
    [(_, _, told)] = summary.shown
    assert "refused before, and not decided again: The order is created; it cannot become delivered." in told


@max_examples(50)
@given(days=st.lists(st.lists(st.sampled_from(STEPS), max_size=8), max_size=5), last=st.permutations(STEPS))
def test_files_in_any_order_over_any_days_end_as_the_sorted_file_and_nothing_is_applied_twice(
    tmp_path_factory: Any, days: list[list[str]], last: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    server = Server()
    for rows in [*days, last]:
        load(server, orders_of(folder, rows))

    straight = Server()
    load(straight, orders_of(folder, STEPS))
    assert server.orders["o-1"]["status"] == straight.orders["o-1"]["status"]
    assert len(server.applied_ids) == len(set(server.applied_ids))
    summary = load(server, orders_of(folder, last))
    assert summary.applied == 0


def test_a_flat_row_is_a_create_and_the_steps_to_its_status(tmp_path: Path) -> None:
    server = Server()

    summary = load(server, orders_of(tmp_path, [flat("delivered", 5)]))

    assert server.history == ["created", "picked_up", "in_transit", "delivered"]
    events = list(server.events.values())
    assert [event["occurred_at"] is not None for event in events] == [False, False, False, True]
    assert [event["metadata"] for event in events] == [
        {},
        {"steps_inferred": True},
        {"steps_inferred": True},
        {},
    ]
    assert (summary.orders, summary.updates, summary.applied, summary.inferred) == (1, 1, 2, 2)
    again = load(server, orders_of(tmp_path, [flat("delivered", 5)]))
    assert (again.duplicate, again.applied, again.inferred) == (2, 0, 0)


def test_a_flat_file_of_every_day_leads_each_order_on_from_where_it_stands(tmp_path: Path) -> None:
    server = Server()
    for status, day in [
        ("created", 1),
        ("picked_up", 2),
        ("picked_up", 2),
        ("delivered", 5),
        ("delivered", 5),
    ]:
        summary = load(server, orders_of(tmp_path, [flat(status, day)]))
        assert not summary.rejected
        assert summary.is_complete
    assert server.history == ["created", "picked_up", "in_transit", "delivered"]


def test_a_flat_row_that_is_older_than_the_order_is_refused(tmp_path: Path) -> None:
    server = Server()
    load(server, orders_of(tmp_path, [flat("delivered", 5)]))

    summary = load(server, orders_of(tmp_path, [flat("picked_up", 2)]))

    assert dict(summary.rejected) == {"invalid-transition": 1}


def test_rows_that_each_repeat_whose_order_it_is_are_one_create_and_its_steps(tmp_path: Path) -> None:
    rows = [flat("in_transit", 4), flat("in_transit", 3), flat("created", 1), flat("picked_up", 2)]
    server = Server()

    load(server, orders_of(tmp_path, rows))
    summary = load(server, orders_of(tmp_path, rows))

    assert server.history == ["created", "picked_up", "in_transit", "in_transit"]
    assert summary.duplicate == 4


def test_a_flat_row_of_another_customer_is_not_taken_for_a_repetition(tmp_path: Path) -> None:
    rows = [flat("created", 1), flat("created", 2).replace("Ada", "Bob")]
    orders = orders_of(tmp_path, rows)
    assert [len(records) for records in orders] == [2]


FLAT_DAYS = st.lists(
    st.lists(
        st.builds(
            flat, st.sampled_from(["created", "picked_up", "in_transit", "delivered"]), st.integers(1, 9)
        ),
        min_size=1,
        max_size=3,
    ),
    max_size=4,
)


@max_examples(50)
@given(days=FLAT_DAYS)
def test_flat_files_over_any_days_lead_to_the_farthest_status_once(
    tmp_path_factory: Any, days: list[list[str]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    server = Server()
    for rows in [*days, [flat("delivered", 10)]]:
        load(server, orders_of(folder, rows))
    assert server.orders["o-1"]["status"] == "delivered"
    assert len(server.applied_ids) == len(set(server.applied_ids))
    assert [status for status in server.history if status != "in_transit"] == [
        "created",
        "picked_up",
        "delivered",
    ]
    for rows in days:
        assert load(server, orders_of(folder, rows)).applied == 0


@max_examples(50)
@given(
    rows=st.lists(st.sampled_from([*STEPS, flat("in_transit", 3), flat("delivered", 5)]), max_size=5),
    turns=st.lists(st.booleans(), max_size=40),
)
def test_two_loads_at_once_come_to_what_one_comes_to(
    tmp_path_factory: Any, rows: list[str], turns: list[bool]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    server, summary = Server(), Summary()
    loads = [
        OrderQueue(records, DEFAULT_WORKFLOW)
        for file in ([*rows, *STEPS], [flat("delivered", 5), *rows])
        for records in orders_of(folder, file)
    ]
    for first in [*turns, *[True, False] * 40]:
        work = loads[0 if first else 1]
        if (record := work.next(summary)) is not None:
            work.take(server.decide(record.body), summary)
    assert [work.next(summary) for work in loads] == [None, None]
    assert server.orders["o-1"]["status"] == "delivered"
    assert len(server.applied_ids) == len(set(server.applied_ids))
