"""Looks orders up in the search index: which ones begin with the words of a search."""

from dataclasses import dataclass
from typing import Any

from query.reach import Reach
from shared.access import Grant, sees_customer
from shared.bounded_reads import bounded_read
from shared.database import Database
from shared.identifiers import is_identifier
from shared.search_words import begins_with, searched_words

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
    """Whether there are no others."""
    behind: int
    """Changes that the index does not know yet."""


def search_stages(text: str, reach: Reach, grant: Grant, most: int = MAX_FOUND) -> Stages:
    """The query of the index for a text with words; an index serves its first stage."""
    words = searched_words(text)
    if not sees_customer(grant):  # at most as many orders as a token may name
        shown = {"_id": {"$in": sorted(reach.orders or ())}}
        return [{"$match": shown}, {"$match": {"$and": [_in_ids(word) for word in words]}}, *_newest(most)]
    # The range of the first stage is what the embedded database uses its index for; of a list of words it is
    # true, too, where one word is beyond its beginning and another one before its end. The second is exact.
    exact = [{"words": {"$elemMatch": begins_with(word)}} for word in words]
    conditions = [*exact, reach.conditions("_id")]
    return [
        {"$match": {"words": begins_with(words[0])}},
        {"$match": {"$and": [condition for condition in conditions if condition]}},
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
    database: Database, text: str, reach: Reach, grant: Grant, *, most: int = MAX_FOUND
) -> Found:
    """The newest orders in reach that match, at most so many.

    Raises:
        DatabaseUnavailable: also where it takes too long.
    """
    with bounded_read():
        behind = await _behind(database)
        found = await (
            await database.order_search.aggregate(search_stages(text, reach, grant, most))
        ).to_list()
    order_ids = frozenset(document["_id"] for document in found[:most])
    if is_identifier(text.strip()):
        order_ids |= {text.strip()}  # by its whole id, an order is found before the index knows it
    return Found(order_ids, len(found) <= most, behind)


async def _behind(database: Database) -> int:
    progress = {each["_id"]: each.get("seq", 0) async for each in database.search_progress.find({})}
    heads = await database.partitions.find({}, {"seq": 1}).to_list()
    return sum(max(0, head["seq"] - progress.get(head["_id"], 0)) for head in heads)
