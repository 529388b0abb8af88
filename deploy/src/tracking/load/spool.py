"""Groups all records of a load by order, on disk, for files of any size.

The records are in a private, temporary SQLite database, which keeps up to `CACHE_KIB` in memory and ends with
the process. Only the records of one order are in memory at once.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from types import MappingProxyType

from tracking.load.records import Kind, Location, Record, UnreadableFile

CACHE_KIB = 64 * 1024
"""For each of the three sorts; about 150,000 records."""

MAX_ORDER_RECORDS = 50_000
"""The records of one order are in memory together, at about 1 KB each."""

_KINDS: tuple[Kind, ...] = ("plain", "may_exist", "current_status", "inferred")
_NUMBERS = MappingProxyType({kind: number for number, kind in enumerate(_KINDS)})

_TABLE = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, order_key BLOB, file INTEGER, line INTEGER,
    creates INTEGER, kind INTEGER, time REAL, body BLOB
)
"""
# Orders are sorted by their first record in the files.
_BY_ORDER = """
SELECT first, order_key, file, line, creates, kind, time, body
FROM (SELECT *, min(seq) OVER (PARTITION BY order_key) AS first FROM records)
ORDER BY first, seq
"""


class Spool:
    """Stores records and returns them order by order."""

    def __init__(self, connection: sqlite3.Connection, max_order_records: int = MAX_ORDER_RECORDS) -> None:
        self._connection = connection
        self._max_order_records = max_order_records
        self._names: dict[int, str] = {}
        self.count = 0
        """The number of stored records."""

    def add_all(self, records: Iterable[Record]) -> None:
        """Stores records without a fault."""
        self._connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(self._row, records)
        )

    def _row(self, record: Record) -> tuple[object, ...]:
        self.count += 1
        location = record.location
        self._names[location.file_number] = location.name
        # JSON allows lone surrogates in an order id, which SQLite does not accept as text.
        key = record.order_key.encode(errors="surrogatepass")
        kind = _NUMBERS[record.kind]
        file, line = location.file_number, location.line
        return self.count, key, file, line, record.creates, kind, record.time, record.body

    def orders(self) -> Iterator[list[Record]]:
        """The records of each order, in file order.

        Raises:
            UnreadableFile: an order has more than `MAX_ORDER_RECORDS`.
        """
        with closing(self._connection.execute(_BY_ORDER)) as rows:
            for _, group in groupby(rows, key=lambda row: row[0]):
                records: list[Record] = []
                for row in group:
                    if len(records) == self._max_order_records:
                        raise UnreadableFile(
                            f"{records[0].location}: more than {self._max_order_records:,} rows of one order"
                        )
                    records.append(self._record(row))
                yield records

    def _record(self, row: tuple[int, bytes, int, int, int, int, float | None, bytes]) -> Record:
        _, key, file, line, creates, kind, time, body = row
        order_key = key.decode(errors="surrogatepass")
        location = Location(self._names[file], line, file)
        return Record(location, body, order_key, bool(creates), _KINDS[kind], time)


@contextmanager
def open_spool(max_order_records: int = MAX_ORDER_RECORDS) -> Iterator[Spool]:
    """Opens an empty spool for one load.

    Raises:
        UnreadableFile: the disk is full.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as connection:  # "" = private and temporary
        try:
            for setting in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute(_TABLE)
            yield Spool(connection, max_order_records)
        except sqlite3.Error as error:
            raise UnreadableFile(f"what was read cannot be kept in a temporary file: {error}") from None
