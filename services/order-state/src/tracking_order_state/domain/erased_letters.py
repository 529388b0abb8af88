"""Erases a person in messages that order-state could not take. Pure.

A dead letter may be of another release, so it is read as JSON and not as commands: what else is in it stays.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from tracking_order_state.domain.erasure import Erasure
from tracking_shared.contracts.texts import canonical_form
from tracking_shared.contracts.timestamps import format_time

MIN_BARE_CHARACTERS = 6
"""A shorter contact is looked for with its quotation marks in what is no JSON: a house number is everywhere.
"""

REMOVED = b""


def erase_letter(erasure: Erasure, body: bytes) -> bytes | None:
    """The message without the customer; `REMOVED` if it holds the contact and is no JSON; None if it does not
    hold the customer.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return REMOVED if any(text in body for text in _encoded(erasure)) else None
    found = [command for command in _commands(parsed) if _is_of(erasure, command)]
    for command in found:
        command |= {"customer": None, "erased_at": format_time(erasure.accepted_at)}
    return orjson.dumps(parsed) if found else None


def _commands(parsed: Any) -> Iterator[dict[str, Any]]:
    for one in parsed if isinstance(parsed, list) else [parsed]:
        if isinstance(one, dict):
            yield one


def _is_of(erasure: Erasure, command: dict[str, Any]) -> bool:
    customer = command.get("customer")
    if not isinstance(customer, dict) or not isinstance(customer.get("contact_ref"), str):
        return False
    if canonical_form(customer["contact_ref"]) not in erasure.contact_refs:
        return False
    return erasure.merchant_id in (None, command.get("merchant_id")) and _is_old(erasure, command)


def _is_old(erasure: Erasure, command: dict[str, Any]) -> bool:
    try:
        return datetime.fromisoformat(str(command.get("received_at"))) <= erasure.accepted_at
    except (ValueError, TypeError):  # no time, or none with an offset
        return True


def _encoded(erasure: Erasure) -> Iterator[bytes]:
    for contact_ref in erasure.contact_refs:
        for text in (json.dumps(contact_ref), json.dumps(contact_ref, ensure_ascii=False)):
            yield (text if len(contact_ref) < MIN_BARE_CHARACTERS else text[1:-1]).encode()
