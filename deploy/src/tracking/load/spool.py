"""All records of a load on disk, so that those of one order come together, however large the files are.

A private, temporary SQLite database: it holds some `CACHE_KIB` in memory, sorts what is larger in temporary
files, and is gone with the process. Memory then holds the records of one order at a time.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from types import MappingProxyType

from tracking.load.faults import UnreadableFile
from tracking.load.records import Kind, Place, Record

CACHE_KIB = 64 * 1024
"""In each of the three steps that sort; some 150,000 records."""

MAX_ORDER_RECORDS = 50_000
"""Of one order: they are in memory together, at about 1 KB each."""

_KINDS: tuple[Kind, ...] = ("plain", "may_exist", "reaches", "inferred")
_NUMBERS = MappingProxyType({kind: number for number, kind in enumerate(_KINDS)})

_TABLE = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, order_key BLOB, file INTEGER, line INTEGER,
    creates INTEGER, kind INTEGER, time REAL, body BLOB
)
"""
# Orders come in the sequence in which the files name them first.
_BY_ORDER = """
SELECT first, order_key, file, line, creates, kind, time, body
FROM (SELECT *, min(seq) OVER (PARTITION BY order_key) AS first FROM records)
ORDER BY first, seq
"""


class Spool:
    """Takes records in, gives them out order by order."""

    def __init__(self, connection: sqlite3.Connection, max_order_records: int = MAX_ORDER_RECORDS) -> None:
        self._connection = connection
        self._max_order_records = max_order_records
        self._names: dict[int, str] = {}
        self.count = 0
        """Records taken in."""

    def add_all(self, records: Iterable[Record]) -> None:
        """Takes in records that have no fault."""
        self._connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(self._row, records)
        )

    def _row(self, record: Record) -> tuple[object, ...]:
        self.count += 1
        place = record.place
        self._names[place.file_number] = place.name
        # An order id may hold half a character (JSON allows it), which SQLite does not take as text.
        key = record.order_key.encode(errors="surrogatepass")
        kind = _NUMBERS[record.kind]
        return self.count, key, place.file_number, place.line, record.creates, kind, record.time, record.body

    def orders(self) -> Iterator[list[Record]]:
        """The records of each order, in the sequence of the files.

        Raises:
            UnreadableFile: an order has more than `MAX_ORDER_RECORDS`.
        """
        with closing(self._connection.execute(_BY_ORDER)) as rows:
            for _, group in groupby(rows, key=lambda row: row[0]):
                records: list[Record] = []
                for row in group:
                    if len(records) == self._max_order_records:
                        raise UnreadableFile(
                            f"{records[0].place}: more than {self._max_order_records:,} rows of one order"
                        )
                    records.append(self._record(row))
                yield records

    def _record(self, row: tuple[int, bytes, int, int, int, int, float | None, bytes]) -> Record:
        _, key, file, line, creates, kind, time, body = row
        order_key = key.decode(errors="surrogatepass")
        place = Place(self._names[file], line, file)
        return Record(place, body, order_key, bool(creates), _KINDS[kind], time)


@contextmanager
def open_spool(max_order_records: int = MAX_ORDER_RECORDS) -> Iterator[Spool]:
    """An empty one, for one load.

    Raises:
        UnreadableFile: there is no room for what is read.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as connection:  # "" = private and temporary
        try:
            for setting in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute(_TABLE)
            yield Spool(connection, max_order_records)
        except sqlite3.Error as error:
            raise UnreadableFile(f"what was read cannot be kept in a temporary file: {error}") from None
