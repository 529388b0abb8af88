"""The erasure of a person, asked for on the command line. order-state carries it out."""

import re

import orjson

from tracking.errors import CommandError
from tracking.upkeep.audit import audit_trail_of
from tracking.upkeep.record_reader import read_partitions, server_errors
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.texts import CONTROL_FREE_PATTERN, MAX_CONTACT_CHARACTERS
from tracking_shared.storage.audit_trail import Actor
from tracking_shared.storage.database import open_database
from tracking_shared.storage.erasures import erasure_view, request_erasure, wait_for_erasure

WAIT_SECONDS = 60.0
"""The time that the command waits for the end."""


class NotErased(CommandError):
    """The person is not erased, or not everywhere yet. The message says which."""


async def erase_person(
    mongodb_url: str, database_name: str, contact_ref: str, merchant_id: str | None, actor: Actor
) -> str:
    """Erases a person, after an entry in the audit trail. Returns the result as JSON: how many orders and
    events.

    Raises:
        NotErased: it is not accepted, or goes on.
        NoInstallation: the database holds no installation.
    """
    _check(contact_ref, merchant_id)
    with server_errors(NotErased):
        async with open_database(mongodb_url, database_name) as database:
            await read_partitions(database)
            erasure = await request_erasure(
                database, audit_trail_of(database), actor, contact_ref, merchant_id
            )
            erasure = await wait_for_erasure(database, erasure, WAIT_SECONDS)
    view = erasure_view(erasure)
    if not view["done"]:
        raise NotErased(
            f"erasure {view['erasure_id']} is accepted and goes on; order-state has not finished it within"
            f" {WAIT_SECONDS:.0f} s"
        )
    return orjson.dumps(view).decode()


def _check(contact_ref: str, merchant_id: str | None) -> None:
    if not 1 <= len(contact_ref) <= MAX_CONTACT_CHARACTERS or not re.search(
        CONTROL_FREE_PATTERN, contact_ref
    ):
        raise NotErased(
            f"--customer-ref: write 1 to {MAX_CONTACT_CHARACTERS} characters without control characters"
        )
    if merchant_id is not None and not is_identifier(merchant_id):
        raise NotErased("--merchant: this is no id of a merchant")
