"""The floors: what the bare parts reach on the same nodes, without the system; and what the peer reaches."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial

from benchmarks import authorisation, fan_out, floor_pass, floor_transactions, idle_memory, storm
from benchmarks.measurement import Measurement
from benchmarks.single import CALLERS
from benchmarks.stack_under_test import StackUnderTest

SECONDS = 10.0
UPDATES_EACH = 100

Measure = Callable[[StackUnderTest], Awaitable[Measurement]]


def floors(samples: int | None, seconds: float | None) -> dict[str, Measure]:
    """How to measure each, in `samples` or `seconds` instead of its own."""
    bare_seconds = SECONDS if seconds is None else seconds
    by_arrival = {
        f"ws-{arrival}": partial(fan_out.measure_peer, arrival=arrival, samples=samples, seconds=seconds)
        for arrival in fan_out.ARRIVALS
    }
    return {
        "ws-memory": idle_memory.measure_peer,
        "pass-idle": partial(_passes, name="pass-idle", in_flight=1, seconds=bare_seconds),
        "pass-busy": partial(_passes, name="pass-busy", in_flight=CALLERS, seconds=bare_seconds),
        "transactions-1": partial(_transactions, name="transactions-1", at_once=1, seconds=bare_seconds),
        "transactions-4": partial(_transactions, name="transactions-4", at_once=4, seconds=bare_seconds),
        **by_arrival,
        "ws-storm": storm.measure_peer,
        "verification": authorisation.measure_verification,
    }


async def _passes(stack: StackUnderTest, name: str, in_flight: int, seconds: float) -> Measurement:
    parameters = floor_pass.Parameters(stack.amqp_url, stack.mongodb_url, in_flight, seconds)
    return await stack.measure(name, floor_pass.__name__, asdict(parameters), seconds)


async def _transactions(stack: StackUnderTest, name: str, at_once: int, seconds: float) -> Measurement:
    parameters = floor_transactions.Parameters(stack.mongodb_url, at_once, UPDATES_EACH, seconds)
    return await stack.measure(name, floor_transactions.__name__, asdict(parameters), seconds)
