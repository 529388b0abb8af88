"""The metadata of an order: what its updates said, newest wins, within fixed bounds. Pure."""

import orjson

from shared.documents import Metadata

MAX_KEYS = 32
MAX_BYTES = 4096
"""The bounds of one update's metadata hold for the order's too, however many updates it has."""


def merge_metadata(old: Metadata, new: Metadata) -> Metadata:
    """`old` overlaid with `new`; keys said longest ago make room where the bounds require it.

    `new` alone always fits: ingest has checked it against the same bounds. Nothing is lost, since the
    history keeps what each update said.
    """
    if not new:
        return old
    merged = {key: value for key, value in old.items() if key not in new} | new
    while len(merged) > MAX_KEYS or (len(merged) > len(new) and len(orjson.dumps(merged)) > MAX_BYTES):
        del merged[next(iter(merged))]
    return merged
