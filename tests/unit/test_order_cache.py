"""An order-state that remembers its orders decides like one that always reads, whatever happens to it."""

import tracemalloc
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from bson import BSON
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from builders import (
    EVERYONE,
    TIME,
    checkpoint_command,
    correct_command,
    create_command,
    update_command,
)
from hasty_loop import run_hastily
from property_examples import max_examples
from shelf import HOLDING
from tracking_order_state.adapters.held_updates import by_order
from tracking_order_state.domain import order_cache, remembered_orders
from tracking_order_state.domain.decisions import Decisions, Known
from tracking_order_state.domain.erasure import ErasedContacts
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.domain.partition import PartitionPosition, encode_parked_orders
from tracking_order_state.errors import Fenced, NotNew, Unwritable, fault_of
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.stages import PartitionBatch, PartitionState, ReceivedBatch
from tracking_shared.contracts.access import Grant
from tracking_shared.contracts.commands import AnyCommand, ReleaseOrder, Source
from tracking_shared.contracts.documents import (
    EventDocument,
    HeldDocument,
    OrderDocument,
    ParkedDocument,
    UpdateDocument,
    update_key,
)
from tracking_shared.contracts.identifiers import content_update_id
from tracking_shared.contracts.layout import Layout
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW, Workflow
from tracking_shared.storage.database import DatabaseUnavailable

LARGE = 10**9


class Broken(BaseException):
    """order-state has lost track. No error that it could take for the fault of a command."""


@dataclass
class Documents:
    """A database with one partition."""

    partition: dict[str, Any]
    orders: dict[str, OrderDocument] = field(default_factory=dict)
    events: list[EventDocument] = field(default_factory=list)
    refusals: dict[str, UpdateDocument] = field(default_factory=dict)
    parked: dict[str, ParkedDocument] = field(default_factory=dict)
    held: dict[str, HeldDocument] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> "Documents":
        """One in which nothing was ever written."""
        return cls({"_id": 0, "seq": 0, "commits": 0, "worker": "", "epoch": "e", "parked": []})

    def write(self, position: PartitionPosition, decisions: Decisions) -> None:
        """Writes what a transaction writes, or refuses it."""
        for one in decisions.events:
            others = [event for event in self.events if event["order_id"] == one["order_id"]]
            if any(e["version"] == one["version"] or e["update_id"] == one["update_id"] for e in others):
                raise NotNew("11000")
        self.events += decisions.events
        self.orders |= decisions.orders
        for key in decisions.replaced:
            self.refusals.pop(key, None)
        if decisions.refusals.keys() & self.refusals.keys():
            raise Broken("a refusal in the place of another")
        self.refusals |= decisions.refusals
        for key in decisions.released:
            self.parked.pop(key)
        if any(one["place"] in self._places(one) for one in decisions.parked.values()):
            raise Broken("two parked commands in one place")
        self.parked |= decisions.parked
        after = decisions.position_after(position)
        self._write_held(decisions, after.held)
        self.partition |= {"seq": after.seq, "commits": after.commits, "horizon": after.horizon}
        self.partition["parked"] = encode_parked_orders(after.parked_orders)

    def _write_held(self, decisions: Decisions, number: int) -> None:
        for name in decisions.unheld:
            self.held.pop(name)
        self.held |= decisions.held
        if number != len(self.held):
            raise Broken("another number of held updates")
        self.partition["held"] = number

    def _places(self, parked: ParkedDocument) -> set[int]:
        others = (one for key, one in self.parked.items() if key != parked["_id"])
        return {one["place"] for one in others if one["order_id"] == parked["order_id"]}


