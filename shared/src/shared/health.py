"""Readiness: each dependency is asked, and the answer says which one is missing."""

import asyncio
from collections.abc import Awaitable, Callable

from shared.broker import BrokerUnavailable
from shared.database import DatabaseUnavailable
from shared.key_ring import KeysUnavailable

Check = Callable[[], Awaitable[None]]
"""Returns if the dependency answers, else raises, in bounded time: it is never cancelled, for a call of the
database's driver that is cancelled costs its connection."""


async def failing_checks(checks: dict[str, Check]) -> dict[str, str]:
    """Runs all checks at once; name → reason for those that fail."""

    async def reason(check: Check) -> str | None:
        try:
            await check()
        except (BrokerUnavailable, DatabaseUnavailable, KeysUnavailable) as error:
            return type(error).__name__
        return None

    reasons = await asyncio.gather(*(reason(check) for check in checks.values()))
    return {name: found for name, found in zip(checks, reasons, strict=True) if found}
