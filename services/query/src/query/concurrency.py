"""How many of the expensive answers one process gives at once, and of these each principal and merchant."""

from dataclasses import dataclass

from query.settings import QuerySettings
from shared.concurrency_limits import ConcurrencyLimit


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The limits of one process."""

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
