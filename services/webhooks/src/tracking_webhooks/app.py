"""Composition root of webhooks."""

from fastapi import FastAPI
from uuid_utils import uuid4

from tracking_shared.auth.revocations import RevocationList
from tracking_shared.contracts.workflow import load_workflow
from tracking_shared.http.service_app import install_plumbing
from tracking_shared.messaging.reconnection import serve_connections
from tracking_shared.policy.receivers import parse_networks
from tracking_shared.serving import background, serve_http
from tracking_shared.storage.database import Database, open_database, retrying_database
from tracking_webhooks.adapters.http_sender import HttpSender, open_sender
from tracking_webhooks.adapters.log_reader import LogReader
from tracking_webhooks.adapters.webhook_store import WebhookStore
from tracking_webhooks.metrics import IN_FLIGHT
from tracking_webhooks.processing.assignment import Assignment
from tracking_webhooks.processing.capacity import Capacity
from tracking_webhooks.processing.endpoint import Parts
from tracking_webhooks.processing.message_cache import MessageCache
from tracking_webhooks.processing.tail import Tail
from tracking_webhooks.processing.wake_up import WakeUp
from tracking_webhooks.settings import WebhooksSettings


async def serve(settings: WebhooksSettings) -> None:
    """Runs webhooks until a stop signal."""
    async with (
        open_database(settings.mongodb_url, settings.mongodb_database) as database,
        open_sender(parse_networks(settings.webhook_allow_networks)) as sender,
    ):
        IN_FLIGHT.set_function(lambda: sender.in_flight)
        replica = Replica(settings, database, sender)
        app = FastAPI(title="webhooks", openapi_url=None, redirect_slashes=False)
        install_plumbing(app, settings, lambda: {"database": database.ping, "lease": replica.check})
        async with background(replica.run()):
            await serve_http(app, settings, settings.webhooks_port)


class Replica:
    """The parts of one process that deliver."""

    def __init__(self, settings: WebhooksSettings, database: Database, sender: HttpSender) -> None:
        self._settings = settings
        self._database = database
        self._revocations = RevocationList(database)
        store = WebhookStore(database)
        reader = LogReader(database, settings.partitions)
        self._tail = Tail(reader)
        parts = Parts(
            store=store,
            reader=reader,
            tail=self._tail,
            sender=sender,
            capacity=Capacity(),
            revocations=self._revocations,
            messages=MessageCache(load_workflow(settings.workflow_file)),
        )
        self._assignment = Assignment(store, uuid4().hex, parts)
        self._tail.on_new = self._assignment.wake_for

    async def check(self) -> None:
        """Raises `DatabaseUnavailable` while this process must not send."""
        await self._assignment.check()

    async def run(self) -> None:
        """Delivers until cancelled."""
        await self._database.wait_for_partition_count(self._settings.partitions)
        # Nothing is sent before the revocations are known.
        async for attempt in retrying_database():
            with attempt:
                await self._revocations.look()
        wake_up = WakeUp(self._tail, self._settings.partitions)
        async with background(
            self._tail.run(),
            self._revocations.follow(self._assignment.wake_all),
            serve_connections(self._settings.amqp_url, "webhooks", wake_up.serve),
        ):
            await self._assignment.run()
