"""Orders as a Parquet file, row group by row group. Only with the extra `parquet`, which brings pyarrow."""

from collections.abc import Sequence

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types

from tracking_query.orders.tables import PARQUET_MEDIA_TYPE, column_names, table_row
from tracking_shared.contracts.documents import OrderDocument

GROUP_BYTES = 4 * 2**20
"""Of orders in memory until they are written as one row group: 3,000 to 10,000 of them, 20 ms of work."""

_TYPES = {
    "version": pa.int64(),
    "active": pa.bool_(),
    "created_at": pa.timestamp("ms", tz="UTC"),
    "updated_at": pa.timestamp("ms", tz="UTC"),
    "due_at": pa.timestamp("ms", tz="UTC"),
    "eta": pa.timestamp("ms", tz="UTC"),
    "overdue": pa.bool_(),
}
"""All others are texts."""

_OPTIONAL = frozenset({"reference", "customer_name", "customer_contact_ref", "due_at", "eta"})
"""Columns that an order may have no value for. A customer that is erased has none."""


class ParquetForm:
    """A table with the columns of the CSV, in types of its own: times as UTC in milliseconds."""

    content_type = PARQUET_MEDIA_TYPE
    extension = "parquet"
    packed = True

    def __init__(self, *, with_customer: bool) -> None:
        names = column_names(with_customer=with_customer)
        self._with_customer = with_customer
        self._schema = pa.schema(
            [pa.field(name, _TYPES.get(name, pa.string()), nullable=name in _OPTIONAL) for name in names]
        )
        self._file = _Outbox()
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="snappy")
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    def start(self) -> bytes:
        """The mark of the format."""
        return self._file.take()

    def chunk(self, orders: Sequence[OrderDocument]) -> bytes:
        """The row group that these orders complete, or nothing yet."""
        batch = self._batch(orders)
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= GROUP_BYTES:
            self._write_group()
        return self._file.take()

    def end(self) -> bytes:
        """The last row group, and the table of contents."""
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._file.take()

    def _batch(self, orders: Sequence[OrderDocument]) -> pa.RecordBatch:
        rows = [table_row(order, with_customer=self._with_customer) for order in orders]
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._waiting)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._waiting, self._waiting_bytes = [], 0


class _Outbox:
    """A file for the writer; what it holds is taken away between the writes."""

    closed = False

    def __init__(self) -> None:
        self._content = bytearray()

    def write(self, content: bytes) -> int:
        self._content += content
        return len(content)

    def flush(self) -> None:
        pass  # nothing is kept back

    def close(self) -> None:
        pass  # what is left is still to be taken

    def take(self) -> bytes:
        """The bytes written since the last call."""
        content = bytes(self._content)
        self._content.clear()
        return content
