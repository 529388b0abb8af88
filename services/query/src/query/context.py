"""What the routes work with."""

from dataclasses import dataclass

from fastapi import Request

from query.concurrency import QueryLimits
from query.log_watch import LogWatch
from shared.access import Principal
from shared.audit_trail import AuditTrail
from shared.authentication import authenticated, refuse_revoked
from shared.cursor_seals import CursorSeals
from shared.database import Database
from shared.documents import OrderDocument
from shared.order_reads import entitled_order, refuse_without_reading
from shared.outcome_reads import refuse_without_outcomes
from shared.revocation_list import RevocationList
from shared.tokens import TokenVerifier
from shared.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Context:
    """Made once by the composition root."""

    database: Database
    verifier: TokenVerifier
    revocations: RevocationList
    workflow: Workflow
    partitions: int
    cursor_key: bytes
    log_watch: LogWatch
    audit: AuditTrail
    cursors: CursorSeals
    limits: QueryLimits

    async def reader(self, request: Request) -> Principal:
        """The caller of a request.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without a scope to read.
            DatabaseUnavailable: whether the token is revoked cannot be told.
        """
        principal = await self._caller(request)
        refuse_without_reading(principal)
        return principal

    async def sender_or_reader(self, request: Request) -> Principal:
        """The caller of a request about an update: who may read, or may have sent it.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without a scope for either.
            DatabaseUnavailable: whether the token is revoked cannot be told.
        """
        principal = await self._caller(request)
        refuse_without_outcomes(principal)
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
