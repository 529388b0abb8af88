"""The sweep of archiving goes on when our own code fails at one request."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tracking_order_state.domain.archiving import ArchiveRequest
from tracking_order_state.errors import Fault
from tracking_order_state.processing import archive_sweep
from tracking_order_state.processing.archive_sweep import ArchiveSweep
from tracking_order_state.processing.worker import Worker


class Paced:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class Requests:
    async def pending(self, partitions: Collection[int], /) -> list[ArchiveRequest]:
        return [ArchiveRequest(name, "part", 0, []) for name in ("bad", "good")]


async def test_a_request_that_fails_holds_up_no_other() -> None:
    archived: list[str] = []

    async def archive(_: Any, request: ArchiveRequest) -> Fault | None:
        if request.id == "bad":
            return Fault("bad")
        archived.append(request.id)
        return None

    async def between_batches(_: Any, step: Any) -> Any:
        return await step()

    processor = SimpleNamespace(steps=SimpleNamespace(archive=archive))
    owned = [SimpleNamespace(partition=SimpleNamespace(number=0))]
    worker = SimpleNamespace(
        owned=lambda: owned, processor=processor, paced=Paced, between_batches=between_batches
    )
    sweep = ArchiveSweep(cast(Worker, worker), Requests())
    with pytest.raises(archive_sweep._Failed):
        await sweep.look()
    assert archived == ["good"]
