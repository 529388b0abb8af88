"""Composition root of query."""

from fastapi import Depends, FastAPI

from query import audit, events, history, order_updates, orders, reports, updates
from query.concurrency import limits_of
from query.console import console_routes
from query.context import Context
from query.direct import direct_handlers
from query.log_watch import LogWatch
from query.openapi import query_document
from query.parameters import refuse_repeated
from query.problem_pages import problem_routes
from query.sealed_cursors import cursor_key
from query.settings import QuerySettings
from shared.api_pages import add_api_pages
from shared.audit_trail import AuditTrail
from shared.cursor_seals import CursorSeals
from shared.database import Database, open_database
from shared.direct_routes import DirectRoutes
from shared.http import NO_TELEMETRY, install_plumbing
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
        verifier = TokenVerifier(settings)
        app = create_app(settings, database, workflow, watch, verifier)
        async with background(database.wait_for_partition_count(settings.partitions), verifier.ring.follow()):
            await serve_http(app, settings, settings.query_port, on_stop=watch.close)


def create_app(
    settings: QuerySettings,
    database: Database,
    workflow: Workflow,
    log_watch: LogWatch,
    verifier: TokenVerifier | None = None,
) -> FastAPI:
    """The application over an open database. Without `verifier`: one of the settings.

    Raises:
        SettingsError: there is no secret for the cursors.
    """
    verifier = verifier or TokenVerifier(settings)
    context = Context(
        database=database,
        verifier=verifier,
        revocations=RevocationList(database),
        workflow=workflow,
        partitions=settings.partitions,
        cursor_key=cursor_key(settings.sealing_secret),
        log_watch=log_watch,
        audit=AuditTrail(database, settings.audit_days),
        cursors=CursorSeals(database),
        limits=limits_of(settings),
    )
    app = FastAPI(
        title="query",
        summary="Orders, their history, outcomes of updates and the event log",
        version="1",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    routers = [orders.routes(context), history.routes(context)]
    handlers = direct_handlers(routers, context.reader, "/v1")
    app.add_middleware(DirectRoutes, method="GET", handlers=handlers, with_query=False)
    add_api_pages(app, lambda: query_document(app, workflow))
    install_plumbing(app, settings, lambda: {"database": database.ping, "keys": verifier.ring.check})
    routers.extend(module.routes(context) for module in (order_updates, updates, events, reports, audit))
    for router in routers:
        app.include_router(router, prefix="/v1", dependencies=[Depends(refuse_repeated)])
    app.include_router(problem_routes())
    if settings.console_dir is not None:
        app.include_router(console_routes(settings, settings.console_dir, workflow))
    return app
