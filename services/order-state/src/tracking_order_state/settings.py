"""Settings of order-state."""

from typing import Annotated

from pydantic import Field

from tracking_shared.settings import Settings
from tracking_shared.storage.audit_trail import KEPT_DAYS, MAX_KEPT_DAYS


class OrderStateSettings(Settings):
    """The common settings and those of order-state."""

    order_state_port: Annotated[int, Field(ge=1, le=65535)] = 8004
    standby_delay_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0
    """The delay after which a replica subscribes to partitions that it does not prefer, so that at a common
    start each replica gets its preferred ones."""
    rebalance_seconds: Annotated[float, Field(ge=0.5, le=3600)] = 30.0
    """The interval at which a replica gives up its subscriptions to partitions that it does not prefer."""
    broker_silence_seconds: Annotated[float, Field(ge=1, le=300)] = 6.0
    """The time that commands may wait in a queue while the broker delivers none of them here, before another
    node is tried: longer than an election of the queue's leader takes."""
    max_parked_orders: Annotated[int, Field(ge=1, le=1000)] = 100
    """Of one partition. So many are no single bad updates any more, but a faulty release: the partition waits
    for a better one."""
    order_cache_bytes: Annotated[int, Field(ge=0, le=8 * 1024**3)] = 64 * 1024**2
    """Estimated bytes of the orders that a process remembers, to decide on them without reading them again.
    0: none, everything is read."""
    audit_days: Annotated[int, Field(ge=1, le=MAX_KEPT_DAYS)] = KEPT_DAYS
    """The time for which the entries of corrections are kept in the audit trail."""