class Store:
    """The store of one worker. `fault`: what happens to the next commit that would succeed."""

    def __init__(self, documents: Documents, worker: str = "one") -> None:
        self.documents = documents
        self.worker = worker
        self.fault = ""
        self.is_poisoned = True
        self.rival: Callable[[], Any] | None = None
        self.reads = 0
        self.max_unknown_orders = 2

    def _position(self) -> PartitionPosition:
        return PartitionPosition.decode(deepcopy(self.documents.partition))  # type: ignore[arg-type]

    async def answers(self) -> bool:
        return True

    async def load_erased(self) -> ErasedContacts:
        return ErasedContacts()

    async def claim(self, partition: int) -> PartitionPosition:
        self.documents.partition["commits"] += 1
        self.documents.partition["worker"] = self.worker
        return self._position()

    async def recover(self, position: PartitionPosition) -> PartitionPosition:
        if self.documents.partition["worker"] != self.worker:
            raise Fenced
        return self._position()

    async def load(self, commands: Sequence[AnyCommand], parked_orders: Any = ()) -> Known:
        self.reads += 1
        ids = {command.order_id for command in commands}
        keys = {update_key(command.order_id, command.update_id) for command in commands}
        events = {update_key(event["order_id"], event["update_id"]): event for event in self.documents.events}
        return deepcopy(
            Known(
                {order_id: order for order_id, order in self.documents.orders.items() if order_id in ids},
                {key: event for key, event in events.items() if key in keys},
                {key: refusal for key, refusal in self.documents.refusals.items() if key in keys},
                {
                    key: one
                    for key, one in self.documents.parked.items()
                    if key in keys and one["order_id"] in parked_orders
                },
            )
        )

    async def load_orders(
        self, order_ids: Collection[str], without_document: Collection[str] = ()
    ) -> tuple[dict[str, OrderDocument], dict[str, list[str]]]:
        self.reads += 1
        orders = {key: order for key, order in self.documents.orders.items() if key in order_ids}
        refused: dict[str, list[str]] = {order_id: [] for order_id in (*order_ids, *without_document)}
        for refusal in self.documents.refusals.values():
            if refusal["order_id"] in refused:
                refused[refusal["order_id"]].append(refusal["update_id"])
        return deepcopy((orders, refused))

    async def load_held(
        self, order_ids: Collection[str], sender_keys: Collection[str]
    ) -> tuple[dict[str, list[HeldDocument]], dict[str, EventDocument], dict[str, int]]:
        found = by_order(one for one in self.documents.held.values() if one["order_id"] in order_ids)
        ids = {(one["order_id"], one["update_id"]) for some in found.values() for one in some}
        events = {
            update_key(event["order_id"], event["update_id"]): event
            for event in self.documents.events
            if (event["order_id"], event["update_id"]) in ids
        }
        senders = [one.get("sender_key") for one in self.documents.held.values()]
        return deepcopy((found, events, {key: senders.count(key) for key in sender_keys}))

    @property
    def system(self) -> "Store":
        return self

    async def held_by_id(self, ids: Collection[str]) -> dict[str, list[HeldDocument]]:
        return deepcopy(by_order(one for one in self.documents.held.values() if one["_id"] in ids))

    async def time(self) -> datetime:
        return TIME

    async def load_unknown_orders(self) -> set[str] | None:
        self.reads += 1
        refusals = self.documents.refusals.values()
        unknown = {refusal["order_id"] for refusal in refusals if refusal["merchant_id"] is None}
        return unknown if len(unknown) <= self.max_unknown_orders else None

    async def commit(
        self, positions: Sequence[PartitionPosition], decisions: Sequence[Decisions]
    ) -> list[PartitionPosition]:
        [position], [decided] = positions, decisions
        if not decided.is_written_at(position):
            return [position]
        self._check_fence(position)
        if self.is_poisoned and any("poison" in event["update_id"] for event in decided.events):
            raise Unwritable("121")
        written = deepcopy(self.documents)
        written.write(position, deepcopy(decided))
        fault, self.fault = self.fault, ""
        if fault == "stolen" and self.rival:
            await self.rival()
            self._check_fence(position)
        if fault == "lost":
            raise DatabaseUnavailable("the answer was lost, and so was the commit")
        vars(self.documents).update(vars(written))
        if fault == "unanswered":
            raise DatabaseUnavailable("the answer was lost")
        return [self._position()]

    def _check_fence(self, position: PartitionPosition) -> None:
        partition = self.documents.partition
        if partition["worker"] != self.worker:
            raise Fenced
        if partition["commits"] != position.commits:
            raise DatabaseUnavailable("an earlier commit has come late")

    async def parked_command(self, command: AnyCommand) -> ParkedDocument | None:
        return deepcopy(self.documents.parked.get(update_key(command.order_id, command.update_id)))

    async def parked_at(self, order_id: str, place: int) -> ParkedDocument:
        parked = self.documents.parked.values()
        [found] = [one for one in parked if (one["order_id"], one["place"]) == (order_id, place)]
        return deepcopy(found)

    async def newest_events(self, order_id: str, limit: int) -> list[EventDocument]:
        return deepcopy([event for event in self.documents.events if event["order_id"] == order_id][-limit:])


