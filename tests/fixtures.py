"""What the fixtures of `conftest` give: names to annotate tests with."""

from dataclasses import dataclass
from typing import Protocol

from callers import Caller
from tracking.devstack.service_process import ServiceProcess

PARTITIONS = 4


class StartService(Protocol):
    """Starts one replica: `await start_service("ingest", PARTITIONS="4")`; keywords are its environment."""

    async def __call__(
        self, module: str, *, wait: bool = True, name: str | None = None, **environment: str
    ) -> ServiceProcess: ...


@dataclass(frozen=True, slots=True)
class Spine:
    """One ingest and one order-state, and a caller of it."""

    environment: dict[str, str]
    ingest: ServiceProcess
    order_state: ServiceProcess
    caller: Caller
