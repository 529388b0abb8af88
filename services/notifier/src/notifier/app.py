"""Composition root of notifier."""

import gc

from notifier.admission import Admission
from notifier.feed import Feed
from notifier.hub import Hub
from notifier.log import EventLog
from notifier.pages import Pages
from notifier.parts import Parts
from notifier.server import StreamServer
from notifier.settings import NotifierSettings
from shared.broker import serve_connections
from shared.cursor_seals import CursorSeals
from shared.database import Database, open_database, retrying_database
from shared.health import Check
from shared.origins import parse_origins
from shared.revocation_list import RevocationList
from shared.serving import background, stop_signal
from shared.tokens import TokenVerifier
from shared.workflow import load_workflow

COLLECT_AFTER = (700, 10, 50)
"""The garbage collector's thresholds. With the last at its default of 10, a third of what a reconnect costs
goes into looking through all the connections that are there already."""


async def serve(settings: NotifierSettings) -> None:
    """Runs notifier until a stop signal."""
    gc.set_threshold(*COLLECT_AFTER)
    workflow = load_workflow(settings.workflow_file)
    partitions = settings.partitions
    async with (
        open_database(settings.mongodb_url, settings.mongodb_database) as database,
        stop_signal() as stop,
    ):
        # A log of its own for the feed: it must not queue behind clients that catch up.
        cursors = CursorSeals(database)
        hub = Hub(partitions, settings.notifier_window_bytes, cursors.encode)
        feed = Feed(hub, EventLog(database, workflow, partitions), workflow, partitions, cursors.learn)
        revocations = RevocationList(database)
        event_log = EventLog(database, workflow, partitions)
        verifier = TokenVerifier(settings)
        parts = Parts(
            hub=hub,
            log=event_log,
            pages=Pages(event_log),
            verifier=verifier,
            revocations=revocations,
            workflow=workflow,
            admission=Admission(
                settings.notifier_max_connections,
                settings.notifier_max_connections_per_principal,
                settings.shares,
            ),
            cursors=cursors,
            queue_bytes=settings.notifier_queue_bytes,
            drain_seconds=settings.notifier_drain_seconds,
            is_live=lambda: feed.is_live,
        )
        checks: dict[str, Check] = {
            "database": database.ping,
            "broker": feed.check_broker,
            "log": feed.check_log,
            "keys": verifier.ring.check,
        }
        origins = parse_origins(settings.allowed_origins)
        server = StreamServer(parts, checks, settings.notifier_heartbeat_seconds, origins)
        async with background(
            _feed(settings, database, revocations, feed),
            revocations.follow(server.end_revoked),
            verifier.ring.follow(),
            cursors.follow(),
        ):
            await server.serve(settings.host, settings.notifier_port, stop, settings.notifier_stop_seconds)


async def _feed(
    settings: NotifierSettings, database: Database, revocations: RevocationList, feed: Feed
) -> None:
    await database.wait_for_partition_count(settings.partitions)
    # Nobody is served before the feed knows a position, and so nobody before the revocations are known.
    async for attempt in retrying_database():
        with attempt:
            await revocations.look()
    async with background(feed.run()):
        await serve_connections(settings.amqp_url, "notifier", feed.serve, feed.lost)