async def nothing() -> None:
    """The deliveries are ours."""


class OrderState:
    """A worker on a partition, which claims it again when it was fenced."""

    def __init__(
        self,
        cache: OrderCache,
        documents: Documents | None = None,
        worker: str = "one",
        workflow: Workflow = DEFAULT_WORKFLOW,
    ) -> None:
        self.store = Store(documents or Documents.empty(), worker)
        self.cache = cache
        self.time = TIME
        self.processor = BatchProcessor(
            self.store,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            workflow,
            Layout((1,)),
            100,
            clock=self._clock,
            cache=cache,
        )
        self.partition = PartitionState(0, nothing)

    def _clock(self) -> datetime:
        return self.time

    async def decide(self, *messages: AnyCommand | ReleaseOrder) -> list[Any]:
        """The outcomes of one batch."""
        commands = [one for one in messages if not isinstance(one, ReleaseOrder)]
        releases = [one for one in messages if isinstance(one, ReleaseOrder)]
        while True:
            self.partition.begin_batch()
            part = PartitionBatch(self.partition, commands=commands, releases=releases)
            try:
                committed = await self.processor.commit(ReceivedBatch([part]))
            except Fenced:
                self.partition = PartitionState(0, nothing)
            else:
                return list(committed.results[0].outcomes)

    async def end_held(self) -> None:
        """Lets the time of all held updates be over."""
        if self.partition.position is None:
            return
        over = TIME + timedelta(days=1)
        with suppress(Fenced, DatabaseUnavailable):
            held = sorted(self.store.documents.held)
            await fault_of(self.processor.steps.end_held(self.partition, held, over))

    def run(self, *messages: AnyCommand | ReleaseOrder) -> list[Any]:
        """`decide`, from outside of a loop."""
        return run_hastily(self.decide(*messages))


def told(outcomes: list[Any]) -> list[tuple[str | None, int | None, bool]]:
    """Problem, version and whether it is a repeat, of each."""
    return [(o["problem"] and o["problem"]["slug"], o["version"], o["replayed"]) for o in outcomes]


def test_what_is_known_is_not_read_again() -> None:
    own = OrderState(OrderCache(LARGE))
    assert told(own.run(create_command("a"), update_command("a"))) == [(None, 1, False), (None, 2, False)]
    assert own.store.reads == 1  # once: the ids under which something was refused without an order
    assert told(own.run(create_command("b"))) == [(None, 1, False)]
    assert told(own.run(update_command("a", "in_transit"))) == [(None, 3, False)]
    assert told(own.run(update_command("a", "picked_up"))) == [("invalid-transition", None, False)]
    assert own.store.reads == 1


def test_an_order_that_was_taken_to_be_new_and_is_not_is_read_with_all_that_was_refused() -> None:
    own = OrderState(OrderCache(1))  # remembers the unknown orders, and no order from one batch to the next
    own.run(create_command("a", update_id="c"), create_command("a", update_id="refused"))
    repeat = create_command("a", update_id="c")
    conflict = update_command("a", "cancelled", expected_version=2)
    reused = checkpoint_command("a", update_id="refused")
    assert told(own.run(repeat, conflict, reused)) == [
        (None, 1, True),
        ("version-conflict", None, False),
        ("idempotency-key-reused", None, False),
    ]


