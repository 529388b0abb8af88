"""The records of a load come out order by order, in the sequence of the files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from property_examples import max_examples
from tracking.load.records import Location, Record, UnreadableFile
from tracking.load.spool import open_spool


def _record(order_key: str, line: int) -> Record:
    return Record(
        Location("a", line), b"{}", order_key, line % 2 == 0, "current_status", None if line % 3 else line / 7
    )


@max_examples(50)
@given(st.lists(st.one_of(st.sampled_from("abc"), st.text(max_size=3))))
def test_orders_come_out_whole_and_as_the_files_name_them_first(keys: list[str]) -> None:
    records = [_record(key, line) for line, key in enumerate(keys)]

    with open_spool() as spool:
        spool.add_all(records)
        orders = list(spool.orders())
        assert spool.count == len(records)

    assert [group[0].order_key for group in orders] == list(dict.fromkeys(keys))
    for group in orders:
        assert group == [record for record in records if record.order_key == group[0].order_key]


def test_half_a_character_in_an_order_id_is_no_reason_to_fail() -> None:
    with open_spool() as spool:
        spool.add_all([_record("\ud800", 1)])
        assert [group[0].order_key for group in spool.orders()] == ["\ud800"]


def test_the_rows_of_one_order_are_bounded() -> None:
    with open_spool(max_order_records=3) as spool:
        spool.add_all(_record("o", line) for line in range(4))
        with pytest.raises(UnreadableFile, match="a:0: more than 3 rows of one order"):
            list(spool.orders())
