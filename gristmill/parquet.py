"""Rows into a Parquet file as they come, without holding the table.

Not covered: the parts that engines write (`stored.py`).
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__
from gristmill.errors import UsageError
from gristmill.files import batch_of

MARK = b"gristmill"
"""The key in a Parquet file's metadata that says we wrote it."""

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


def marked(schema: pa.Schema) -> pa.Schema:
    """The schema of a file of ours."""
    return schema.with_metadata({MARK: orjson.dumps({"version": __version__})})


def check_replaceable(out: Path, verb: str, *, force: bool = False) -> None:
    """Raise UsageError if `verb` may not write `out`: it is no Parquet file, or not one of ours (unless `force`)."""
    if out.suffix != ".parquet" or "://" in str(out):
        raise UsageError(f"-o {out}: {verb} writes a local .parquet file; name one")
    if out.is_dir():
        raise UsageError(f"-o {out} is a directory; name a .parquet file")
    if out.exists() and not force and not _is_ours(out):
        raise UsageError(f"-o {out}: a file that gristmill did not write; name another, or add --force")


def _is_ours(out: Path) -> bool:
    try:
        return MARK in (pq.read_schema(out).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False
