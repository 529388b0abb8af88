"""Settings of notifier."""

from typing import Annotated

from pydantic import Field

from tracking_shared.settings import Settings


class NotifierSettings(Settings):
    """The common settings and those of notifier."""

    notifier_port: Annotated[int, Field(ge=1, le=65535)] = 8003
    notifier_max_connections: Annotated[int, Field(ge=1)] = 10_000
    """In all. An idle one costs about 20 KB; the process also needs a file descriptor for each."""
    notifier_max_connections_per_principal: Annotated[int, Field(ge=1)] | None = None
    """Per `sub` of the tokens; if it is not set, `PRINCIPAL_SHARE` of all. High, because one service account
    may serve a whole operations team."""
    notifier_queue_bytes: Annotated[int, Field(ge=16 * 1024)] = 1024 * 1024
    """The limit of the send buffer of one client, without the kernel's socket buffers: some 1,500 events.
    All connections together can need this times their number, so it bounds the process as well."""
    notifier_drain_seconds: Annotated[float, Field(gt=0, le=300)] = 30.0
    """The time in which the send buffer of a client must drain, or it is closed. While the client catches up,
    the buffer has one message (256 KiB, seconds for a phone); after it fell behind, all that was queued."""
    notifier_window_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    """Recent events kept for reconnects: some 80,000. Older ones are read from the log."""
    notifier_heartbeat_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """The interval of pings; a client that answers neither of two is disconnected. Proxies commonly end
    connections that are silent for 60 seconds."""
    notifier_stop_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0
    """At a stop, the connections are closed over this time, so that clients do not reconnect all at once."""
