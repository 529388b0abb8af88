"""Composition root of notifier."""

from notifier.admission import Admission
from notifier.feed import Feed
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.server import StreamServer
from notifier.session import Parts
from notifier.settings import NotifierSettings
from shared.broker import serve_connections
from shared.database import Database, open_database
from shared.health import Check
from shared.serving import background, stop_signal
from shared.tokens import TokenVerifier
from shared.workflow import load_workflow


async def serve(settings: NotifierSettings) -> None:
    """Runs notifier until a stop signal."""
    workflow = load_workflow(settings.workflow_file)
    partitions = settings.partitions
    hub = Hub(partitions, settings.notifier_window_bytes)
    async with (
        open_database(settings.mongodb_url, settings.mongodb_database) as database,
        stop_signal() as stop,
    ):
        # A log of its own for the feed: it must not queue behind clients that catch up.
        feed = Feed(hub, EventLog(database, workflow, partitions), workflow, partitions)
        parts = Parts(
            hub=hub,
            log=EventLog(database, workflow, partitions),
            verifier=TokenVerifier(settings),
            workflow=workflow,
            admission=Admission(
                settings.notifier_max_connections, settings.notifier_max_connections_per_principal
            ),
            queue_bytes=settings.notifier_queue_bytes,
        )
        checks: dict[str, Check] = {
            "database": database.ping,
            "broker": feed.check_broker,
            "log": feed.check_log,
        }
        server = StreamServer(parts, checks, settings.notifier_heartbeat_seconds)
        async with background(_feed(settings, database, feed)):
            await server.serve(settings.host, settings.notifier_port, stop, settings.notifier_stop_seconds)


async def _feed(settings: NotifierSettings, database: Database, feed: Feed) -> None:
    await database.wait_for_partition_count(settings.partitions)
    await serve_connections(settings.amqp_url, "notifier", feed.serve)
