"""The words that an order is found by, and those of a search: compared without case and accents. Pure.

The console folds in the same way (`search_words.js`); a test compares the two.
"""

import re
import unicodedata
from collections.abc import Iterator

from shared.documents import EventDocument

MAX_WORDS = 24
"""Of one order: five come from what every order has, the others from the name. A longer name is found by
its first words."""

MAX_WORD_CHARACTERS = 64
"""As long as an order id. What is longer is found by its beginning."""

MAX_SEARCHED_WORDS = 8

_LAST = "\U0010ffff"
"""Behind every text that begins with what stands before it."""

_BASE_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)
"""Letters that Unicode does not take apart, and that people type without their stroke."""

_PARTS = re.compile(r"[^\w@+]+|_")


def fold(text: str) -> str:
    """Without case and accents, ligatures and wide forms taken apart: `Łódź` is `lodz`."""
    decomposed = unicodedata.normalize("NFKD", text)
    return (
        "".join(each for each in decomposed if unicodedata.category(each)[0] != "M")
        .lower()
        .translate(_BASE_LETTERS)
    )


def words_of_event(event: EventDocument) -> list[str]:
    """The words of an order as it stands after `event`: at most `MAX_WORDS`, none twice."""
    found: dict[str, None] = {}
    for word in _words(event):
        found[word[:MAX_WORD_CHARACTERS]] = None
        if len(found) == MAX_WORDS:
            break
    return list(found)


def _words(event: EventDocument) -> Iterator[str]:
    customer = event["customer"]
    yield fold(event["order_id"])
    yield fold(event["merchant_id"])
    for text in (customer["contact_ref"], event["source"]["id"]):
        words = fold(text).split()
        yield from words[:3]
        if len(words) > 1:
            yield "".join(words)
    for word in fold(customer["name"]).split():
        yield word
        yield from filter(None, _PARTS.split(word))


def searched_words(text: str) -> list[str]:
    """The beginnings that a search asks for, the longest first: it leaves the fewest orders. None: it asks
    for nothing.
    """
    words = dict.fromkeys(word[:MAX_WORD_CHARACTERS] for word in fold(text).split())
    return sorted(words, key=len, reverse=True)[:MAX_SEARCHED_WORDS]


def begins_with(word: str) -> dict[str, str]:
    """The condition that a text begins with `word`: a range, since UTF-8 is in the order of code points."""
    return {"$gte": word, "$lt": word + _LAST}
