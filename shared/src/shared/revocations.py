"""Revocations: tokens that end before their `exp`. Pure; `shared.revocation_list` keeps them current."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.access import Principal
from shared.documents import RevocationDocument


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is revoked: single tokens by `jti`, and all tokens of a subject that were issued before a time."""

    token_ids: frozenset[str] = frozenset()
    issued_before: Mapping[str, float] = field(default_factory=dict)
    """By subject, seconds since the epoch."""

    def include(self, principal: Principal) -> bool:
        """Whether the token that proved this caller is revoked. One that does not say when it was issued
        counts as issued before any time.
        """
        if principal.token_id is not None and principal.token_id in self.token_ids:
            return True
        before = self.issued_before.get(principal.subject)
        return before is not None and (principal.issued_at is None or principal.issued_at < before)


def revocations_of(documents: Iterable[RevocationDocument]) -> Revocations:
    """The revocations that the documents hold."""
    token_ids: set[str] = set()
    issued_before: dict[str, float] = {}
    for document in documents:
        if document["token_id"] is not None:
            token_ids.add(document["token_id"])
        if document["subject"] is not None and document["issued_before"] is not None:
            issued_before[document["subject"]] = document["issued_before"].timestamp()
    return Revocations(frozenset(token_ids), issued_before)
