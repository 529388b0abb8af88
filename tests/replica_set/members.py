"""The members of the set: who is primary, who says so, and what each answers to `hello`."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bson import Int64, ObjectId, Timestamp

from replica_set.wire import Document

SET_NAME = "rs0"
MAX_WIRE_VERSION = 25
"""MongoDB 8.0."""

MAX_AWAIT_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Member:
    """One server of the set."""

    address: str
    role: str = "secondary"
    """`primary`, `secondary`, `isolated`: was primary, still says so and reaches no majority; or `down`."""
    term: int = 0
    """In which it was primary last."""
    process: ObjectId = field(default_factory=ObjectId)
    changes: int = 0

    @property
    def says_primary(self) -> bool:
        """What drivers are told."""
        return self.role in ("primary", "isolated")

    @property
    def topology_version(self) -> Document:
        """Grows with every change of the member's state."""
        return {"processId": self.process, "counter": Int64(self.changes)}

    @property
    def election(self) -> ObjectId:
        """The id of the election that it won: greater ones are newer."""
        return ObjectId(f"7fffffff{self.term:016x}")


@dataclass(slots=True)
class Members:
    """All of them."""

    all: Sequence[Member]
    term: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def primary(self) -> Member | None:
        """The one that a majority has elected; None during an election."""
        return next((member for member in self.all if member.role == "primary"), None)

    def elect(self, member: Member) -> None:
        """It is primary in a new term."""
        assert self.primary is None
        self.term += 1
        member.term = self.term
        self.change(member, "primary")

    def change(self, member: Member, role: str) -> None:
        """It plays another role; whoever awaits a `hello` is told. One that was down is another process."""
        if member.role == "down":
            member.process, member.changes = ObjectId(), 0
        member.role = role
        for each in self.all:  # secondaries learn who is primary, and say so
            each.changes += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def hello(self, member: Member, command: Document, connection: int, time: Timestamp) -> Document:
        """The answer to `hello`; where the driver knows the state already, once it changes or time is up."""
        known = command.get("topologyVersion")
        if known and "maxAwaitTimeMS" in command and known == member.topology_version:
            seconds = min(command["maxAwaitTimeMS"] / 1000, MAX_AWAIT_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        return self._hello(member, connection, time)

    def _hello(self, member: Member, connection: int, time: Timestamp) -> Document:
        moment = datetime.now(UTC)
        written = {"ts": time, "t": Int64(self.term)}
        primary = member if member.says_primary else self.primary
        answer: Document = {
            "helloOk": True,
            "topologyVersion": member.topology_version,
            "hosts": [each.address for each in self.all],
            "setName": SET_NAME,
            "setVersion": 1,
            "isWritablePrimary": member.says_primary,
            "ismaster": member.says_primary,
            "secondary": not member.says_primary,
            "me": member.address,
            "lastWrite": {
                "opTime": written,
                "lastWriteDate": moment,
                "majorityOpTime": written,
                "majorityWriteDate": moment,
            },
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": moment,
            "logicalSessionTimeoutMinutes": 30,
            "connectionId": connection,
            "minWireVersion": 0,
            "maxWireVersion": MAX_WIRE_VERSION,
            "readOnly": False,
            "ok": 1.0,
        }
        if primary is not None:
            answer["primary"] = primary.address
        if member.says_primary:
            answer["electionId"] = member.election
        return answer
