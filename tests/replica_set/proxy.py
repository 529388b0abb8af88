"""The proxy: three listeners before one database, and what befalls the commands that come through them."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from bson import Timestamp

from replica_set.draws import Draws, Fault, kind_of
from replica_set.members import SET_NAME, Member, Members
from replica_set.refusals import (
    STATE_CHANGES,
    command_name,
    ends_transaction,
    error_answer,
    in_transaction,
    unconfirmed_answer,
)
from replica_set.wire import OP_MSG, Document, Message, msg_body, read_message
from wire_tap import OlderState, older_state

HELLO = frozenset({"hello", "isMaster", "ismaster"})
ON_ANY_MEMBER = frozenset(
    {"ping", "killSessions", "endSessions", "killCursors", "getMore", "buildInfo", "serverStatus"}
)
"""What a secondary does, too."""

MAX_SLOW_SECONDS = 3.0
MAX_ELECTION_SECONDS = 0.7
"""Where a single command meets the change of the primary."""
MAX_LATE_SECONDS = 10.0
"""Longer than the services wait for any call (8 s)."""

MAX_WRITTEN = 10_000

Session = bytes
_numbers = count(1)


class Cut(Exception):
    """The connection ends here. `reply`: bytes that still go out."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__()
        self.reply = reply


@dataclass(slots=True)
class ReplicaSet:
    """The set as tests handle it."""

    upstream: str
    """The address of the database."""
    members: Members
    draws: Draws | None = None
    """If set, commands meet what it draws."""
    events: Counter[str] = field(default_factory=Counter)
    """What befell the set as a whole, and its connections because of that."""
    newest: Timestamp = field(default_factory=lambda: Timestamp(1, 1))
    open: dict[Session, Document] = field(default_factory=dict)
    """The last statement of each transaction that is open, by session."""
    lost: dict[Session, int] = field(default_factory=dict)
    """Transactions that ended with their primary, by session."""
    former: OlderState | None = None
    """What a member knows that is behind."""
    stale: bool = False
    """Whether the primary answers reads from `former`, as far as they allow: it was just elected."""
    cursors: dict[int, str] = field(default_factory=dict)
    """The databases of cursors that were opened on `former`."""
    written: "OrderedDict[tuple[Session, int], Document]" = field(default_factory=OrderedDict)
    """The answers to retryable writes, as every member has them. The embedded database does not know an
    upsert again."""
    commits: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether writes are passed on."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: dict["_Connection", Member] = field(default_factory=dict)
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The connection string."""
        hosts = ",".join(member.address for member in self.members.all)
        return f"mongodb://{hosts}/?replicaSet={SET_NAME}"

    async def remember(self, database: str) -> None:
        """Has a copy made of this database as it stands now, for members that are behind. Writes wait."""
        self.commits.clear()
        try:
            self.former = await older_state(self.upstream, database, f"{database}_older_{next(_numbers)}")
        finally:
            self.commits.set()

    async def step_down(self, *, crash: bool = False) -> None:
        """There is no primary until `elect`. Transactions that are open end; what is being done is
        interrupted, and in a crash every connection of the member is cut.
        """
        self._step_down("down" if crash else "secondary")
        await self._lose_transactions()

    def _step_down(self, role: str) -> None:
        member = self.members.primary
        assert member is not None
        self.events["crash" if role == "down" else "step-down"] += 1
        self.members.change(member, role)
        if role == "down":
            self._cut_all(member)

    async def isolate(self) -> Member:
        """The primary loses its majority without noticing, until `rejoin`."""
        member = self.members.primary
        assert member is not None
        self.events["isolation"] += 1
        self.members.change(member, "isolated")
        await self._lose_transactions()
        return member

    def rejoin(self, member: Member) -> None:
        """It is back, as a secondary."""
        if member.role != "secondary":
            self.members.change(member, "secondary")
        self._tell()

    def elect(self, member: Member | None = None, *, stale: bool = False) -> None:
        """Another member, or this one, is primary. `stale`: it does not know yet what a majority has."""
        up = [each for each in self.members.all if each.role == "secondary"]
        chosen = member or next((each for each in up if each.term < self.members.term), up[0])
        self.stale = stale and self.former is not None
        self.members.elect(chosen)
        self._tell()

    def lose_primary(self, seconds: float) -> None:
        """The primary steps down now, if there is one, and after so many seconds there is another one. That a
        command is told of it comes with it: drivers wait for the member to say so in its `hello`, too.
        """
        if self.members.primary is not None:
            self._step_down("secondary")
            self.keep(self._elect_after(seconds))

    async def _elect_after(self, seconds: float) -> None:
        await self._lose_transactions()
        await asyncio.sleep(seconds)
        if self.members.primary is None:
            self.elect()

    async def calm(self) -> None:
        """Returns when there is a primary; it knows everything, and commands meet nothing."""
        self.draws, self.stale = None, False
        while self.members.primary is None:
            await self.until_changed()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until_changed(self) -> None:
        """Returns when a member has come back or was elected."""
        await self._changed.wait()

    def _cut_all(self, member: Member) -> None:
        for connection, of in list(self._connections.items()):
            if of is member:
                connection.cut()

    async def _lose_transactions(self) -> None:
        for session, statement in list(self.open.items()):
            self.lost[session] = statement["txnNumber"]
            await self.abort(statement)

    async def abort(self, statement: Document) -> None:
        """Ends the transaction of this statement in the database."""
        session = session_of(statement)
        self.open.pop(session, None)
        abort = {key: statement[key] for key in ("lsid", "txnNumber", "autocommit")}
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            async with _upstream(self.upstream) as database:
                await database.ask({"abortTransaction": 1, **abort, "$db": "admin"})

    def is_lost(self, command: Document) -> bool:
        """Whether the command belongs to a transaction that ended with its primary."""
        return in_transaction(command) and self.lost.get(session_of(command)) == command["txnNumber"]

    def keep(self, work: Any) -> "asyncio.Task[Any]":
        """Runs to its end, whoever waits for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Ends everything."""
        for connection in list(self._connections):
            connection.cut()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def serve(self, member: Member, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to a member."""
        connection = _Connection(self, member, writer)
        if member.role == "down":
            writer.transport.abort()
            return
        self._connections[connection] = member
        task = asyncio.current_task()
        assert task is not None
        self._background.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await connection.run(reader)
        finally:
            self._background.discard(task)
            self._connections.pop(connection, None)
            connection.close()


