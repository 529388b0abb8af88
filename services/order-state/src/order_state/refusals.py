"""What the database's refusals mean: some lie in the document, and last; all others pass."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import BulkWriteError

from order_state.faults import Unwritable

DOCUMENT_FAULTS = {
    2: "a value that is not allowed",
    14: "a value of the wrong type",
    15: "a number out of range",
    16: "a length out of range",
    22: "BSON that cannot be read",
    52: "a name of a field begins with $",
    53: "a value that cannot be an id",
    55: "a reference without its parts",
    56: "an empty name of a field",
    57: "a dot in the name of a field",
    121: "the collection's validator refuses it",
    171: "two arrays in one index",
    201: "no key of an index can be made of it",
    357: "an unknown type",
    378: "BSON that breaks a rule",
    10334: "larger than a document may be",
    11000: "there is one with this key",
    17280: "a key too long for an index",
    17419: "larger than a document may be, after an update",
    17420: "larger than a document may be, to be inserted by an update",
}
"""Codes of MongoDB that tell of a document, and meet it again whenever it is written. With any other one it
may be written later: a full disk (14031), a quota (8000), blocked writes (371), a missing right (13)."""


@contextmanager
def refusals() -> Iterator[None]:
    """Tells a refusal of what we write, which lasts, from a database that is away, full or in conflict.

    Raises:
        Unwritable: it lies in the document.
    """
    try:
        yield
    except BulkWriteError as error:
        codes = {fault["code"] for fault in error.details["writeErrors"]}
        if not codes or not codes <= DOCUMENT_FAULTS.keys():
            raise
        if error.has_error_label("TransientTransactionError"):
            raise
        raise Unwritable(", ".join(map(str, sorted(codes)))) from None