def test_an_order_that_was_taken_to_be_new_and_is_not_is_forgotten() -> None:
    own = OrderState(OrderCache(1))
    own.run(create_command("a", update_id="c"), create_command("a", update_id="refused"))
    own.cache._max_bytes = LARGE  # from now on it remembers
    conflict = update_command("a", "cancelled", expected_version=5)
    own.run(create_command("a", update_id="c"), conflict, update_command("a", update_id="applied"))
    reused = checkpoint_command("a", update_id="refused")
    assert told(own.run(reused)) == [("idempotency-key-reused", None, False)]


def test_a_create_of_an_order_under_whose_id_something_was_refused_is_preceded_by_a_read() -> None:
    own = OrderState(OrderCache(LARGE))
    dora = update_command("early", update_id="u")
    own.run(create_command("a"), dora)
    before = own.store.reads
    assert told(own.run(create_command("b"))) == [(None, 1, False)]
    assert own.store.reads == before
    used = create_command("early", update_id="u", source=dora.source)
    assert told(own.run(used)) == [("idempotency-key-reused", None, False)]
    assert told(own.run(create_command("early", update_id="u"))) == [(None, 1, False)]


def test_where_too_many_ids_were_refused_early_each_create_is_preceded_by_a_read() -> None:
    own = OrderState(OrderCache(LARGE))
    own.run(*(update_command(f"early-{number}") for number in range(own.store.max_unknown_orders + 1)))
    for number in range(3):
        before = own.store.reads
        assert told(own.run(create_command(f"o-{number}"))) == [(None, 1, False)]
        assert own.store.reads > before


def test_of_an_order_that_others_began_only_the_outcome_of_a_refused_update_is_read() -> None:
    documents = Documents.empty()
    OrderState(OrderCache(0), documents, "rival").run(create_command("a"), update_command("a"))
    own = OrderState(OrderCache(LARGE), documents)
    assert told(own.run(update_command("a", "in_transit"))) == [(None, 3, False)]
    assert told(own.run(update_command("a", "in_transit"))) == [(None, 4, False)]
    assert own.store.reads == 1
    assert told(own.run(update_command("a", "picked_up"))) == [("invalid-transition", None, False)]
    assert own.store.reads == 2


def test_what_is_answered_without_a_commit_is_read() -> None:
    own = OrderState(OrderCache(LARGE))
    scan, early = update_command("a", update_id="u"), update_command("a", "delivered", update_id="e")
    own.run(create_command("a"), scan, early)
    for command, answer in (
        (scan, (None, 2, True)),
        (early, ("invalid-transition", None, True)),
        (update_command("a", grant=Grant(merchants=frozenset({"other"}))), ("order-not-found", None, False)),
    ):
        before = own.store.reads
        assert told(own.run(command)) == [answer]
        assert own.store.reads == before + 1


def test_a_repeat_of_what_is_forgotten_is_found_at_its_commit_and_nothing_is_assumed_for_a_while() -> None:
    own = OrderState(OrderCache(LARGE))
    scan = update_command("a", "in_transit", update_id="u")
    own.run(create_command("a", update_id="c"), update_command("a"), scan)
    own.cache.drop(0)
    assert told(own.run(scan)) == [(None, 3, True)]
    assert own.store.documents.partition["seq"] == 3
    before = own.store.reads
    for _ in range(order_cache.CAUTIOUS_BATCHES - 1):
        own.run(scan)
    assert own.store.reads == before + order_cache.CAUTIOUS_BATCHES - 1
    own.cache.drop(0)
    assert told(own.run(create_command("a", update_id="c"))) == [(None, 1, True)]


def test_what_waits_for_an_operator_is_read() -> None:
    own = OrderState(OrderCache(LARGE))
    waiting = update_command("a", "in_transit", update_id="u")
    own.run(create_command("a"), update_command("a", update_id="poison"))
    assert own.run(waiting) == own.run(waiting) == [None]
    assert [one["place"] for one in own.store.documents.parked.values()] == [1, 2]
    own.store.is_poisoned = False
    own.run(ReleaseOrder(order_id="a"))
    assert told(own.run(waiting, update_command("a", "in_transit"))) == [(None, 3, True), (None, 4, False)]


