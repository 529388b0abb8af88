"""Messages of MongoDB's wire protocol: OP_MSG, and OP_QUERY for the first `hello` of a connection."""

import asyncio
from dataclasses import dataclass
from struct import pack, unpack_from
from typing import Any

from bson import decode, decode_all, encode

Document = dict[str, Any]

OP_REPLY = 1
OP_QUERY = 2004
OP_MSG = 2013
CHECKSUM_PRESENT = 1
MORE_TO_COME = 2
MAX_MESSAGE_BYTES = 48_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came."""

    number: int
    response_to: int
    operation: int
    body: bytes

    @property
    def awaits_answer(self) -> bool:
        """Whether the sender waits for one; not after a write that nobody acknowledges."""
        return self.operation != OP_MSG or not unpack_from("<I", self.body)[0] & MORE_TO_COME

    def encoded(self) -> bytes:
        """As it is sent."""
        head = pack("<iiii", 16 + len(self.body), self.number, self.response_to, self.operation)
        return head + self.body

    def document(self) -> Document:
        """The command or the answer, with its sequences of documents in their places."""
        if self.operation == OP_MSG:
            return msg_document(self.body)
        if self.operation == OP_QUERY:
            end = self.body.index(b"\0", 4)
            name = self.body[4:end].decode()
            command: Document = decode(self.body[end + 9 :])
            return {**command.get("$query", command), "$db": name.partition(".")[0]}
        raise ValueError(f"operation {self.operation}")

    def with_body(self, body: bytes) -> "Message":
        """The same with another body."""
        return Message(self.number, self.response_to, self.operation, body)

    def answer(self, document: Document) -> "Message":
        """The answer to this command."""
        body = msg_body(document)
        if self.operation == OP_QUERY:
            body = pack("<iqii", 0, 0, 0, 1) + encode(document)
        operation = OP_REPLY if self.operation == OP_QUERY else OP_MSG
        return Message(self.number, self.number, operation, body)


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message.

    Raises:
        asyncio.IncompleteReadError: the connection has ended.
        ValueError: what comes is no message.
    """
    length, number, response_to, operation = unpack_from("<iiii", await reader.readexactly(16))
    if not 16 <= length <= MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return Message(number, response_to, operation, await reader.readexactly(length - 16))


def msg_body(document: Document) -> bytes:
    """The body of an OP_MSG that holds a document alone."""
    return pack("<IB", 0, 0) + encode(document)


def msg_document(body: bytes) -> Document:
    """The document of an OP_MSG, with its sequences of documents in their places."""
    (flags,) = unpack_from("<I", body)
    end = len(body) - (4 if flags & CHECKSUM_PRESENT else 0)
    document: Document = {}
    place = 4
    while place < end:
        kind = body[place]
        (size,) = unpack_from("<i", body, place + 1)
        section = body[place + 1 : place + 1 + size]
        if kind == 0:
            document |= decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            document[name.decode()] = decode_all(documents)
        place += 1 + size
    return document
