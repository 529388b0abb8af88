"""Recognises the customers who are erased, in what was stored before: by the contact or its digest. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tracking_shared.contracts.documents import ErasureDocument
from tracking_shared.contracts.texts import canonical_form

DIGEST_BYTES = 16


def contact_key(key: bytes, contact_ref: str) -> str:
    """The keyed digest of a contact, the same for each way to write it down."""
    text = canonical_form(contact_ref).encode()
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES, key=key).hexdigest()


@dataclass(frozen=True, slots=True)
class ErasedCustomers:
    """The customers that erasures name."""

    key: bytes = b""
    by_contact: Mapping[str, tuple[tuple[str | None, datetime], ...]] = field(default_factory=dict)
    """Digest → the merchant, and when the erasure was accepted."""

    @classmethod
    def of(cls, key: bytes, erasures: Iterable[ErasureDocument]) -> "ErasedCustomers":
        """Those of these erasures, open ones and others."""
        found: dict[str, tuple[tuple[str | None, datetime], ...]] = {}
        for one in erasures:
            refs = one.get("contact_refs")
            digest = contact_key(key, refs[0]) if refs else one["contact_key"]
            found[digest] = (*found.get(digest, ()), (one["merchant_id"], one["accepted_at"]))
        return cls(key, found)

    def erased_at(self, contact_ref: str | None, merchant_id: str, created_at: datetime) -> datetime | None:
        """When the customer of an order was erased that was created then; None: was not."""
        if contact_ref is None or not self.by_contact:
            return None
        times = [
            accepted_at
            for merchant, accepted_at in self.by_contact.get(contact_key(self.key, contact_ref), ())
            if merchant in (None, merchant_id) and created_at <= accepted_at
        ]
        return min(times, default=None)
