"""Finds orders by the beginnings of words, in the index of words."""

from dataclasses import dataclass
from typing import Any

from tracking_shared.contracts.access import Grant, ReadableOrders, sees_customer
from tracking_shared.contracts.identifiers import is_identifier
from tracking_shared.contracts.references import is_reference
from tracking_shared.contracts.texts import begins_with, searched_words
from tracking_shared.storage.database import Database
from tracking_shared.storage.embedded_database import match_stages
from tracking_shared.storage.reads import bounded_read

MAX_FOUND = 2_000
"""Orders of one search: the newest ones. More would not be read anyway."""

MAX_LOOKED_AT = 100_000
"""Entries of the index that one search looks at, so that a single letter ends, too."""

Stages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """The orders that match a search."""

    order_ids: frozenset[str]
    is_complete: bool
    """True: there are no others."""
    behind: int
    """Changes that the index does not know yet."""


def search_stages(text: str, readable: ReadableOrders, grant: Grant, most: int = MAX_FOUND) -> Stages:
    """The query of the index for a text with words; an index serves its first stage."""
    words = searched_words(text)
    if not sees_customer(grant):  # at most as many orders as a token may name
        shown = {"_id": {"$in": sorted(readable.orders or ())}}
        return [*match_stages([shown, {"$and": [_in_ids(word) for word in words]}]), *_newest(most)]
    # An index serves the range of the first stage. Of a list of words it is true, too, where one word is
    # beyond its beginning and another one before its end; the second stage is exact.
    exact = [{"words": {"$elemMatch": begins_with(word)}} for word in words]
    conditions = [*exact, readable.conditions("_id")]
    return [
        *match_stages(
            [
                {"words": begins_with(words[0])},
                {"$and": [condition for condition in conditions if condition]},
            ]
        ),
        *_newest(most),
    ]


def _in_ids(word: str) -> dict[str, Any]:
    """The word begins the order id or the merchant's: nothing personal is compared."""
    own = {"$eq": [{"$indexOfCP": [{"$toLower": "$_id"}, word]}, 0]}
    merchant = {"$eq": [{"$indexOfCP": [{"$toLower": "$merchant_id"}, word]}, 0]}
    return {"$expr": {"$or": [own, merchant]}}


def _newest(most: int) -> Stages:
    return [
        {"$limit": MAX_LOOKED_AT},
        {"$project": {"created_at": 1}},
        {"$sort": {"created_at": -1, "_id": -1}},
        {"$limit": most + 1},
    ]


async def search(
    database: Database, text: str, readable: ReadableOrders, grant: Grant, *, most: int = MAX_FOUND
) -> Found:
    """The newest readable orders that match, at most so many.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        behind = await _behind(database)
        found = await (
            await database.order_search.aggregate(search_stages(text, readable, grant, most))
        ).to_list()
        named = await _named(database, text.strip(), readable, most)
    order_ids = frozenset(document["_id"] for document in found[:most]) | named
    return Found(order_ids, max(len(found), len(named)) <= most, behind)


async def _named(database: Database, name: str, readable: ReadableOrders, most: int) -> set[str]:
    """Orders with exactly this id or reference: they are found before the index knows them, and by tokens
    that may not use it.
    """
    ids = {name} if is_identifier(name) else set()
    if not is_reference(name):
        return ids
    stages = match_stages([{"reference": name}, readable.conditions("_id")])
    found = await database.orders.aggregate([*stages, {"$limit": most + 1}, {"$project": {"_id": 1}}])
    return ids | {order["_id"] async for order in found}


async def _behind(database: Database) -> int:
    progress = {each["_id"]: each.get("seq", 0) async for each in database.search_progress.find({})}
    heads = await database.partitions.find({}, {"seq": 1}).to_list()
    return sum(max(0, head["seq"] - progress.get(head["_id"], 0)) for head in heads)
