"""Composition root of query."""

from fastapi import FastAPI

from tracking_query import audit_routes, erasure_routes
from tracking_query.api.context import Context, limits_of
from tracking_query.api.page_cursors import cursor_key
from tracking_query.api.query_openapi import query_document
from tracking_query.log import event_routes
from tracking_query.log.long_polling import LongPolling
from tracking_query.orders import history_routes, order_routes, update_routes
from tracking_query.orders.archived import ArchivedOrders
from tracking_query.pages.console import add_console
from tracking_query.pages.problem_pages import add_problem_pages
from tracking_query.reports import report_routes
from tracking_query.settings import QuerySettings
from tracking_query.webhooks import webhook_routes
from tracking_shared.api_docs.api_pages import add_api_pages
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.workflow import Workflow, load_workflow
from tracking_shared.http.merchant_addresses import add_merchant_addresses
from tracking_shared.http.service_app import install_plumbing, service_app
from tracking_shared.policy.receivers import parse_networks
from tracking_shared.serving import background, serve_http
from tracking_shared.storage.audit_trail import AuditTrail
from tracking_shared.storage.database import Database, open_database


async def serve(settings: QuerySettings) -> None:
    """Runs query until a stop signal.

    Raises:
        PartitionCountMismatch: the database was set up with another partition count.
    """
    workflow = load_workflow(settings.workflow_file)
    async with open_database(settings.mongodb_url, settings.mongodb_database) as database:
        long_polling = LongPolling(database, settings.partitions)
        verifier = TokenVerifier(settings)
        app = create_app(settings, database, workflow, long_polling, verifier)
        async with background(database.wait_for_partition_count(settings.partitions), verifier.ring.follow()):
            await serve_http(app, settings, settings.query_port, on_stop=long_polling.close)


def create_app(
    settings: QuerySettings,
    database: Database,
    workflow: Workflow,
    long_polling: LongPolling,
    verifier: TokenVerifier | None = None,
) -> FastAPI:
    """The application over an open database. Without `verifier`: one of the settings.

    Raises:
        SettingsError: there is no secret for the cursors, or an archive that cannot be read.
    """
    verifier = verifier or TokenVerifier(settings)
    archived = ArchivedOrders(database, settings.archive_dir)
    context = Context(
        database=database,
        verifier=verifier,
        revocations=RevocationList(database),
        workflow=workflow,
        partitions=settings.partitions,
        cursor_key=cursor_key(settings.sealing_secret),
        audit=AuditTrail(database, settings.audit_days),
        cursors=CursorSeals(database),
        limits=limits_of(settings),
        webhook_networks=parse_networks(settings.webhook_allow_networks),
    )
    app = service_app("query", "Orders, their history, outcomes of updates and the event log")
    for feature in (report_routes, audit_routes, webhook_routes):
        feature.add_routes(app, context)
    for feature_with_archive in (order_routes, history_routes, update_routes):
        feature_with_archive.add_routes(app, context, archived)
    erasure_routes.add_routes(app, context)
    add_merchant_addresses(app)
    event_routes.add_routes(app, context, long_polling)
    add_problem_pages(app)
    if settings.console_dir is not None:
        add_console(app, settings, settings.console_dir, workflow)
    add_api_pages(app, lambda: query_document(app, workflow))
    install_plumbing(app, settings, lambda: {"database": database.ping, "keys": verifier.ring.check})
    return app
