"""Writes that leave together."""

import asyncio
from typing import Any, cast

from tracking_shared.joined_writes import JOINED_BYTES, JoinedWrites


class Transport:
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(bytes(data))

    def writelines(self, parts: list[bytes]) -> None:
        self.calls.append(b"".join(parts))

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")
        self.is_closed = True

    def abort(self) -> None:
        self.calls.append("abort")
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 7

    def get_extra_info(self, name: str) -> str:
        return f"its {name}"


def joined() -> tuple[Transport, JoinedWrites]:
    transport = Transport()
    return transport, JoinedWrites(cast(asyncio.Transport, transport), asyncio.get_running_loop())


async def test_what_is_written_in_one_step_leaves_in_one_call_and_in_its_order() -> None:
    transport, writes = joined()
    writes.write(b"head ")
    writes.write(b"body")
    assert transport.calls == []
    assert writes.get_write_buffer_size() == 7 + len(b"head body")
    await asyncio.sleep(0)
    assert transport.calls == [b"head body"]
    assert writes.get_write_buffer_size() == 7
    writes.write(b"next")
    await asyncio.sleep(0)
    assert transport.calls == [b"head body", b"next"]


async def test_lines_stay_behind_what_was_written_before_them() -> None:
    transport, writes = joined()
    writes.write(b"head ")
    writes.writelines([b"one ", b"two"])
    await asyncio.sleep(0)
    assert transport.calls == [b"head one two"]


async def test_much_leaves_at_once_so_that_its_writer_can_be_held_back() -> None:
    transport, writes = joined()
    writes.write(b"first ")
    writes.write(large := bytes(JOINED_BYTES))
    assert transport.calls == [b"first " + large]
    writes.write(b"last")
    await asyncio.sleep(0)
    assert transport.calls == [b"first " + large, b"last"]


async def test_a_close_comes_behind_what_was_written() -> None:
    transport, writes = joined()
    writes.write(b"last words")
    writes.close()
    assert transport.calls == [b"last words", "close"]
    await asyncio.sleep(0)
    assert transport.calls == [b"last words", "close"]


async def test_the_end_of_sending_comes_behind_what_was_written() -> None:
    transport, writes = joined()
    writes.write(b"last words")
    writes.write_eof()
    await asyncio.sleep(0)
    assert transport.calls == [b"last words", "eof"]


async def test_an_abort_leaves_out_what_has_not_left() -> None:
    transport, writes = joined()
    writes.write(b"never sent")
    writes.abort()
    await asyncio.sleep(0)
    assert transport.calls == ["abort"]


async def test_nothing_is_written_to_a_transport_that_was_lost_meanwhile() -> None:
    transport, writes = joined()
    writes.write(b"too late")
    transport.is_closed = True
    await asyncio.sleep(0)
    assert transport.calls == []


async def test_all_else_is_asked_of_the_transport() -> None:
    _, writes = joined()
    assert writes.get_extra_info("socket") == "its socket"
