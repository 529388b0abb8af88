"""The files of an archive: writes parts and the manifest so that a crash leaves nothing half written, and
reads the orders of a part. Only with the extra `archive`, which brings pyarrow. Everything here blocks.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types

from tracking_shared.contracts.archive import (
    COLUMNS,
    MANIFEST,
    BadArchive,
    Manifest,
    Part,
    decode_manifest,
    encode_manifest,
    event_of,
    row_of,
)
from tracking_shared.contracts.documents import EventDocument

_TYPES = {
    "text": pa.string(),
    "number": pa.int64(),
    "flag": pa.bool_(),
    "time": pa.timestamp("ms", tz="UTC"),
    "json": pa.string(),
}
_REQUIRED = frozenset({"order_id", "version", "merchant_id", "partition", "seq", "recorded_at"})

SCHEMA = pa.schema(
    [pa.field(name, _TYPES[kind], nullable=name not in _REQUIRED) for name, kind in COLUMNS.items()]
)

_HASHED_BYTES = 2**20


class ArchiveBusy(BadArchive):
    """Another process writes to the archive."""


class PartWriter:
    """Writes a part, one row group for each call, and flushes it to the disk at the end. Under its name it is
    there only if it is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_suffix(".tmp")
        columns = [pq.SortingColumn(SCHEMA.get_field_index(name)) for name in ("order_id", "version")]
        self._writer = pq.ParquetWriter(self._unfinished, SCHEMA, compression="zstd", sorting_columns=columns)

    def add(self, events: Sequence[EventDocument]) -> None:
        """Adds whole orders as a row group, sorted by order id and version."""
        rows = [row_of(event) for event in events]
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=len(rows))

    def finish(self) -> tuple[int, str]:
        """Completes the file. Returns its size in bytes and its SHA-256."""
        self._writer.close()
        _flush(self._unfinished)
        size, digest = self._unfinished.stat().st_size, sha256_of(self._unfinished)
        self._unfinished.rename(self._path)
        _flush(self._path.parent)
        return size, digest

    def abandon(self) -> None:
        """Removes what was written."""
        self._writer.close()
        self._unfinished.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(_HASHED_BYTES):
            digest.update(content)
    return digest.hexdigest()


class ArchiveFolder:
    """An archive on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers away; creates the folder if it is missing.

        Raises:
            ArchiveBusy: there is one.
            BadArchive: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise BadArchive(f"{self.folder}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise ArchiveBusy(f"{self.folder}: another process archives to it") from None
        finally:
            os.close(descriptor)

    def manifest(self) -> Manifest | None:
        """The manifest; None if there is none yet.

        Raises:
            BadArchive: it cannot be read.
        """
        try:
            return decode_manifest((self.folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadArchive(f"{self.folder / MANIFEST}: {error.strerror}") from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Replaces the manifest in one step, once the new one is on the disk."""
        unfinished = self.folder / f"{MANIFEST}.tmp"
        unfinished.write_bytes(encode_manifest(manifest))
        _flush(unfinished)
        unfinished.rename(self.folder / MANIFEST)
        _flush(self.folder)

    def remove_unlisted(self, manifest: Manifest) -> None:
        """Removes files that a run left behind before it listed them: nothing left the database for them."""
        listed = {part.file for part in manifest.parts.values()}
        for path in self.folder.glob("part-*"):
            if path.name not in listed:
                path.unlink()

    def path_of(self, part: Part) -> Path:
        """The file of a part."""
        return self.folder / part.file

    def events_of(
        self, part: Part, order_id: str, after: int = 0, limit: int | None = None
    ) -> list[EventDocument]:
        """The events of an order with a version beyond `after`, at most `limit`, by version. Reads only the
        row groups that may contain the order.

        Raises:
            BadArchive: the file is missing or damaged.
        """
        found: list[EventDocument] = []
        with _opened(self.path_of(part)) as file:
            for group in range(file.num_row_groups):
                if _may_contain(file, group, order_id):
                    table = file.read_row_group(group)
                    is_wanted = pc.and_(
                        pc.equal(table["order_id"], order_id), pc.greater(table["version"], after)
                    )
                    found += [event_of(row) for row in table.filter(is_wanted).slice(0, limit).to_pylist()]
        found.sort(key=lambda event: event["version"])
        return found[:limit]

    def histories(self, part: Part) -> Iterator[list[EventDocument]]:
        """All events of a part, some whole orders at a time.

        Raises:
            BadArchive: the file is missing or damaged.
        """
        with _opened(self.path_of(part)) as file:
            for group in range(file.num_row_groups):
                yield [event_of(row) for row in file.read_row_group(group).to_pylist()]

    def rows(self, part: Part, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Some columns of all rows of a part, some whole orders at a time.

        Raises:
            BadArchive: the file is missing or damaged.
        """
        with _opened(self.path_of(part)) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns)).to_pylist()

    def find(self, name: str, order_id: str, after: int = 0, limit: int | None = None) -> list[EventDocument]:
        """The events of an order in the part of this name, as `events_of`.

        Raises:
            BadArchive: there is no such part, or its file is missing or damaged.
        """
        try:
            return self.events_of(self._part(name), order_id, after, limit)
        except BadArchive:
            # Its file may just have been replaced, because a customer was erased.
            return self.events_of(self._part(name), order_id, after, limit)

    def _part(self, name: str) -> Part:
        manifest = self.manifest()
        if manifest is None or name not in manifest.parts:
            raise BadArchive(f"{self.folder}: has no part {name}")
        return manifest.parts[name]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise BadArchive(f"{path}: cannot be read ({type(error).__name__})") from None


def _may_contain(file: Any, group: int, order_id: str) -> bool:
    statistics = file.metadata.row_group(group).column(SCHEMA.get_field_index("order_id")).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= order_id <= statistics.max)
