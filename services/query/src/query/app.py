"""Composition root of query."""

from fastapi import APIRouter, Depends, FastAPI

from query import events, history, orders, reports, updates
from query.context import Context
from query.list_cursors import cursor_key
from query.log_watch import LogWatch
from query.parameters import refuse_repeated
from query.settings import QuerySettings
from shared.database import Database, open_database
from shared.http import install_plumbing
from shared.revocation_list import RevocationList
from shared.serving import background, serve_http
from shared.tokens import TokenVerifier
from shared.workflow import Workflow, load_workflow


async def serve(settings: QuerySettings) -> None:
    """Runs query until a stop signal.

    Raises:
        PartitionCountMismatch: the database was set up with another partition count.
    """
    workflow = load_workflow(settings.workflow_file)
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        watch = LogWatch(database, settings.partitions)
        app = create_app(settings, database, workflow, watch)
        async with background(database.wait_for_partition_count(settings.partitions)):
            await serve_http(app, settings, settings.query_port, on_stop=watch.close)


def create_app(
    settings: QuerySettings, database: Database, workflow: Workflow, log_watch: LogWatch
) -> FastAPI:
    """The application over an open database."""
    context = Context(
        database=database,
        verifier=TokenVerifier(settings),
        revocations=RevocationList(database),
        workflow=workflow,
        partitions=settings.partitions,
        cursor_key=cursor_key(settings.jwt_secret),
        log_watch=log_watch,
    )
    app = FastAPI(
        title="query",
        summary="Orders, their history, outcomes of updates and the event log",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_plumbing(app, lambda: {"database": database.ping})
    app.include_router(_routes(context), prefix="/v1", dependencies=[Depends(refuse_repeated)])
    return app


def _routes(context: Context) -> APIRouter:
    router = APIRouter()
    for module in (orders, history, updates, events, reports):
        router.include_router(module.routes(context))
    return router
