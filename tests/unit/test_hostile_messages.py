"""Whatever somebody else puts on the broker: it is what it should be, or is refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from builders import create_command, update_command
from tracking_ingest.submission.dispatcher import Dispatcher
from tracking_notifier.errors import UndecodableEvents
from tracking_notifier.stream.events import decode_events
from tracking_shared.contracts.commands import (
    Outcome,
    UndecodableMessage,
    UndecodableReplies,
    decode_commands,
    decode_replies,
    encode_command,
)
from tracking_shared.contracts.workflow import DEFAULT_WORKFLOW

PARTITIONS = 4

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "o-1:2",
    "source": "/orders",
    "type": "order.status_changed",
    "subject": "o-1",
    "time": "2026-03-02T09:40:12.456Z",
    "sequence": "00000000000000000017",
    "partition": 1,
    "data": {
        "order_id": "o-1",
        "merchant_id": "acme",
        "version": 2,
        "status": "picked_up",
        "previous_status": "created",
        "active": True,
        "source": {"type": "driver", "id": "driver-7"},
    },
}
OUTCOME: dict[str, Any] = {
    "update_id": "u-1",
    "order_id": "o-1",
    "outcome": "rejected",
    "replayed": False,
    "version": None,
    "order": None,
    "problem": {"slug": "order-not-found", "detail": "There is no order o-1.", "members": {}},
}
REPLY: dict[str, Any] = {"message_id": "a-1", "outcomes": [OUTCOME, None]}
COMMANDS = [orjson.loads(encode_command(command)) for command in (create_command(), update_command("o-1"))]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["0" * 30, "9" * 5000, "$gt", "created", "o-1", "\ud800", "internal-error"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> bytes:
    """A batch of `document` with a few of its parts removed or replaced by anything."""
    body = orjson.loads(orjson.dumps([document]))
    for _ in range(draw(st.integers(1, 3))):
        place = body
        while isinstance(place, (list, dict)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) or not isinstance(place[key], (list, dict)) or not place[key]:
                place[key] = draw(values)
                break
            place = place[key]
    return dumped(body)


def dumped(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except (TypeError, orjson.JSONEncodeError):  # half a surrogate pair, an integer beyond 64 bits
        return str(body).replace("'", '"').encode(errors="surrogatepass")


def bodies(*documents: Any) -> st.SearchStrategy[bytes]:
    """Spoilt ones, cut ones, any JSON, and any bytes."""
    whole = st.sampled_from([orjson.dumps([document]) for document in documents])
    cut = st.builds(lambda body, length: body[:length], whole, st.integers(0, 40))
    return st.one_of(*map(spoilt, documents), cut, values.map(dumped), st.binary())


def well_formed_or(error: type[Exception], decode: Callable[[], list[Any]]) -> list[Any]:
    try:
        return decode()
    except error:
        return []


@given(bodies(EVENT))
def test_events_of_anybody(body: bytes) -> None:
    events = well_formed_or(UndecodableEvents, lambda: decode_events(body, DEFAULT_WORKFLOW))
    for event in events:
        assert 0 <= event.partition < PARTITIONS
        assert event.encoded(with_customer=True)
        assert event.encoded(with_customer=False)


@pytest.mark.parametrize(
    "part", ["partition", "sequence", "data", *(f"data/{name}" for name in EVENT["data"])]
)
def test_an_event_that_lacks_a_part_is_refused_whole(part: str) -> None:
    event = orjson.loads(orjson.dumps(EVENT))
    place = event["data"] if "/" in part else event
    del place[part.rpartition("/")[2]]
    with pytest.raises(UndecodableEvents):
        decode_events(orjson.dumps([EVENT, event]), DEFAULT_WORKFLOW)


@given(bodies(*COMMANDS))
def test_commands_of_anybody(body: bytes) -> None:
    for command in well_formed_or(UndecodableMessage, lambda: decode_commands(body)):
        assert encode_command(command)


NO_TEXT_FOR_SLUG = [REPLY | {"outcomes": [OUTCOME | {"problem": {"slug": []}}]}]


@given(bodies(REPLY))
@example(orjson.dumps(NO_TEXT_FOR_SLUG))
def test_replies_of_anybody(body: bytes) -> None:
    for reply in well_formed_or(UndecodableReplies, lambda: decode_replies(body)):
        assert all(outcome is None or outcome.keys() >= OUTCOME.keys() for outcome in reply["outcomes"])


def test_the_samples_are_good_ones() -> None:
    assert len(decode_events(orjson.dumps([EVENT]), DEFAULT_WORKFLOW)) == 1
    assert decode_replies(orjson.dumps([REPLY])) == [REPLY]
    TypeAdapter(Outcome).validate_python(OUTCOME)
    for command in COMMANDS:
        assert len(decode_commands(orjson.dumps([command]))) == 1


@pytest.mark.parametrize("outcomes", [[], [None, None], [None] * 500])
async def test_a_reply_with_another_number_of_outcomes_answers_nobody(outcomes: list[None]) -> None:
    dispatcher = Dispatcher(PARTITIONS)
    waiting = asyncio.get_running_loop().create_future()

    class Waiting:
        outcome = waiting

    dispatcher._awaited["a-1"] = [Waiting()]  # type: ignore[list-item] # all that is looked at
    dispatcher._take(orjson.dumps([{"message_id": "a-1", "outcomes": outcomes}]))
    assert not waiting.done()
