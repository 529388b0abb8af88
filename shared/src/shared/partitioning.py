"""Which partition an order belongs to. The answer never changes for a given partition count."""

import hashlib


def partition_of(order_id: str, partitions: int) -> int:
    """The partition of an order, 0 to `partitions` - 1.

    Computed here and not by a broker plugin, so that it is the same in every process, in every
    release and after every restart. BLAKE2b (RFC 7693) spreads even ids that differ in one digit.
    """
    digest = hashlib.blake2b(order_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions
