"""The floors: what the bare parts reach on the same nodes, without the system."""

from dataclasses import asdict

from benchmarks import floor_pass, floor_transactions
from benchmarks.measurement import Measurement
from benchmarks.single import CALLERS
from benchmarks.stack_under_test import StackUnderTest

SECONDS = 10.0
UPDATES_EACH = 100


async def measure(stack: StackUnderTest, seconds: float | None) -> list[Measurement]:
    """All four floors, one after the other."""
    duration = SECONDS if seconds is None else seconds
    return [
        await _passes(stack, "pass-idle", 1, duration),
        await _passes(stack, "pass-busy", CALLERS, duration),
        await _transactions(stack, "transactions-1", 1, duration),
        await _transactions(stack, "transactions-4", 4, duration),
    ]


async def _passes(stack: StackUnderTest, name: str, in_flight: int, seconds: float) -> Measurement:
    parameters = floor_pass.Parameters(stack.amqp_url, stack.mongodb_url, in_flight, seconds)
    return await stack.measure(name, floor_pass.__name__, asdict(parameters), seconds)


async def _transactions(stack: StackUnderTest, name: str, at_once: int, seconds: float) -> Measurement:
    parameters = floor_transactions.Parameters(stack.mongodb_url, at_once, UPDATES_EACH, seconds)
    return await stack.measure(name, floor_transactions.__name__, asdict(parameters), seconds)
