"""Composition root of ingest."""

from fastapi import FastAPI

from ingest.dispatcher import Dispatcher
from ingest.routes import Ingest, add_routes
from ingest.settings import IngestSettings
from shared.broker import serve_connections
from shared.database import open_database
from shared.http import install_plumbing
from shared.serving import background, serve_http
from shared.tokens import TokenVerifier
from shared.workflow import load_workflow


async def serve(settings: IngestSettings) -> None:
    """Runs ingest until a stop signal.

    Raises:
        PartitionCountMismatch: the database was set up with another partition count.
    """
    workflow = load_workflow(settings.workflow_file)
    dispatcher = Dispatcher(settings.partitions)
    app = FastAPI(title="ingest", summary="Reports what happens to orders", version="1")
    install_plumbing(app, lambda: {"broker": dispatcher.check})
    add_routes(app, Ingest(dispatcher, TokenVerifier(settings), workflow))
    async with background(_serve_broker(settings, dispatcher)):
        await serve_http(app, settings, settings.ingest_port)


async def _serve_broker(settings: IngestSettings, dispatcher: Dispatcher) -> None:
    # The partition count must be right before the first command is sent anywhere.
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        await database.wait_for_partition_count(settings.partitions)
    await serve_connections(settings.amqp_url, "ingest", dispatcher.serve)