def session_of(command: Document) -> Session:
    """The session that a command names."""
    return bytes(command["lsid"]["id"])


def _statement(command: Document) -> tuple[Session, int]:
    """What a retryable write is known by."""
    retryable = "txnNumber" in command and not in_transaction(command)
    return (session_of(command), command["txnNumber"]) if retryable else (b"", 0)


class _Upstream:
    """A connection to the database."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def pass_on(self, message: Message) -> Message:
        """The answer to a message."""
        self._writer.write(message.encoded())
        await self._writer.drain()
        return await read_message(self._reader)

    async def send(self, message: Message) -> None:
        """Passes on what has no answer."""
        self._writer.write(message.encoded())
        await self._writer.drain()

    async def ask(self, command: Document) -> Document:
        """The answer to a command."""
        return (await self.pass_on(Message(1, 0, OP_MSG, msg_body(command)))).document()

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def _upstream(url: str) -> AsyncIterator[_Upstream]:
    connection = await _connect(url)
    try:
        yield connection
    finally:
        connection.close()


async def _connect(url: str) -> _Upstream:
    parts = urlsplit(url)
    return _Upstream(*await asyncio.open_connection(parts.hostname, parts.port))


class _Connection:
    """One connection of a driver to a member: one command after the other."""

    def __init__(self, replica_set: ReplicaSet, member: Member, writer: asyncio.StreamWriter) -> None:
        self._set = replica_set
        self._member = member
        self._writer = writer
        self._number = next(_numbers)
        self._upstream: _Upstream | None = None

    def cut(self) -> None:
        """The other side gets a reset."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Both sides."""
        self._writer.close()
        if self._upstream is not None:
            self._upstream.close()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until it ends."""
        while True:
            message = await read_message(reader)
            try:
                answer = await self._answer(message, message.document())
            except Cut as cut:
                if cut.reply:
                    self._writer.write(cut.reply)
                    await self._writer.drain()
                return
            if answer is not None:
                self._writer.write(answer.encoded())
                await self._writer.drain()

    async def _answer(self, message: Message, command: Document) -> Message | None:
        if command_name(command) in HELLO:
            hello = await self._set.members.hello(self._member, command, self._number, self._set.newest)
            return message.answer(hello)
        if not message.awaits_answer:
            await (await self._database()).send(message)
            return None
        if (refusal := await self._refusal(command)) is not None:
            return self._refused(message, command, refusal)
        fault = self._set.draws.draw(command) if self._set.draws else None
        if fault is None:
            return await self._done(message, command)
        return await _FAULTS[fault.name](self, message, command, fault)

    async def _refusal(self, command: Document) -> str | None:
        """Why the member does not do this now."""
        if self._member.role == "isolated" and not self._answers_from_behind(command):
            await self._set.until_changed()
            return "InterruptedDueToReplStateChange"
        if not self._member.says_primary and command_name(command) not in ON_ANY_MEMBER:
            return "NotPrimaryNoSecondaryOk" if kind_of(command) == "read" else "NotWritablePrimary"
        if self._set.is_lost(command):
            return "NoSuchTransaction"
        return None

    def _refused(self, message: Message, command: Document, name: str) -> Message:
        self._set.events[f"refused: {name}"] += 1
        return self._error(message, command, name)

    def _error(self, message: Message, command: Document, name: str) -> Message:
        return message.answer(self._stamped(error_answer(command, name), name))

    def _stamped(self, answer: Document, name: str) -> Document:
        answer = {**answer, "operationTime": answer.get("operationTime", self._set.newest)}
        return (
            answer | {"topologyVersion": self._member.topology_version} if name in STATE_CHANGES else answer
        )

    def _answers_from_behind(self, command: Document) -> bool:
        behind = self._set.former
        if behind is None or not (self._set.stale or self._member.role == "isolated"):
            return False
        return behind.may_answer(command)

    async def _database(self) -> _Upstream:
        if self._upstream is None:
            self._upstream = await _connect(self._set.upstream)
        return self._upstream

    async def _done(self, message: Message, command: Document) -> Message:
        """The command is done, and answered as far as the member is still what it was."""
        if self._answers_from_behind(command):
            return await self._stale(message, command)
        state = self._member.role, self._member.term
        answer = await self._pass_on(message, command)
        if self._is_mine(command) and (self._member.role, self._member.term) != state:
            self._set.events["interrupted"] += 1
            return await self._interrupted(message, command, answer)
        return answer

    def _is_mine(self, command: Document) -> bool:
        return command_name(command) not in ON_ANY_MEMBER

    async def _interrupted(self, message: Message, command: Document, answer: Message) -> Message:
        """The answer to what was being done when the primary stepped down."""
        name = "InterruptedDueToReplStateChange"
        kind = kind_of(command)
        if kind in ("commit", "write") and answer.document()["ok"]:
            return self._unconfirmed(message, command, answer, name)
        if kind == "statement":
            self._set.lost[session_of(command)] = command["txnNumber"]
            await self._set.abort(command)
        return self._error(message, command, name)

    def _unconfirmed(self, message: Message, command: Document, answer: Message, name: str) -> Message:
        return message.answer(self._stamped(unconfirmed_answer(command, answer.document(), name), name))

    async def _stale(self, message: Message, command: Document) -> Message:
        behind = self._set.former
        assert behind is not None
        self._set.events["stale read"] += 1
        older = {**command, "$db": behind.copy, "readConcern": {"level": "local"}}
        answer = await (await self._database()).ask(older)
        if answer.get("cursor", {}).get("id"):
            self._set.cursors[answer["cursor"]["id"]] = behind.copy
        return message.answer({**answer, "operationTime": behind.time})

    async def _pass_on(self, message: Message, command: Document) -> Message:
        if kind_of(command) in ("commit", "write"):
            await self._set.commits.wait()
        if (known := self._set.written.get(_statement(command))) is not None:
            return message.answer(known)
        self._note(command)
        if command.get("getMore") in self._set.cursors:
            message = message.with_body(msg_body({**command, "$db": self._set.cursors[command["getMore"]]}))
        answer = await (await self._database()).pass_on(message)
        self._learn(command, answer.document())
        return answer

    def _learn(self, command: Document, answer: Document) -> None:
        self._set.newest = max(self._set.newest, answer.get("operationTime", self._set.newest))
        if "txnNumber" in command and not in_transaction(command) and answer["ok"]:
            self._set.written[_statement(command)] = answer
            if len(self._set.written) > MAX_WRITTEN:
                self._set.written.popitem(last=False)

    def _note(self, command: Document) -> None:
        if in_transaction(command):
            if ends_transaction(command):
                self._set.open.pop(session_of(command), None)
            else:
                self._set.open[session_of(command)] = command

    # What may befall a command.

    async def _cut_before(self, *_: Any) -> Message:
        raise Cut

    async def _cut_after(self, message: Message, command: Document, _: Fault) -> Message:
        await self._pass_on(message, command)
        raise Cut

    async def _cut_in_reply(self, message: Message, command: Document, fault: Fault) -> Message:
        reply = (await self._pass_on(message, command)).encoded()
        raise Cut(reply[: max(1, int(len(reply) * fault.amount))])

    async def _end(self, message: Message, command: Document, name: str) -> Message:
        """Refuses a statement or a commit, and with it the transaction is over."""
        self._set.lost[session_of(command)] = command["txnNumber"]
        await self._set.abort(command)
        return self._error(message, command, name)

    def _lose_primary(self, name: str, amount: float) -> None:
        if name in STATE_CHANGES:
            self._set.lose_primary(amount * MAX_ELECTION_SECONDS)

    async def _fail(self, message: Message, command: Document, name: str, amount: float) -> Message:
        self._lose_primary(name, amount)
        if in_transaction(command) and command_name(command) != "abortTransaction":
            return await self._end(message, command, name)
        return self._error(message, command, name)

    async def _written(self, message: Message, command: Document, name: str, amount: float) -> Message:
        answer = await self._pass_on(message, command)
        self._lose_primary(name, amount)
        return self._unconfirmed(message, command, answer, name) if answer.document()["ok"] else answer

    async def _rolled_back(self, message: Message, command: Document, fault: Fault) -> Message:
        """A primary wrote it, and its successor knows nothing of it."""
        done: Document = {"ok": 1.0}
        if in_transaction(command):
            self._set.lost[session_of(command)] = command["txnNumber"]
            await self._set.abort(command)
        elif kind_of(command) == "write":
            done["n"] = 1
        name = "InterruptedDueToReplStateChange"
        self._lose_primary(name, fault.amount)
        return message.answer(self._stamped(unconfirmed_answer(command, done, name), name))

    async def _late(self, message: Message, command: Document, fault: Fault) -> Message:
        """It is done later, perhaps when nobody waits for it any more."""
        await asyncio.sleep(0.1 + fault.amount**3 * MAX_LATE_SECONDS)
        return await self._done(message, command)

    async def _slow(self, message: Message, command: Document, fault: Fault) -> Message:
        answer = await self._done(message, command)
        await asyncio.sleep(fault.amount**2 * MAX_SLOW_SECONDS)
        return answer

    async def _cursor_killed(self, message: Message, command: Document, _: Fault) -> Message:
        killed = {
            "killCursors": command["collection"],
            "cursors": [command["getMore"]],
            "$db": command["$db"],
        }
        await (await self._database()).ask(killed)
        return self._error(message, command, "CursorNotFound")


def _failing(name: str) -> Any:
    async def fail(connection: _Connection, message: Message, command: Document, fault: Fault) -> Message:
        return await connection._fail(message, command, name, fault.amount)

    return fail


def _unconfirming(name: str) -> Any:
    async def written(connection: _Connection, message: Message, command: Document, fault: Fault) -> Message:
        return await connection._written(message, command, name, fault.amount)

    return written


async def _time_limit_written(
    connection: _Connection, message: Message, command: Document, _: Fault
) -> Message:
    await connection._pass_on(message, command)
    return connection._error(message, command, "MaxTimeMSExpired")


_FAULTS: dict[str, Any] = {
    "cut before sending": _Connection._cut_before,
    "cut after sending": _Connection._cut_after,
    "cut in the reply": _Connection._cut_in_reply,
    "transient": _failing("NoSuchTransaction"),
    "gone": _failing("NoSuchTransaction"),
    "write conflict": _failing("WriteConflict"),
    "snapshot gone": _failing("SnapshotUnavailable"),
    "interrupted": _failing("InterruptedDueToReplStateChange"),
    "not primary": _failing("NotWritablePrimary"),
    "stepped down": _failing("PrimarySteppedDown"),
    "no reads from secondaries": _failing("NotPrimaryNoSecondaryOk"),
    "time limit": _failing("MaxTimeMSExpired"),
    "time limit, not written": _failing("MaxTimeMSExpired"),
    "time limit, written": _time_limit_written,
    "write concern times out": _unconfirming("WriteConcernTimeout"),
    "written, primary stepped down": _unconfirming("PrimarySteppedDown"),
    "written, then rolled back": _Connection._rolled_back,
    "late": _Connection._late,
    "slow majority": _Connection._slow,
    "slow": _Connection._slow,
    "cursor killed": _Connection._cursor_killed,
}


@asynccontextmanager
async def replica_set(url: str, draws: Draws | None = None) -> AsyncIterator[ReplicaSet]:
    """A set of three before the database at `url` (one server, no TLS), with the first one as primary."""
    members = Members([Member("") for _ in range(3)])
    made = ReplicaSet(url, members, draws)
    made.commits.set()
    servers = []
    for member in members.all:
        server = await asyncio.start_server(_serving(made, member), "127.0.0.1", 0)
        member.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        servers.append(server)
    made.elect(members.all[0])
    try:
        yield made
    finally:
        for server in servers:
            server.close()
        await made.close()


def _serving(made: ReplicaSet, member: Member) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.serve(member, reader, writer)

    return serve
