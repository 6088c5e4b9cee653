"""Rows into a Parquet file as they come, without holding the table.

Not covered: the parts that engines write (`stored.py`).
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.files import batch_of

GROUP_ROWS = 5_000
"""Rows of a row group."""


class Writer:
    """A Parquet file that is compressed and written on a thread, one table at a time."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.file = pq.ParquetWriter(path, schema, compression="zstd")
        self.thread, self.last = ThreadPoolExecutor(1), Future[None]()
        self.last.set_result(None)

    def write(self, table: pa.Table) -> None:
        """Write a table when the one before it is written; raises what that met."""
        self.last.result()
        self.last = self.thread.submit(self.file.write_table, table)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.shutdown()
        self.file.close()
        if error == (None, None, None):
            self.last.result()


class RowWriter:
    """A Parquet file of rows given one by one, as dicts; columns they lack are null."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.schema, self.rows = schema, 0
        self._writer = Writer(path, schema)
        self._group: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Take a row."""
        self._group.append(row)
        self.rows += 1
        if len(self._group) == GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        group, self._group = self._group, []
        self._writer.write(pa.Table.from_batches([batch_of(group, self.schema)]))

    def __enter__(self) -> "RowWriter":
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error == (None, None, None) and (self._group or not self.rows):
            self._flush()
        self._writer.__exit__(*error)
