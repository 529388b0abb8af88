"""Composition root of order-state."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from order_state.announcer import Announcer, open_announcer
from order_state.consumer import consume_partitions
from order_state.passes import Passes
from order_state.recording import Recorder
from order_state.search_index import SearchIndexer
from order_state.settings import OrderStateSettings
from order_state.standstill import open_waker
from order_state.store import Store
from order_state.watch import watch_parked
from order_state.worker import Worker
from shared.audit_trail import record_installation
from shared.broker import BrokerUnavailable, Connection, serve_connections
from shared.database import Database, DatabaseUnavailable, open_database, retrying_database
from shared.http import install_plumbing
from shared.serving import background, serve_http
from shared.workflow import Workflow, load_workflow

OpenAnnouncer = Callable[[Connection, Workflow], Awaitable[Announcer]]


async def serve(
    settings: OrderStateSettings,
    new_store: Callable[[Database], Store] = Store,
    new_announcer: OpenAnnouncer = open_announcer,
) -> None:
    """Runs order-state until a stop signal. The parts can be replaced to make them fail at a chosen step."""
    workflow = load_workflow(settings.workflow_file)
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        store = new_store(database)
        partitions = _Partitions(settings, database, store, workflow, new_announcer)
        app = FastAPI(title="order-state", openapi_url=None, redirect_slashes=False)
        install_plumbing(
            app, settings, lambda: {"database": partitions.check_database, "broker": partitions.check_broker}
        )
        async with background(partitions.run(), watch_parked(store)):
            await serve_http(app, settings, settings.order_state_port)


class _Partitions:
    """Works on the partitions over one broker connection after another."""

    def __init__(
        self,
        settings: OrderStateSettings,
        database: Database,
        store: Store,
        workflow: Workflow,
        new_announcer: OpenAnnouncer,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._workflow = workflow
        self._new_announcer = new_announcer
        self._prepared = False
        self._connected = False
        self._fault = BrokerUnavailable("not connected")

    async def check_database(self) -> None:
        """Raises `DatabaseUnavailable` unless the database answers, and has its collections and indexes."""
        if not self._prepared:
            raise DatabaseUnavailable("not prepared yet")
        await self._database.ping()

    async def check_broker(self) -> None:
        """Raises `BrokerUnavailable` while there is no connection."""
        if not self._connected:
            raise self._fault.with_traceback(None)  # else it would grow with every request

    def lost(self, fault: BrokerUnavailable) -> None:
        """Takes note of why there is no connection."""
        self._fault = fault

    async def run(self) -> None:
        async for attempt in retrying_database():
            with attempt:
                await self._database.prepare(self._settings.partitions)
                await record_installation(self._database)
        self._prepared = True
        async with background(SearchIndexer(self._database).run()):
            await serve_connections(self._settings.amqp_url, "order-state", self._work, self.lost)

    async def _work(self, connection: Connection) -> None:
        await connection.declare(self._settings.partitions)
        announcer = await self._new_announcer(connection, self._workflow)
        recorder = Recorder(self._store, self._workflow, self._settings.max_parked_orders)
        worker = Worker(Passes(self._settings.partitions, recorder, announcer))
        waker = await open_waker(connection, self._store, self._settings.partitions)
        self._connected = connection.in_service = True
        try:
            async with background(waker.run()):
                await consume_partitions(connection, self._settings, worker)
        finally:
            self._connected = False
