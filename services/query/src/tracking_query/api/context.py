"""The dependencies of the routes."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from tracking_query.settings import QuerySettings
from tracking_shared.auth.cursor_seals import CursorSeals
from tracking_shared.auth.revocations import RevocationList
from tracking_shared.auth.tokens import TokenVerifier
from tracking_shared.contracts.access import Principal, may_administer, may_manage_webhooks
from tracking_shared.contracts.documents import OrderDocument
from tracking_shared.contracts.problems import ProblemError
from tracking_shared.contracts.workflow import Workflow
from tracking_shared.http.callers import (
    authenticated,
    insufficient_scope,
    refuse_revoked,
    refuse_without_outcomes,
    refuse_without_reading,
)
from tracking_shared.http.order_answers import entitled_order
from tracking_shared.policy.limits import ConcurrencyLimit
from tracking_shared.policy.receivers import Network
from tracking_shared.storage.audit_trail import AuditTrail
from tracking_shared.storage.database import Database


def refuse_without_administration(principal: Principal) -> None:
    """Raises `ProblemError` (`forbidden`) unless the caller may administer."""
    if not may_administer(principal):
        detail = "The token does not have the scope orders:admin."
        raise ProblemError.of(insufficient_scope(detail, "orders:admin"))


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Concurrency limits of one process, of which each principal and merchant has a share."""

    exports: ConcurrencyLimit
    """Each holds a session of the database and a chunk of orders."""
    reports: ConcurrencyLimit
    """The other requests need processor and database, too."""
    waits: ConcurrencyLimit
    """Requests that wait for the log to go on."""


def limits_of(settings: QuerySettings) -> QueryLimits:
    """The limits that the settings ask for."""

    def limit(name: str, capacity: int) -> ConcurrencyLimit:
        return ConcurrencyLimit.with_shares(name, capacity, settings.shares)

    return QueryLimits(
        exports=limit("exports", settings.query_max_exports),
        reports=limit("reports", settings.query_max_reports),
        waits=limit("waits", settings.query_max_waits),
    )


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the composition root."""

    database: Database
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    partitions: int
    cursor_key: bytes
    audit: AuditTrail
    cursors: CursorSeals
    limits: QueryLimits
    webhook_networks: Sequence[Network] = ()
    """Networks that webhooks may name though they are not public."""

    async def reader(self, request: Request) -> Principal:
        """The caller of a request.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without a scope to read.
            DatabaseUnavailable: it is unknown whether the token is revoked.
        """
        principal = await self._caller(request)
        refuse_without_reading(principal)
        return principal

    async def sender_or_reader(self, request: Request) -> Principal:
        """The caller of a request about an update: who may read, or may have sent it.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without a scope for either.
            DatabaseUnavailable: it is unknown whether the token is revoked.
        """
        principal = await self._caller(request)
        refuse_without_outcomes(principal)
        return principal

    async def webhook_manager(self, request: Request) -> Principal:
        """The caller of a request about webhooks.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without the scope for it.
            DatabaseUnavailable: it is unknown whether the token is revoked.
        """
        principal = await self._caller(request)
        if not may_manage_webhooks(principal):
            detail = "The token does not have the scope webhooks:manage, or no merchants."
            raise ProblemError.of(insufficient_scope(detail, "webhooks:manage"))
        return principal

    async def _caller(self, request: Request) -> Principal:
        principal = await authenticated(request, self.verifier)
        refuse_revoked(principal, await self.revocations.fresh())
        return principal

    async def order(self, order_id: str, principal: Principal) -> OrderDocument:
        """The order as it stands.

        Raises:
            ProblemError: `order-not-found`, also where the caller is not entitled to it.
        """
        return await entitled_order(self.database, order_id, principal)
