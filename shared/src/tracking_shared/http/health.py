"""Readiness: each dependency is asked, and the answer says which one is missing."""

import asyncio
from collections.abc import Awaitable, Callable

from tracking_shared.auth.keys import KeysUnavailable
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.storage.database import DatabaseUnavailable

Check = Callable[[], Awaitable[None]]
"""Returns if the dependency answers, else raises, in bounded time: it is never cancelled, for a call of the
database's driver that is cancelled costs its connection."""


class SharedCheck:
    """A check whose outcome holds for `seconds`: who asks meanwhile, or while it runs, gets the same one."""

    def __init__(self, check: Check, seconds: float) -> None:
        self._check = check
        self._seconds = seconds
        self._running: asyncio.Task[Exception | None] | None = None
        self._ended_at = 0.0

    async def __call__(self) -> None:
        """Raises what the check raised."""
        loop = asyncio.get_running_loop()
        running = self._running
        if running is None or (running.done() and loop.time() - self._ended_at >= self._seconds):
            running = self._running = loop.create_task(self._outcome())
        error = await asyncio.shield(running)  # whoever asked first may leave
        if error is not None:
            raise error.with_traceback(None)  # else it would grow with every caller

    async def _outcome(self) -> Exception | None:
        try:
            await self._check()
        except Exception as error:  # noqa: BLE001 - raised for everybody who asks
            return error
        finally:
            self._ended_at = asyncio.get_running_loop().time()
        return None


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
