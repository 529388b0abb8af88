"""A read that takes too long ends with a problem, and the service goes on."""

import pytest
from query_stack import running_query

from tracking_shared.storage.database import DatabaseUnavailable
from tracking_shared.storage.reads import bounded_read


async def test_a_read_that_takes_too_long_ends_with_our_error(mongodb_url: str) -> None:
    async with running_query(mongodb_url) as query:
        await query.database.ping()
        with pytest.raises(DatabaseUnavailable, match=r"(?i)time"), bounded_read(1e-5):
            await query.database.orders.find_one({})
        with bounded_read():
            assert await query.database.orders.find_one({}) is None
