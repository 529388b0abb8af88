"""Composition root of notifier."""

import gc

from tracking_notifier.hub import Hub
from tracking_notifier.log.event_log import EventLog
from tracking_notifier.log.feed import Feed
from tracking_notifier.log.shared_pages import SharedPages
from tracking_notifier.session.admission import Admission
from tracking_notifier.session.server import StreamServer
from tracking_notifier.session.session_context import SessionContext
from tracking_notifier.settings import NotifierSettings
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.workflow import load_workflow
from tracking_shared.http.health import Check
from tracking_shared.messaging.reconnection import serve_connections
from tracking_shared.policy.origins import parse_origins
from tracking_shared.serving import background, stop_signal
from tracking_shared.storage.database import Database, open_database, retrying_database
from tracking_shared.telemetry.spans import Spans
from tracking_shared.telemetry.tracing import spans_of

GC_THRESHOLDS = (700, 10, 50)
"""Thresholds of the garbage collector. With the default of 10 for the last one, a third of the cost of a
reconnect is spent on scanning the other connections."""


async def serve(settings: NotifierSettings) -> None:
    """Runs notifier until a stop signal."""
    gc.set_threshold(*GC_THRESHOLDS)
    with spans_of("tracking-notifier") as spans:
        await _serve(settings, spans)


async def _serve(settings: NotifierSettings, spans: Spans | None) -> None:
    workflow = load_workflow(settings.workflow_file)
    partitions = settings.partitions
    async with (
        open_database(settings.mongodb_url, settings.mongodb_database) as database,
        stop_signal() as stop,
    ):
        cursors = CursorSeals(database)
        hub = Hub(partitions, settings.notifier_window_bytes, cursors.encode)
        # The feed has an event log of its own, so that it does not queue behind clients that catch up.
        feed_log = EventLog(database, workflow, partitions)
        feed = Feed(hub, feed_log, workflow, partitions, cursors.learn, spans=spans)
        revocations = RevocationList(database)
        event_log = EventLog(database, workflow, partitions)
        pages = SharedPages(event_log)
        hub.on_erased = pages.erase
        verifier = TokenVerifier(settings)
        context = SessionContext(
            hub=hub,
            log=event_log,
            pages=pages,
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
            is_live=feed.is_live,
        )
        checks: dict[str, Check] = {
            "database": database.ping,
            "broker": feed.check_broker,
            "log": feed.check_log,
            "keys": verifier.ring.check,
        }
        origins = parse_origins(settings.allowed_origins)
        server = StreamServer(context, checks, settings.notifier_heartbeat_seconds, origins)
        async with background(
            _run_feed(settings, database, revocations, feed),
            revocations.follow(server.close_revoked),
            verifier.ring.follow(),
            cursors.follow(),
        ):
            await server.serve(settings.host, settings.notifier_port, stop, settings.notifier_stop_seconds)


async def _run_feed(
    settings: NotifierSettings, database: Database, revocations: RevocationList, feed: Feed
) -> None:
    await database.wait_for_partition_count(settings.partitions)
    # No client is served before the feed has a position, so none is served before the revocations are known.
    async for attempt in retrying_database():
        with attempt:
            await revocations.look()
    async with background(feed.run()):
        await serve_connections(settings.amqp_url, "notifier", feed.serve, feed.record_broker_fault)
