"""The work of the routes of webhooks."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from pydantic import Field

from tracking_query.api.context import Context
from tracking_query.api.page_cursors import KeysetPosition, encode_position
from tracking_query.api.parameters import Parameters, WholeNumber, next_link
from tracking_query.api.parameters import position_of as page_position
from tracking_query.log.log_search import positions_between
from tracking_query.webhooks import storing, webhook_shapes
from tracking_query.webhooks.changes import (
    changed,
    enabled,
    granted,
    is_repeat,
    new_webhook,
    replayed,
    secret_text,
    webhook_id_of,
)
from tracking_query.webhooks.pending import count_pending
from tracking_query.webhooks.webhook_bodies import ChangeWebhook, CreateWebhook, FilterBody, ReplayWebhook
from tracking_shared.contracts.access import Principal
from tracking_shared.contracts.cursors import InvalidCursor, Position, is_before, resync_reason
from tracking_shared.contracts.identifiers import new_update_id
from tracking_shared.contracts.layout import padded
from tracking_shared.contracts.problems import ProblemError, unknown_name, validation_problem
from tracking_shared.contracts.timestamps import format_time, now
from tracking_shared.contracts.webhooks import (
    KEPT_ATTEMPTS,
    OLD_SECRET_HOURS,
    AttemptDocument,
    WebhookDocument,
    position_of,
)
from tracking_shared.http.headers import idempotency_key_of
from tracking_shared.http.http_limits import within
from tracking_shared.http.json_bodies import read_json
from tracking_shared.http.service_app import JsonResponse
from tracking_shared.policy.receivers import BadReceiver, checked_url
from tracking_shared.storage.audit_trail import Act, Action, Actor
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read, read_log_end, read_log_ends_to_resume

TEST_SECONDS = 10.0
"""The time that a caller waits for a test delivery: a sender notices it within a second or two."""

LOOK_SECONDS = 0.1


class ListParameters(Parameters):
    """The page of `GET /v1/webhooks`."""

    limit: Annotated[WholeNumber, Field(ge=1, le=100)] = 50
    """At most so many on a page."""
    cursor: str | None = None
    """The `next_cursor` of the page before."""


class AttemptParameters(Parameters):
    """The page of `GET /v1/webhooks/{webhook_id}/attempts`."""

    limit: Annotated[WholeNumber, Field(ge=1, le=KEPT_ATTEMPTS)] = 50
    """At most so many."""


class Webhooks:
    """The endpoints, and the parts that they work with."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._database = context.database

    async def create(self, request: Request, principal: Principal) -> Response:
        """Registers a webhook. A repeat with the same `Idempotency-Key` finds it, without its secret."""
        body = await read_json(request, CreateWebhook)
        self._check_url(body.url)
        self._check_statuses(body.filter)
        grant = granted(principal, body.filter)
        key = _key_of(request)
        webhook_id = webhook_id_of(principal.subject, key)
        await storing.refuse_too_many(self._database, principal)
        position = await self._end() if body.after is None else await self._position(body.after)
        await self._record(principal, "webhook.created", webhook_id, _told(body.url, grant["merchants"]))
        webhook = new_webhook(webhook_id, body, grant, position, now())
        secret = await storing.insert_webhook(self._database, webhook)
        if secret is None:
            return await self._repeat(webhook_id, principal, body)
        view = await self._view(webhook) | {"secret": secret_text(secret)}
        return JsonResponse(view, 201, headers={"Location": f"/v1/webhooks/{webhook_id}"})

    async def _repeat(self, webhook_id: str, principal: Principal, body: CreateWebhook) -> Response:
        stored = await storing.find_webhook(self._database, webhook_id, principal)
        if not is_repeat(stored, body):
            detail = "The key was used for another webhook, or that one was changed since."
            raise ProblemError("idempotency-key-reused", detail)
        headers = {"Location": f"/v1/webhooks/{webhook_id}", "Idempotent-Replayed": "true"}
        return JsonResponse(await self._view(stored), 201, headers=headers)

    async def read_list(self, request: Request, principal: Principal, parameters: ListParameters) -> Response:
        """A page of the webhooks that exist for the caller."""
        binding = b"webhooks/" + principal.subject.encode()
        key = self._context.cursor_key
        after = page_position(parameters.cursor, binding, key, "this list of webhooks")
        found = await storing.list_webhooks(self._database, principal, after, parameters.limit + 1)
        page = found[: parameters.limit]
        items = [await self._view(webhook) for webhook in page]
        if len(found) <= parameters.limit:
            return JsonResponse({"items": items, "next_cursor": None})
        cursor = encode_position(KeysetPosition(page[-1]["created_at"], page[-1]["_id"]), binding, key)
        link = {"Link": next_link(request, cursor)}
        return JsonResponse({"items": items, "next_cursor": cursor}, headers=link)

    async def read(self, webhook_id: str, principal: Principal) -> Response:
        """One webhook."""
        return JsonResponse(await self._view(await self._find(webhook_id, principal)))

    async def change(self, request: Request, webhook_id: str, principal: Principal) -> Response:
        """Changes address, filter or description."""
        webhook = await self._find(webhook_id, principal)
        body = await read_json(request, ChangeWebhook)
        if body.url is not None:
            self._check_url(body.url)
        if body.filter is not None:
            self._check_statuses(body.filter)
        shown = {**webhook, **changed(webhook, body, principal)}
        details = _told(shown["url"], shown["grant"]["merchants"])
        await self._record(principal, "webhook.changed", webhook_id, details)
        found = await storing.change_webhook(
            self._database, webhook, lambda stored: changed(stored, body, principal)
        )
        return JsonResponse(await self._view(found))

    async def delete(self, webhook_id: str, principal: Principal) -> Response:
        """Deletes a webhook. What is in flight may still arrive."""
        await self._find(webhook_id, principal)
        await self._record(principal, "webhook.deleted", webhook_id, {})
        await storing.delete_webhook(self._database, webhook_id)
        return Response(status_code=204)

    async def rotate(self, webhook_id: str, principal: Principal) -> Response:
        """Gives a webhook a new secret."""
        webhook = await self._find(webhook_id, principal)
        await self._record(principal, "webhook.secret_rotated", webhook_id, {})
        secret = await storing.rotate_secret(self._database, webhook)
        until = now() + timedelta(hours=OLD_SECRET_HOURS)
        return JsonResponse(
            {"id": webhook_id, "secret": secret_text(secret), "previous_until": format_time(until)}
        )

    async def enable(self, webhook_id: str, principal: Principal) -> Response:
        """Goes on where a disabled webhook stands."""
        webhook = await self._find(webhook_id, principal)
        end = await self._end()
        if resync_reason(position_of(webhook), end) is not None:
            raise ProblemError("cursor-expired", "The log was replaced; ask for a replay, then enable it.")
        found = await storing.change_webhook(
            self._database, webhook, lambda stored: enabled(stored, principal, now())
        )
        return JsonResponse(await self._view(found))

    async def replay(self, request: Request, webhook_id: str, principal: Principal) -> Response:
        """Goes back to an earlier position."""
        webhook = await self._find(webhook_id, principal)
        body = await read_json(request, ReplayWebhook)
        position = await self._start_of(body)
        first = await self._first_versions(webhook, position)
        found = await storing.change_webhook(
            self._database, webhook, lambda stored: replayed(stored, position, first, now())
        )
        return JsonResponse(await self._view(found), 202)

    async def test(self, webhook_id: str, principal: Principal) -> Response:
        """Has a test delivery made and waits for its outcome."""
        await self._find(webhook_id, principal)
        with within(self._context.limits.waits, principal):
            test_id = await storing.request_test(self._database, webhook_id)
            attempt = await self._test_attempt(webhook_id, test_id)
        if attempt is None:
            location = {"Location": f"/v1/webhooks/{webhook_id}/attempts"}
            return JsonResponse({"event_id": test_id}, 202, headers=location)
        return JsonResponse(webhook_shapes.attempt_view(attempt))

    async def attempts(
        self, webhook_id: str, principal: Principal, parameters: AttemptParameters
    ) -> Response:
        """The newest attempts."""
        await self._find(webhook_id, principal)
        found = await storing.find_attempts(self._database, webhook_id, parameters.limit)
        return JsonResponse({"items": list(map(webhook_shapes.attempt_view, found))})

    async def _find(self, webhook_id: str, principal: Principal) -> WebhookDocument:
        return await storing.find_webhook(self._database, webhook_id, principal)

    async def _view(self, webhook: WebhookDocument) -> dict[str, Any]:
        end = await self._end()
        with bounded_read():
            await self._context.cursors.look_for(webhook["epoch"])
        pending = await count_pending(self._database, webhook, end)
        return webhook_shapes.webhook_view(
            webhook, pending, self._context.cursors.encode(position_of(webhook))
        )

    async def _end(self) -> Position:
        with bounded_read():
            return await read_log_end(self._database, self._context.partitions)

    async def _position(self, cursor: str) -> Position:
        """The position that a cursor stands for, if the log has it."""
        try:
            with bounded_read():
                await self._context.cursors.look_for_key_of(cursor)
            position = self._context.cursors.decode(cursor)
        except InvalidCursor as error:
            raise ProblemError("invalid-cursor", f"The cursor is {error}.") from None
        with bounded_read():
            async with self._database.client.start_session() as session:
                start, end = await read_log_ends_to_resume(
                    self._database, self._context.partitions, position, session
                )
        if position.epoch != end.epoch:
            raise ProblemError("cursor-expired", "The cursor belongs to a log that was replaced.")
        if resync_reason(position, end) is not None:
            raise ProblemError("invalid-cursor", "The log has no such position.")
        if is_before(position, start):
            raise ProblemError("cursor-expired", "The cursor is from before the beginning of the log.")
        return position

    async def _start_of(self, body: ReplayWebhook) -> Position:
        if body.after is not None:
            return await self._position(body.after)
        assert body.start is not None  # noqa: S101 - the body names one of the two
        end = await self._end()
        spans = await positions_between(self._database, end, body.start, None)
        return Position(end.epoch, tuple(span.start - 1 for span in spans))

    async def _first_versions(self, webhook: WebhookDocument, position: Position) -> dict[str, int]:
        """By delayed order: the version of its first event behind a position."""
        delayed = webhook["delayed"]
        if not delayed:
            return {}
        behind = [
            {"partition": partition, "seq": {"$gt": padded(position.seqs, partition + 1)[partition]}}
            for partition in sorted({one["partition"] for one in delayed})
        ]
        pipeline = [
            *match_stages([{"order_id": {"$in": [one["order_id"] for one in delayed]}}, {"$or": behind}]),
            {"$group": {"_id": "$order_id", "version": {"$min": "$version"}}},
        ]
        with bounded_read():
            # Counted there: an order may have very many events.
            cursor = await self._database.order_events.aggregate(pipeline)
            found: list[Any] = await cursor.to_list()
        return {one["_id"]: one["version"] for one in found}

    async def _test_attempt(self, webhook_id: str, test_id: str) -> AttemptDocument | None:
        deadline = monotonic() + TEST_SECONDS
        while monotonic() < deadline:
            attempt = await storing.find_attempt(self._database, webhook_id, test_id)
            if attempt is not None:
                return attempt
            await asyncio.sleep(LOOK_SECONDS)
        return None

    def _check_url(self, url: str) -> None:
        try:
            checked_url(url, self._context.webhook_networks)
        except BadReceiver as error:
            errors = [{"pointer": "/url", "message": str(error)}]
            raise ProblemError.of(validation_problem(errors)) from None

    def _check_statuses(self, wanted: FilterBody) -> None:
        if not self._context.workflow.statuses.issuperset(wanted.status or ()):
            errors = unknown_name("/filter/status", self._context.workflow.statuses)
            raise ProblemError.of(validation_problem(errors))

    async def _record(
        self, principal: Principal, action: Action, webhook_id: str, details: Mapping[str, Any]
    ) -> None:
        await self._context.audit.record(Actor(principal.subject, "api"), Act(action, webhook_id, details))


def _key_of(request: Request) -> str:
    headers = request.headers.getlist("idempotency-key")
    return idempotency_key_of(headers) if headers else new_update_id()


def _told(url: str, merchants: list[str]) -> dict[str, Any]:
    # Of the address the host alone: what follows it may be secret.
    return {"host": urlsplit(url).hostname, "merchants": merchants}