@pytest.mark.parametrize("fault", ["lost", "unanswered", "stolen"])
def test_after_a_commit_that_did_not_end_well_everything_is_read(fault: str) -> None:
    own = OrderState(OrderCache(LARGE))
    own.run(create_command("a"), create_command("b"))

    async def rival() -> None:
        await OrderState(OrderCache(0), own.store.documents, "rival").decide(update_command("a", "cancelled"))

    own.store.fault, own.store.rival = fault, rival
    [outcome] = told(own.run(update_command("a", update_id="u")))
    assert (
        outcome
        == {
            "lost": (None, 2, False),
            "unanswered": (None, 2, True),
            "stolen": ("invalid-transition", None, False),
        }[fault]
    )
    before = own.store.reads
    own.run(update_command("b"))
    assert own.store.reads == before + 1


def test_it_keeps_within_its_bound_and_forgets_what_was_used_least_lately() -> None:
    bound = 100 * remembered_orders.ENTRY_BYTES
    own = OrderState(OrderCache(bound))
    for number in range(300):
        own.run(create_command(f"o-{number}"), update_command("hot", "in_transit"))
        assert own.cache.size <= bound
    assert 50 < len(own.cache) < 100
    before = own.store.reads
    own.run(update_command("o-299"))
    assert own.store.reads == before
    own.run(update_command("o-0"))
    assert own.store.reads == before + 1


def test_one_order_takes_no_more_than_its_share_however_much_happens_to_it() -> None:
    own = OrderState(OrderCache(LARGE))
    own.run(create_command("a"), update_command("a"))
    own.store.documents.events.clear()  # or each look at them would take long
    for _ in range(100):
        own.run(*(update_command("a", "in_transit") for _ in range(100)))
        own.store.documents.events.clear()
    assert (
        own.cache.size
        <= remembered_orders.ENTRY_BYTES + (remembered_orders.MAX_IDS + 10) * remembered_orders.ID_BYTES
    )
    for _ in range(remembered_orders.MAX_IDS + 1):
        own.run(update_command("a", "created"))
    before = own.store.reads
    assert told(own.run(update_command("a", "in_transit"))) == [(None, 10_003, False)]
    assert own.store.reads == before + 1  # its refused ids are too many to be listed


def test_the_estimated_size_is_near_the_memory_that_is_taken() -> None:
    cache, position = OrderCache(LARGE), PartitionPosition(0, 0, 1, {})
    encoded = [
        BSON.encode(
            {
                "_id": f"order-{number:030}",
                "merchant_id": f"merchant-{number % 50}",
                "customer": {"name": f"Ada Lovelace {number}", "contact_ref": f"crm:{number:08}"},
                "status": "in_transit",
                "active": True,
                "version": 3,
                "created_at": TIME,
                "updated_at": TIME,
                "source": {"type": "driver", "id": f"driver-{number:06}"},
                "metadata": {"van": f"B-{number}", "stops": number, "place": {"lat": 52.5, "lon": 13.4}},
                "partition": 0,
            }
        )
        for number in range(5_000)
    ]
    tracemalloc.start()
    for document in encoded:
        order: Any = document.decode(CodecOptions(tz_aware=True))
        cache.learn(position, {order["_id"]: order}, {order["_id"]: [uuid4().hex]})
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 < cache.size / taken < 1.4


# The property.

