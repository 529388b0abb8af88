"""Services that tests start: replicas on one environment, and the two that take updates."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from callers import Caller
from fixtures import Spine, StartService
from forked_services import ForkedService
from tracking.devstack.service_process import ServiceProcess


@asynccontextmanager
async def service_starter(environment: Mapping[str, str], logs: Path) -> AsyncIterator[StartService]:
    """Starts replicas that share an environment, and ends them at the end."""
    numbers = count()
    started: list[ServiceProcess] = []

    async def start(
        module: str, *, wait: bool = True, name: str | None = None, **more: str
    ) -> ServiceProcess:
        service = ForkedService(
            module,
            environment={**environment, **more},
            logs=logs,
            name=name or f"{module}-{next(numbers)}",
        )
        started.append(service)
        service.launch()
        if wait:
            await service.start()
        return service

    try:
        yield start
    finally:
        await asyncio.gather(*(service.stop() for service in started))


@asynccontextmanager
async def running_spine(environment: dict[str, str], start: StartService) -> AsyncIterator[Spine]:
    """Order-state and ingest, and a caller."""
    order_state = await start("order_state")
    ingest = await start("ingest")
    async with Caller([ingest.url]) as caller:
        yield Spine(environment, ingest, order_state, caller)
