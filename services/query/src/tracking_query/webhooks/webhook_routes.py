"""The routes of webhooks."""

from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response

from tracking_query.api.context import Context
from tracking_query.api.parameters import Parameters
from tracking_query.api.query_openapi import described_read
from tracking_query.webhooks import webhook_shapes
from tracking_query.webhooks.webhook_bodies import ChangeWebhook, CreateWebhook, ReplayWebhook
from tracking_query.webhooks.webhook_requests import AttemptParameters, ListParameters, Webhooks
from tracking_shared.contracts.access import Principal
from tracking_shared.http.described_routes import Answer, Content
from tracking_shared.http.json_bodies import BODY_PROBLEMS

SCOPE = "webhooks:manage"

_CURSOR_PROBLEMS = ("invalid-cursor", "cursor-expired")

_ONE = Content(webhook_shapes.WebhookView, webhook_shapes.WEBHOOK)


class NoParameters(Parameters):
    """There are none."""


def add_routes(app: FastAPI, context: Context) -> None:
    """Adds `/v1/webhooks` and what is below it."""
    webhooks = Webhooks(context)
    _add_collection(app, context, webhooks)
    _add_one(app, context, webhooks)
    _add_acts(app, context, webhooks)


def _add_collection(app: FastAPI, context: Context, webhooks: Webhooks) -> None:
    @app.post(
        "/v1/webhooks",
        tags=["webhooks"],
        summary="Register a webhook",
        description=(
            "Each event that the token reaches and the filter accepts is sent to `url` by POST: a CloudEvent,"
            " signed as Standard Webhooks has it, at least once, per order in version order. The rights are"
            " those of the token, also after it has expired, until it is revoked."
        ),
    )
    @described_read(
        Answer(
            201,
            "It is registered",
            [Content(webhook_shapes.NewWebhookView, webhook_shapes.NEW_WEBHOOK)],
            always=["Location"],
            sometimes=["Idempotent-Replayed"],
        ),
        name="create_webhook",
        problems=[*BODY_PROBLEMS, *_CURSOR_PROBLEMS, "idempotency-key-reused"],
        bodies=[
            Content(
                CreateWebhook, {"url": webhook_shapes.WEBHOOK["url"], "filter": {"merchant_id": ["acme"]}}
            )
        ],
        headers=["Idempotency-Key"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def create_webhook(
        request: Request,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.create(request, principal)

    @app.get("/v1/webhooks", tags=["webhooks"], summary="Webhooks, newest first")
    @described_read(
        Answer(
            200,
            "A page",
            [Content(webhook_shapes.WebhookPage, webhook_shapes.WEBHOOK_PAGE)],
            sometimes=["Link"],
        ),
        problems=["invalid-cursor"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def list_webhooks(
        request: Request,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[ListParameters, Query()],
    ) -> Response:
        return await webhooks.read_list(request, principal, parameters)


def _add_one(app: FastAPI, context: Context, webhooks: Webhooks) -> None:
    @app.get("/v1/webhooks/{webhook_id}", tags=["webhooks"], summary="A webhook, and how far it is")
    @described_read(
        Answer(200, "The webhook", [_ONE]), problems=["not-found"], scope=SCOPE, other_scope="orders:admin"
    )
    async def get_webhook(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.read(webhook_id, principal)

    @app.patch(
        "/v1/webhooks/{webhook_id}",
        tags=["webhooks"],
        summary="Change address, filter or description",
        description="It goes on where it stands. A new filter has the rights of the token that sets it.",
    )
    @described_read(
        Answer(200, "The webhook", [_ONE]),
        problems=[*BODY_PROBLEMS, "not-found"],
        bodies=[Content(ChangeWebhook, {"description": "Shop, new address"})],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def change_webhook(
        request: Request,
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.change(request, webhook_id, principal)

    @app.delete(
        "/v1/webhooks/{webhook_id}",
        tags=["webhooks"],
        summary="Delete a webhook",
        description="A delivery that is under way may still arrive, for some seconds.",
    )
    @described_read(
        Answer(204, "It is gone"), problems=["not-found"], scope=SCOPE, other_scope="orders:admin"
    )
    async def delete_webhook(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.delete(webhook_id, principal)

    @app.get(
        "/v1/webhooks/{webhook_id}/attempts",
        tags=["webhooks"],
        summary="The newest attempts to deliver, newest first",
        description="The newest 200 are kept, for 30 days. Of many in one moment some may be missing.",
    )
    @described_read(
        Answer(200, "The attempts", [Content(webhook_shapes.AttemptPage, webhook_shapes.ATTEMPT_PAGE)]),
        problems=["not-found"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def list_attempts(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[AttemptParameters, Query()],
    ) -> Response:
        return await webhooks.attempts(webhook_id, principal, parameters)


def _add_acts(app: FastAPI, context: Context, webhooks: Webhooks) -> None:
    @app.post(
        "/v1/webhooks/{webhook_id}/test",
        tags=["webhooks"],
        summary="Make a test delivery",
        description=(
            "Sends a CloudEvent of the type `webhook.test`, also of a disabled webhook, and waits up to 10"
            " seconds for its outcome."
        ),
    )
    @described_read(
        Answer(200, "It was made", [Content(webhook_shapes.AttemptView, webhook_shapes.TEST_ATTEMPT)]),
        Answer(
            202,
            "It is asked for, and not made yet",
            [Content(webhook_shapes.OpenTestView, {"event_id": webhook_shapes.TEST_ATTEMPT["event_id"]})],
            always=["Location"],
        ),
        problems=["not-found"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def test_webhook(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.test(webhook_id, principal)

    @app.post(
        "/v1/webhooks/{webhook_id}/rotate-secret",
        tags=["webhooks"],
        summary="Get a new secret",
        description="For 24 hours the one before signs, too: each request has two signatures.",
    )
    @described_read(
        Answer(200, "The new secret", [Content(webhook_shapes.SecretView, webhook_shapes.SECRET)]),
        problems=["not-found"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def rotate_secret(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.rotate(webhook_id, principal)

    @app.post(
        "/v1/webhooks/{webhook_id}/replay",
        tags=["webhooks"],
        summary="Deliver again from an earlier position",
        description=(
            "Behind a cursor (`after`) or from a time (`from`). A position that is later than the webhook's"
            " own changes nothing: nothing is skipped. Who has received an event before knows it by"
            " `webhook-id`."
        ),
    )
    @described_read(
        Answer(202, "It goes on from there", [_ONE]),
        problems=[*BODY_PROBLEMS, *_CURSOR_PROBLEMS, "not-found"],
        bodies=[Content(ReplayWebhook, {"from": "2026-03-02T00:00:00Z"})],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def replay_webhook(
        request: Request,
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.replay(request, webhook_id, principal)

    @app.post(
        "/v1/webhooks/{webhook_id}/enable",
        tags=["webhooks"],
        summary="Go on with a disabled webhook",
        description=(
            "It goes on where it stood; nothing was skipped. From now on it gets events under the token that"
            " enables it. One that is not disabled tries what failed now."
        ),
    )
    @described_read(
        Answer(200, "The webhook", [_ONE]),
        problems=["not-found", "cursor-expired"],
        scope=SCOPE,
        other_scope="orders:admin",
    )
    async def enable_webhook(
        webhook_id: str,
        principal: Annotated[Principal, Depends(context.webhook_manager)],
        parameters: Annotated[NoParameters, Query()],
    ) -> Response:
        return await webhooks.enable(webhook_id, principal)
