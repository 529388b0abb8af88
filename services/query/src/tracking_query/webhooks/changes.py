"""The changes of a webhook's document by requests. No I/O, no clock."""

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from tracking_query.webhooks.webhook_bodies import ChangeWebhook, CreateWebhook, FilterBody
from tracking_shared.contracts.access import Grant, Principal, covers, narrowed
from tracking_shared.contracts.cursors import Position
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.webhooks import (
    DelayedOrderDocument,
    GrantDocument,
    WebhookDocument,
    grant_of,
)
from tracking_shared.http.callers import insufficient_scope

SECRET_BYTES = 32

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of the Standard Webhooks specification, not a secret


def new_key() -> bytes:
    """A new key for signatures."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(key: bytes) -> str:
    """The key as its owner gets it, once."""
    return SECRET_PREFIX + b64encode(key).decode()


def webhook_id_of(subject: str, idempotency_key: str) -> str:
    """The id of a webhook: a repeated request finds the one that the first attempt made."""
    digest = hashlib.blake2b(f"{subject}\n{idempotency_key}".encode(), digest_size=16).hexdigest()
    return f"wh_{digest}"


def granted(principal: Principal, wanted: FilterBody) -> GrantDocument:
    """The rights under which a webhook with this filter gets events: those of the caller, for the merchants
    that it names alone.

    Raises:
        ProblemError: `forbidden`: the token reaches none of these merchants.
    """
    grant = narrowed(principal.grant, wanted.merchant_id, wanted.order_id)
    _refuse_no_merchants(grant)
    return grant_document(grant, principal)


def regranted(webhook: WebhookDocument, principal: Principal, wanted: FilterBody) -> GrantDocument:
    """The rights of a webhook whose filter the caller changes to this one.

    Those of its holder are the holder's token's, as when it is registered. Somebody else, such as an
    administrator, who changes the filter adds only merchants that the new filter names, and holds the
    webhook only if some were added: revoking the holder's token ends it as before.

    Raises:
        ProblemError: `forbidden`: the token reaches none of these merchants.
    """
    before = webhook["grant"]
    if principal.subject == before["sub"]:
        return granted(principal, wanted)
    if wanted.merchant_id is None:
        return before
    merchants = narrowed(principal.grant, wanted.merchant_id, None).merchants
    grant = Grant(merchants=merchants, orders=grant_of(before).orders)
    _refuse_no_merchants(grant)
    if not covers(grant_of(before), grant):
        return grant_document(grant, principal)
    return {**before, "merchants": sorted(merchants)}


def _refuse_no_merchants(grant: Grant) -> None:
    if not grant.merchants:
        detail = "The token reaches none of the merchants of the filter."
        raise ProblemError.of(insufficient_scope(detail, "webhooks:manage"))


def grant_document(grant: Grant, principal: Principal) -> GrantDocument:
    """The grant, held by the token of this caller."""
    return {
        "merchants": sorted(grant.merchants),
        "orders": None if grant.orders is None else sorted(grant.orders),
        "sub": principal.subject,
        "token_id": principal.token_id,
        "issued_at": principal.issued_at,
    }


def new_webhook(
    webhook_id: str, body: CreateWebhook, grant: GrantDocument, position: Position, time: datetime
) -> WebhookDocument:
    """A webhook that begins behind `position`."""
    return {
        "_id": webhook_id,
        "url": body.url,
        "filter": body.filter.document(),
        "description": body.description,
        "grant": grant,
        "created_at": time,
        "updated_at": time,
        "fence": 0,
        "sender": None,
        "state": "active",
        "reason": None,
        "epoch": position.epoch,
        "seqs": list(position.seqs),
        "delayed": [],
        "failures": 0,
        "failing_since": None,
        "resume_at": None,
        "last_attempt": None,
        "attempts": 0,
        "missed": None,
        "tests": [],
    }


def is_repeat(stored: WebhookDocument, body: CreateWebhook) -> bool:
    """True if the webhook is what this body asked for."""
    return (stored["url"], stored["filter"], stored["description"]) == (
        body.url,
        body.filter.document(),
        body.description,
    )


def changed(webhook: WebhookDocument, body: ChangeWebhook, principal: Principal) -> dict[str, Any]:
    """The changes of address, filter and description, and of the rights that follow from the filter.

    Raises:
        ProblemError: `forbidden`: the token reaches none of the merchants of the filter.
    """
    fields: dict[str, Any] = {}
    if body.url is not None:
        fields["url"] = body.url
    if "description" in body.model_fields_set:
        fields["description"] = body.description
    if body.filter is not None:
        fields["filter"] = body.filter.document()
        fields["grant"] = regranted(webhook, principal, body.filter)
    return fields


def enabled(webhook: WebhookDocument, principal: Principal, time: datetime) -> dict[str, Any]:
    """The changes that enable a webhook where it stands: all waits are over, nothing is skipped. Its grant
    is held by the caller's token from now on.
    """
    grant = {
        **webhook["grant"],
        "sub": principal.subject,
        "token_id": principal.token_id,
        "issued_at": principal.issued_at,
    }
    waiting = [{**one, "failures": 0, "since": None, "next_at": time} for one in webhook["delayed"]]
    return {
        "state": "failing" if waiting else "active",
        "reason": None,
        "failures": 0,
        "failing_since": None,
        "resume_at": None,
        "delayed": waiting,
        "grant": grant,
    }


def replayed(
    webhook: WebhookDocument, position: Position, first_versions: Mapping[str, int], time: datetime
) -> dict[str, Any]:
    """The changes by which a webhook goes on from `position`, or from where it stands in a partition if that
    is earlier: a replay skips nothing. `first_versions`: by delayed order, its first event behind the
    position.
    """
    if webhook["epoch"] != position.epoch:
        missed = webhook["missed"]
        return {
            "epoch": position.epoch,
            "seqs": list(position.seqs),
            "delayed": [],
            "missed": None if missed is None else {**missed, "through": []},  # of the log before
        }
    return {
        "seqs": earlier(webhook["seqs"], position.seqs),
        "delayed": [_from(one, first_versions, time) for one in webhook["delayed"]],
        "resume_at": None,
    }


def earlier(seqs: Sequence[int], others: Sequence[int]) -> list[int]:
    """The earlier position of each partition."""
    return [min(pair) for pair in zip_longest(seqs, others, fillvalue=0)]


def _from(
    one: DelayedOrderDocument, first_versions: Mapping[str, int], time: datetime
) -> DelayedOrderDocument:
    version = min(one["version"], first_versions.get(one["order_id"], one["version"]))
    return {**one, "version": version, "next_at": min(one["next_at"], time)}
