"""Settings of order-state."""

from typing import Annotated

from pydantic import Field

from shared.settings import Settings


class OrderStateSettings(Settings):
    """The common settings and those of order-state."""

    order_state_port: Annotated[int, Field(ge=1, le=65535)] = 8004
    standby_delay_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0
    """How long after its preferred partitions a replica queues for the others, so that at a common
    start each replica gets its own."""
    rebalance_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 30.0
    """How often a replica steps back in line for partitions that are not its own."""
    max_parked_orders: Annotated[int, Field(ge=1, le=1000)] = 100
    """Of one partition. So many are no single bad updates any more, but a release that cannot do its
    work: the partition waits for a better one."""
