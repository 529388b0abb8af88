"""The ends of the log, however the database orders the partitions that it finds."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tracking_shared.contracts.cursors import Position
from tracking_shared.storage.database import Database, DatabaseUnavailable
from tracking_shared.storage.reads import read_log_end, read_log_ends

STORED: list[dict[str, Any]] = [
    {"_id": 2, "epoch": "e", "seq": 30, "log_start": 3},
    {"_id": 0, "epoch": "e", "seq": 10, "log_start": 1},
    {"_id": 1, "epoch": "e", "seq": 20},
]


def database() -> Database:
    async def to_list() -> list[dict[str, Any]]:
        return [dict(one) for one in STORED]

    partitions = SimpleNamespace(find=lambda *_, **__: SimpleNamespace(to_list=to_list))
    return cast(Database, SimpleNamespace(partitions=partitions))


async def test_each_partition_has_its_own_beginning_and_end() -> None:
    assert await read_log_ends(database(), 3) == (Position("e", (1, 0, 3)), Position("e", (10, 20, 30)))
    assert await read_log_end(database(), 3) == Position("e", (10, 20, 30))


async def test_a_log_that_is_not_whole_is_not_served() -> None:
    with pytest.raises(DatabaseUnavailable):
        await read_log_ends(database(), 4)
