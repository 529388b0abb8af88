"""What the routes work with."""

from dataclasses import dataclass

from fastapi import Request

from query.concurrency import QueryLimits
from query.limits import bounded_read
from query.log_watch import LogWatch
from query.order_by_id import order_by_id
from shared.access import Principal, may_ask_for_outcomes, may_read, reaches
from shared.audit_trail import AuditTrail
from shared.authentication import authenticated, refuse_revoked
from shared.challenges import insufficient_scope
from shared.cursor_seals import CursorSeals
from shared.database import Database
from shared.documents import OrderDocument
from shared.identifiers import is_identifier
from shared.problems import ProblemError
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
        if not may_read(principal):
            raise ProblemError.of(
                insufficient_scope("The token does not have the scope orders:read.", "orders:read")
            )
        return principal

    async def sender_or_reader(self, request: Request) -> Principal:
        """The caller of a request about an update: who may read, or may have sent it.

        Raises:
            ProblemError: `unauthenticated`, `keys-unavailable`, or `forbidden` without a scope for either.
            DatabaseUnavailable: whether the token is revoked cannot be told.
        """
        principal = await self._caller(request)
        if not may_ask_for_outcomes(principal):
            detail = "The token has neither the scope orders:read nor orders:write."
            raise ProblemError.of(insufficient_scope(detail, "orders:read"))
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
        order = None
        if is_identifier(order_id):
            with bounded_read():
                order = await order_by_id(self.database, order_id)
        return entitled(order, order_id, principal)


def entitled(order: OrderDocument | None, order_id: str, principal: Principal) -> OrderDocument:
    """`order`, if there is one and it exists for the caller.

    Raises:
        ProblemError: `order-not-found`.
    """
    if order is None or not reaches(principal.grant, order["_id"], order["merchant_id"]):
        raise ProblemError("order-not-found", f"There is no order {order_id[:64]}.")
    return order