_orders = st.sampled_from(["a", "b", "c"])
_strangers = Grant(merchants=frozenset({"other"}))
_updates = st.builds(
    update_command,
    _orders,
    st.sampled_from([*sorted(DEFAULT_WORKFLOW.statuses), "picked_up", "in_transit"]),
    update_id=st.sampled_from(
        [*(f"u{n}" for n in range(5)), "poison", "poison", content_update_id(b"1"), content_update_id(b"2")]
    ),
    grant=st.sampled_from([EVERYONE, EVERYONE, EVERYONE, _strangers]),
    source=st.sampled_from([Source(type="driver", id="dora"), Source(type="driver", id="dan")]),
    expected_version=st.sampled_from([None, None, None, 1, 2]),
)
_creates = st.builds(create_command, _orders, update_id=st.sampled_from(["c1", "c2", "u1"]))
_checkpoints = st.builds(
    checkpoint_command,
    _orders,
    update_id=st.sampled_from(["u1", "u7", "poison", content_update_id(b"1")]),
    expected_version=st.sampled_from([None, 2]),
)
_corrections = st.builds(
    correct_command,
    _orders,
    st.sampled_from(sorted(DEFAULT_WORKFLOW.statuses)),
    update_id=st.sampled_from(["u1", "u8", "poison", content_update_id(b"2")]),
    grant=st.sampled_from([EVERYONE, _strangers]),
)
_commands = st.one_of(_creates, _updates, _updates, _checkpoints, _corrections)


@dataclass(frozen=True)
class Step:
    """A batch, and what happens before and at its commit."""

    commands: list[AnyCommand]
    fault: str
    by_rival: list[AnyCommand]
    released: set[str]
    event: str


_steps = st.builds(
    Step,
    commands=st.lists(_commands, min_size=1, max_size=6),
    fault=st.sampled_from(["", "", "", "lost", "unanswered", "stolen"]),
    by_rival=st.lists(_commands, max_size=3),
    released=st.sets(_orders, max_size=1),
    event=st.sampled_from(
        ["", "", "", "expired", "saved", "restored", "sound", "poisoned", "evicted", "time is over"]
    ),
)


class Life:
    """An order-state that goes through steps."""

    def __init__(self, cache: OrderCache, workflow: Workflow) -> None:
        self.workflow = workflow
        self.order_state = OrderState(cache, workflow=workflow)
        self.saved = deepcopy(self.order_state.store.documents)

    async def take(self, number: int, step: Step) -> list[Any]:
        """The outcomes of one step."""
        own = self.order_state
        store = own.store
        own.time = TIME + timedelta(seconds=number / 4)
        self._happen(step.event)
        if step.event == "time is over":
            await own.end_held()

        async def rival() -> None:
            other = OrderState(OrderCache(0), store.documents, "rival", self.workflow)
            other.time, other.store.is_poisoned = own.time, store.is_poisoned
            await other.decide(*step.by_rival)

        store.rival, store.fault = rival, step.fault
        releases = [ReleaseOrder(order_id=order_id) for order_id in sorted(step.released)]
        outcomes = await own.decide(*step.commands, *releases)
        store.fault = ""
        return outcomes

    def contents(self) -> Documents:
        """What is stored, but for how many commits it took."""
        contents = deepcopy(self.order_state.store.documents)
        contents.partition |= {"commits": 0, "horizon": TIME}
        return contents

    def _happen(self, event: str) -> None:
        store, cache = self.order_state.store, self.order_state.cache
        if event == "expired":
            store.documents.refusals.clear()
        elif event == "saved":
            self.saved = deepcopy(store.documents)
        elif event == "restored":
            vars(store.documents).update(vars(deepcopy(self.saved)))
        elif event in ("sound", "poisoned"):
            store.is_poisoned = event == "poisoned"
        elif event == "evicted":
            cache.drop(0)


@max_examples(100)
@given(
    st.lists(_steps, max_size=12),
    st.sampled_from([1, 2_500, 5_000, LARGE]),
    st.sampled_from([DEFAULT_WORKFLOW, HOLDING]),
)
def test_it_decides_like_one_that_always_reads(steps: list[Step], max_bytes: int, workflow: Workflow) -> None:
    async def compare() -> None:
        remembering, reading = Life(OrderCache(max_bytes), workflow), Life(OrderCache(0), workflow)
        for number, step in enumerate(steps):
            outcomes = await remembering.take(number, step)
            assert outcomes == await reading.take(number, step)
            assert remembering.contents() == reading.contents()
            assert remembering.order_state.cache.size <= max_bytes

    run_hastily(compare())
