"""The archive: an event as a row, the manifest, and which histories are whole."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking_shared.contracts.archive import (
    BadArchive,
    Manifest,
    Part,
    PartContents,
    decode_manifest,
    encode_manifest,
    event_of,
    in_chunks,
    row_of,
    whole_histories,
    without_erased,
)
from tracking_shared.contracts.documents import EventDocument, position_key
from tracking_shared.contracts.erased import ErasedCustomers, contact_key
from tracking_shared.storage.archive_files import ArchiveBusy, ArchiveFolder, PartWriter, sha256_of

TIME = datetime(2025, 3, 1, 8, 15, 0, 123_000, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
times = st.integers(0, 10**12).map(lambda ms: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False, allow_infinity=False)
)
metadata = st.dictionaries(texts, scalars | st.lists(scalars, max_size=3), max_size=4)


def event(order_id: str = "o-1", version: int = 1, seq: int = 1, **fields: Any) -> EventDocument:
    made: dict[str, Any] = {
        "_id": position_key(2, seq),
        "order_id": order_id,
        "merchant_id": "acme",
        "customer": {"name": "Ada", "contact_ref": "crm:17"},
        "version": version,
        "partition": 2,
        "seq": seq,
        "status": "created",
        "previous_status": None,
        "active": True,
        "update_id": f"u-{version}",
        "source": {"type": "driver", "id": "dora"},
        "occurred_at": None,
        "received_at": TIME,
        "recorded_at": TIME,
        "created_at": TIME,
        "metadata": {},
        "order_metadata": {},
    }
    return EventDocument(**(made | fields))


optional = st.fixed_dictionaries(
    {},
    optional={
        "reference": texts,
        "customer": st.none() | st.fixed_dictionaries({"name": texts, "contact_ref": texts}),
        "occurred_at": st.none() | times,
        "previous_status": st.none() | texts,
        "metadata": metadata,
        "order_metadata": metadata,
        "update_key": texts,
        "fingerprint": texts,
        "type": st.sampled_from(["order.corrected", "order.overdue"]),
        "due_at": times,
        "overdue": st.booleans(),
        "closed_at": times,
        "corrected_at": times,
        "reason": texts,
        "traceparent": texts,
        "erased_at": times,
        "of_a_later_release": st.none() | texts | times | st.dictionaries(texts, times, max_size=2),
        "eta": st.none() | st.integers(0, 9),
    },
)


@given(optional)
def test_an_event_is_the_same_after_it_was_a_row(fields: dict[str, Any]) -> None:
    before = event(**fields)
    assert event_of(row_of(before)) == before


@given(st.lists(optional, min_size=1, max_size=5))
def test_a_file_gives_back_the_events_and_finds_an_order(
    tmp_path_factory: pytest.TempPathFactory, fields: list[dict[str, Any]]
) -> None:
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive"))
    histories = [[event(f"o-{n}", v, 10 * n + v, **some) for v in (1, 2)] for n, some in enumerate(fields)]
    part = written(folder, histories)
    assert [e for group in folder.histories(part) for e in group] == [e for h in histories for e in h]
    for history in histories:
        order_id = history[0]["order_id"]
        assert folder.events_of(part, order_id) == history
        assert folder.events_of(part, order_id, after=1) == history[1:]
        assert folder.events_of(part, order_id, limit=1) == history[:1]
    assert folder.events_of(part, "o-none") == []


def written(folder: ArchiveFolder, histories: list[list[EventDocument]]) -> Part:
    contents = PartContents()
    writer = PartWriter(folder.folder / "part-1.parquet")
    for history in histories:
        contents.add(history)
        writer.add(history)
    size, digest = writer.finish()
    assert contents.first_recorded_at is not None
    assert contents.last_recorded_at is not None
    return Part(
        "part-1",
        "part-1.parquet",
        "written",
        contents.orders,
        contents.events,
        0,
        contents.first_order_id,
        contents.last_order_id,
        contents.first_recorded_at,
        contents.last_recorded_at,
        contents.positions or {},
        size,
        digest,
        TIME,
        TIME,
    )


def test_the_manifest_tells_counts_ranges_and_digest(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    later = TIME + timedelta(days=1)
    part = written(
        folder, [[event("o-1", 1, 4), event("o-1", 2, 9, recorded_at=later)], [event("o-2", 1, 5)]]
    )
    assert (part.orders, part.events) == (2, 3)
    assert (part.first_order_id, part.last_order_id) == ("o-1", "o-2")
    assert (part.first_recorded_at, part.last_recorded_at) == (TIME, later)
    assert part.positions == {"2": [4, 9]}
    assert part.sha256 == sha256_of(tmp_path / part.file)
    folder.write_manifest(Manifest("e", {}).with_part(part))
    assert folder.manifest() == Manifest("e", {"part-1": part})


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1}', b'{"format": 2, "parts": []}'])
def test_a_manifest_that_is_none_or_of_a_later_release_is_refused(content: bytes) -> None:
    with pytest.raises(BadArchive):
        decode_manifest(content)


def test_an_archive_without_parts_has_a_manifest() -> None:
    assert decode_manifest(encode_manifest(Manifest("e", {}))) == Manifest("e", {})


def test_files_that_no_manifest_lists_are_removed_and_others_stay(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    part = written(folder, [[event()]])
    for name in ("part-2.parquet", "part-3.tmp", "notes.txt"):
        (tmp_path / name).write_text("x")
    folder.remove_unlisted(Manifest("e", {part.name: part}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "part-1.parquet"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with ArchiveFolder(tmp_path).locked(), pytest.raises(ArchiveBusy), ArchiveFolder(tmp_path).locked():
        pass


def test_a_damaged_and_a_missing_file_are_named(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path)
    part = written(folder, [[event()]])
    folder.path_of(part).write_bytes(b"PAR1 not one")
    with pytest.raises(BadArchive, match=r"part-1\.parquet"):
        folder.events_of(part, "o-1")
    folder.path_of(part).unlink()
    with pytest.raises(BadArchive, match=r"part-1\.parquet"):
        folder.events_of(part, "o-1")


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 9)),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_chunks_contain_every_order_once_by_id_and_are_bounded(
    versions: dict[str, int], most_events: int, most_orders: int
) -> None:
    chunks = in_chunks(versions, most_events, most_orders)
    assert [order_id for chunk in chunks for order_id in chunk] == sorted(versions)
    for chunk in chunks:
        assert len(chunk) <= most_orders
        assert len(chunk) == 1 or sum(versions[order_id] for order_id in chunk) <= most_events


def test_an_order_of_which_an_event_is_missing_or_new_is_left_out() -> None:
    events = [event("a", 2, 2), event("a", 1, 1), event("b", 1, 3), event("c", 1, 4), event("c", 2, 5)]
    found = whole_histories({"a": 2, "b": 2, "c": 1, "d": 1}, events)
    assert found == {"a": [events[1], events[0]]}


def test_an_erased_event_keeps_everything_else_and_its_first_time() -> None:
    key = b"k" * 32
    document: Any = {
        "_id": "e",
        "merchant_id": None,
        "accepted_at": TIME,
        "contact_key": contact_key(key, "crm:17"),
    }
    erased = ErasedCustomers.of(key, [document])
    without = without_erased(event(), erased)
    assert without == {**event(), "customer": None, "erased_at": TIME}
    assert without_erased(without, erased) == without
    newer = event(created_at=TIME + timedelta(seconds=1))
    assert without_erased(newer, erased) == newer
    other = ErasedCustomers.of(key, [document | {"merchant_id": "globex"}])
    assert without_erased(event(), other) == event()
