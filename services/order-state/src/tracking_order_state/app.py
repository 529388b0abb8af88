"""Composition root of order-state."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from tracking_order_state import metrics
from tracking_order_state.adapters.archivings import OpenArchivings
from tracking_order_state.adapters.dead_letters import DeadLetters
from tracking_order_state.adapters.due_orders import DueOrders, EndedHolds
from tracking_order_state.adapters.migration import OutcomeMigration
from tracking_order_state.adapters.open_erasures import OpenErasures
from tracking_order_state.adapters.repartition_store import RepartitionStore
from tracking_order_state.adapters.result_publisher import ResultPublisher, open_publisher
from tracking_order_state.adapters.search_index import SearchIndexer
from tracking_order_state.adapters.store import Store
from tracking_order_state.domain.order_cache import OrderCache
from tracking_order_state.errors import LayoutChanged
from tracking_order_state.processing.archive_sweep import ArchiveSweep
from tracking_order_state.processing.batch_processor import BatchProcessor
from tracking_order_state.processing.due_sweep import DueSweep, holds_any
from tracking_order_state.processing.erasure_sweep import ErasureSweep
from tracking_order_state.processing.partition_watch import open_horizon_watch, watch_waiting
from tracking_order_state.processing.placement import open_forward
from tracking_order_state.processing.repartition import Repartition
from tracking_order_state.processing.silence import SilenceWatch
from tracking_order_state.processing.subscriptions import consume_partitions
from tracking_order_state.processing.worker import Worker
from tracking_order_state.settings import OrderStateSettings
from tracking_shared.contracts.layout import Routing
from tracking_shared.contracts.workflow import Workflow, load_workflow
from tracking_shared.http.service_app import install_plumbing
from tracking_shared.messaging.connection import Connection
from tracking_shared.messaging.errors import BrokerUnavailable
from tracking_shared.messaging.reconnection import serve_connections
from tracking_shared.serving import background, serve_http
from tracking_shared.storage.audit_trail import AuditTrail, record_installation
from tracking_shared.storage.database import Database, DatabaseUnavailable, open_database, retrying_database
from tracking_shared.telemetry.spans import Spans
from tracking_shared.telemetry.tracing import spans_of

NewStore = Callable[..., Store]
"""Makes a store of a `Database`, with the `audit_days` of the settings."""
OpenPublisher = Callable[[Connection, Workflow], Awaitable[ResultPublisher]]
NewLetters = Callable[[str, AuditTrail], DeadLetters]


async def serve(
    settings: OrderStateSettings,
    new_store: NewStore = Store,
    new_publisher: OpenPublisher = open_publisher,
    new_letters: NewLetters = DeadLetters,
) -> None:
    """Runs order-state until a stop signal. Tests replace the store, the publisher and the dead letters by
    faulty ones.
    """
    workflow = load_workflow(settings.workflow_file)
    with spans_of("tracking-order-state") as spans:
        await _serve(settings, workflow, spans, new_store, new_publisher, new_letters)


async def _serve(  # noqa: PLR0917 - the parts that tests replace
    settings: OrderStateSettings,
    workflow: Workflow,
    spans: Spans | None,
    new_store: NewStore,
    new_publisher: OpenPublisher,
    new_letters: NewLetters,
) -> None:
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        store = new_store(database, audit_days=settings.audit_days)
        letters = new_letters(settings.amqp_url, AuditTrail(database, settings.audit_days))
        partitions = _Partitions(settings, database, store, workflow, new_publisher, letters, spans=spans)
        app = FastAPI(title="order-state", openapi_url=None, redirect_slashes=False)
        install_plumbing(
            app, settings, lambda: {"database": partitions.check_database, "broker": partitions.check_broker}
        )
        async with background(partitions.run(), watch_waiting(store)):
            await serve_http(app, settings, settings.order_state_port)


class _Partitions:
    """Works on the partitions over one broker connection after another."""

    def __init__(  # noqa: PLR0917 - the composition root passes what it has opened
        self,
        settings: OrderStateSettings,
        database: Database,
        store: Store,
        workflow: Workflow,
        new_publisher: OpenPublisher,
        letters: DeadLetters,
        *,
        spans: Spans | None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._workflow = workflow
        self._new_publisher = new_publisher
        self._letters = letters
        self._spans = spans
        self._silence = SilenceWatch(settings.amqp_url, settings.broker_silence_seconds, store.horizons)
        self._prepared = False
        self._connected = False
        self._fault = BrokerUnavailable("not connected")

    async def check_database(self) -> None:
        """Raises `DatabaseUnavailable` unless the database answers, and has its collections and indexes."""
        if not self._prepared:
            raise DatabaseUnavailable("not prepared yet")
        await self._database.ping()

    async def check_broker(self) -> None:
        """Raises `BrokerUnavailable` while there is no connection, or after one that brought nothing."""
        self._silence.check()
        if not self._connected:
            raise self._fault.with_traceback(None)  # else it would grow with every request

    def lost(self, fault: BrokerUnavailable) -> None:
        """Notes why there is no connection."""
        self._fault = fault

    async def run(self) -> None:
        async for attempt in retrying_database():
            with attempt:
                await self._database.prepare(self._settings.partitions)
                await record_installation(self._database)
        self._prepared = True
        async with background(SearchIndexer(self._database).run(), OutcomeMigration(self._database).run()):
            await serve_connections(self._settings.amqp_url, "order-state", self._work, self.lost)

    async def _routing(self) -> Routing:
        async for attempt in retrying_database():
            with attempt:
                if (routing := await self._database.read_routing()) is None:
                    raise DatabaseUnavailable("the settings were removed")
                return routing
        raise AssertionError("retried without end")

    async def _declare(self, connection: Connection, routing: Routing) -> None:
        """Declares the queues, and binds them unless a change of the number of partitions keeps them so."""
        await connection.declare(routing.layout.partitions, routing.bound_route)
        if routing.route:  # a replica that was killed right here may have bound them again
            await connection.unbind(routing.layout.partitions, routing.route - 1)
        newest = await self._routing()
        if newest != routing:
            await connection.unbind(routing.layout.partitions, routing.route)
            if newest.layout != routing.layout:
                raise LayoutChanged("the number of partitions was changed")

    async def _work(self, connection: Connection) -> None:
        routing = await self._routing()
        layout = routing.layout
        await self._declare(connection, routing)
        repartition = Repartition(RepartitionStore(self._database), connection, routing)
        async for attempt in retrying_database():
            with attempt:
                await repartition.finish()
        settings = self._settings
        publisher = await self._new_publisher(connection, self._workflow)
        cache = OrderCache(settings.order_cache_bytes)
        metrics.ORDER_CACHE_BYTES.set_function(lambda: cache.size)
        processor = BatchProcessor(
            self._store,
            publisher,
            self._workflow,
            layout,
            settings.max_parked_orders,
            self._spans,
            cache=cache,
            forward=await open_forward(connection),
        )
        horizons = await open_horizon_watch(connection, self._store, layout)
        self._connected = connection.in_service = True
        try:
            worker = Worker(processor)
            steps = processor.steps
            overdue = DueSweep(
                worker, DueOrders(self._database), steps.mark_overdue, metrics.OVERDUE_SWEEP_AGE
            )
            held = DueSweep(
                worker, EndedHolds(self._database), steps.end_held, metrics.HELD_SWEEP_AGE, holds_any
            )
            erasures = ErasureSweep(worker, OpenErasures(self._database), self._letters)
            archiving = ArchiveSweep(worker, OpenArchivings(self._database))
            sweeps = (overdue.run(), held.run(), erasures.run(), archiving.run())
            async with background(horizons.run(), repartition.run(), *sweeps):
                await consume_partitions(connection, layout.partitions, settings, worker, self._silence)
        finally:
            self._connected = False
