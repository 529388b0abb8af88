"""Which command meets which fault: drawn from a seed. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from replica_set.refusals import command_name, in_transaction
from replica_set.wire import Document

CUTS = {"cut before sending": 4, "cut after sending": 4, "cut in the reply": 2}
REPLICA_STATES = {"not primary": 1, "interrupted": 1, "stepped down": 1}

FAULTS: dict[str, dict[str, int]] = {
    "commit": {
        **CUTS,
        "transient": 4,
        "write concern times out": 4,
        "written, then rolled back": 1,
        "written, primary stepped down": 1,
        "interrupted": 1,
        "late": 1,
        "slow majority": 3,
        "time limit, written": 2,
        "time limit, not written": 2,
    },
    "abort": {**CUTS, "interrupted": 1},
    "statement": {
        **CUTS,
        "write conflict": 6,
        "interrupted": 1,
        "snapshot gone": 2,
        "gone": 2,
        "time limit": 2,
    },
    "write": {
        **CUTS,
        **REPLICA_STATES,
        "write concern times out": 3,
        "written, then rolled back": 1,
        "written, primary stepped down": 1,
        "slow majority": 3,
        "time limit": 3,
    },
    "read": {**CUTS, **REPLICA_STATES, "no reads from secondaries": 1, "slow": 3, "time limit": 3},
    "cursor": {**CUTS, "cursor killed": 8, "interrupted": 1, "time limit": 2},
    "other": CUTS,
}
"""Kind of command → its faults, with their weights."""

READS = frozenset({"find", "aggregate", "count", "distinct", "listCollections", "listIndexes"})
WRITES = frozenset({"insert", "update", "delete", "findAndModify", "bulkWrite"})


class Fault(NamedTuple):
    """What befalls one command."""

    name: str
    amount: float
    """From 0 to 1, for whatever may be longer or shorter."""


def kind_of(command: Document) -> str:
    """One of `FAULTS`."""
    name = command_name(command)
    if name in ("commitTransaction", "abortTransaction"):
        return name.removesuffix("Transaction")
    if in_transaction(command):
        return "statement"
    if name == "getMore":
        return "cursor"
    return "read" if name in READS else "write" if name in WRITES else "other"


@dataclass(slots=True)
class Draws:
    """Draws a fault for so many of a thousand commands. The n-th command of a kind meets the same fault in
    every run with the same seed; which one is the n-th depends on how the processes run.
    """

    seed: str
    per_thousand: dict[str, float]
    """By kind; a kind that is not named meets none."""
    only: frozenset[str] | None = None
    """If set, faults of these names alone."""
    drawn: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many of each, by kind and name."""
    _numbers: Counter[str] = field(default_factory=Counter)

    def draw(self, command: Document) -> Fault | None:
        """The fault that this command meets."""
        kind = kind_of(command)
        self._numbers[kind] += 1
        random = Random(f"{self.seed}/{kind}/{self._numbers[kind]}")
        if random.random() * 1000 >= self.per_thousand.get(kind, 0):
            return None
        faults = {
            name: weight
            for name, weight in FAULTS[kind].items()
            if ("maxTimeMS" in command or not name.startswith("time limit"))
            and (self.only is None or name in self.only)
        }
        if not faults:
            return None
        name = random.choices(list(faults), list(faults.values()))[0]
        self.drawn[kind, name] += 1
        return Fault(name, random.random())
