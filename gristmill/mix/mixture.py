"""The mix as a table: rows of all sources, interleaved so that every stretch of it has the shares of the whole.

The mix is a sequence of chunks. Into each goes the same part of what every source gives (to a row), in input order, and
within a chunk rows are shuffled by their ranks. So a chunk can be made by itself, wherever that is, and memory holds
some row groups of each source. It is a source of Daft's, one task on one machine and one a span of chunks on a cluster;
rows carry their number, and `ordered` gives them back in order, whatever the engine did.

Not covered: a shuffle of the whole. Rows of a source that is sorted enter the mix in that order, chunk by chunk;
trainers shuffle again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import daft
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

from gristmill import progress
from gristmill.files import ORDER
from gristmill.filter.row_keys import Ints, halves
from gristmill.lineage import AGAIN
from gristmill.mix.draw import Drawn, ranks
from gristmill.mix.mix_file import MixFile
from gristmill.mix.source import Rows, places_of
from gristmill.records import CARRIED, SCHEMAS
from gristmill.runner import BATCH_ROWS

SPAN = 16
"""Chunks of a task on a cluster."""

GROUPS_HELD = 3
"""Row groups of a source that are held: rows come nearly in the order of the file."""


class Part(NamedTuple):
    """What a source gives, in order: the places of its rows in `groups`, and the copies they become."""

    name: str
    groups: list[tuple[str, int, int]]
    place: Ints
    copies: npt.NDArray[np.int64]


def parts_of(sources: Sequence[Rows], drawn: Mapping[str, Drawn]) -> list[Part]:
    """The sources as parts of a mix."""
    found = []
    for rows in sources:
        each = drawn[rows.source.name]
        found.append(Part(rows.source.name, places_of(rows.files), rows.place[each.rows], each.copies))
    return found


def schema_of(sources: Sequence[Rows]) -> pa.Schema:
    """The columns of the mix: those of its kind of row, and whatever any source carries."""
    kinds = {rows.kind for rows in sources}
    kind = sources[0].kind if len(kinds) == 1 else "sample"
    carried = sorted({name for rows in sources for name in rows.carried})
    fields = [pa.field(name, next(t for prefix, t in CARRIED.items() if name.startswith(prefix))) for name in carried]
    return pa.schema([*SCHEMAS[kind], *fields])


def mixture(parts: Sequence[Part], schema: pa.Schema, mix: MixFile) -> daft.DataFrame:
    """The mix as a lazy table with `_order`, the number of each row."""
    return _Mixed(parts, schema, mix.seed).read()


def ordered(table: daft.DataFrame) -> Iterator[pa.Table]:
    """The rows of a mixture in order, without `_order`; what the engine gives early is held."""
    held: dict[int, pa.Table] = {}
    expected = 0
    for batch in table.to_arrow_iter():
        if batch.num_rows:
            held[batch[ORDER][0].as_py()] = pa.Table.from_batches([batch])
        while (next_ := held.pop(expected, None)) is not None:
            expected += len(next_)
            yield next_.drop_columns([ORDER])
    assert not held, "a row of the mixture is missing"


class _Mixed(DataSource):
    def __init__(self, parts: Sequence[Part], schema: pa.Schema, seed: int):
        self.parts, self.arrow_schema, self.seed = parts, schema, seed
        self.rows = sum(len(part.place) for part in parts)
        self.chunks = max(-(-self.rows // BATCH_ROWS), 1)

    @property
    def name(self) -> str:
        return "gristmill mixture"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.arrow_schema.append(pa.field(ORDER, pa.int64())))

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:  # noqa: ARG002 (every column is wanted)
        here = daft.get_or_create_runner().name == "native"
        span = self.chunks if here else SPAN
        for first in range(0, self.chunks, span):
            yield self.task(first, min(first + span, self.chunks))

    def task(self, first: int, last: int) -> "_Span":
        """The chunks from `first` to before `last`, with what is needed to make them."""
        pieces, before = [], 0
        for part in self.parts:
            cuts = [len(part.place) * chunk // self.chunks for chunk in range(first, last + 1)]
            begin, end = cuts[0], cuts[-1]
            before += begin
            slices = (part.place[begin:end], part.copies[begin:end])
            pieces.append((Part(part.name, _needed(part.groups, slices[0]), *slices), [cut - begin for cut in cuts]))
        return _Span(pieces, self.arrow_schema, self.seed, before)


def _needed(groups: list[tuple[str, int, int]], places: Ints) -> list[tuple[str, int, int]]:
    """The row groups that hold places."""
    if not len(places):
        return []
    begins = np.array([begin for _, _, begin in groups])
    return [groups[n] for n in np.unique(np.searchsorted(begins, places, side="right") - 1).tolist()]


class _Span(DataSourceTask):
    """Some chunks in a row; `pieces` are what each source gives, and where its chunks begin in that."""

    def __init__(self, pieces: list[tuple[Part, list[int]]], schema: pa.Schema, seed: int, first: int):
        self.pieces, self.arrow_schema, self.seed, self.first = pieces, schema, seed, first

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.arrow_schema.append(pa.field(ORDER, pa.int64())))

    async def read(self) -> AsyncIterator[RecordBatch]:
        chunks = self.chunks()
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(None, next, chunks, None)
        while (chunk := await ahead) is not None:
            ahead = loop.run_in_executor(None, next, chunks, None)
            yield RecordBatch.from_arrow_table(chunk)

    def chunks(self) -> Iterator[pa.Table]:
        """Each chunk with `_order`."""
        readers = [_Reader(part.groups, self.arrow_schema) for part, _ in self.pieces]
        done = self.first
        for number in range(len(self.pieces[0][1]) - 1):
            tables = []
            for (part, cuts), reader in zip(self.pieces, readers, strict=True):
                begin, end = cuts[number], cuts[number + 1]
                if begin < end:
                    rows = reader.take(part.place[begin:end])
                    tables.append(_lineage(rows, part.name, part.copies[begin:end]))
            if not tables:
                continue
            chunk = pa.concat_tables(tables)
            order = np.argsort(ranks(*halves(chunk["id"]), chunk["copy"].to_numpy(), self.seed, "order"), kind="stable")
            chunk = chunk.take(pa.array(order)).combine_chunks()
            yield chunk.append_column(ORDER, pa.array(np.arange(done, done + len(chunk))))
            done += len(chunk)
            progress.advance(len(chunk))


class _Reader:
    """Rows of a source by place; it holds the row groups it read last."""

    def __init__(self, groups: list[tuple[str, int, int]], schema: pa.Schema):
        self.groups, self.schema = groups, schema
        self.begins = np.array([begin for _, _, begin in groups])
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._file: tuple[str, pq.ParquetFile] | None = None

    def take(self, places: Ints) -> pa.Table:
        """The rows at these places, in their order."""
        of = np.searchsorted(self.begins, places, side="right") - 1
        tables, positions = [], []
        for number in np.unique(of).tolist():
            here = np.flatnonzero(of == number)
            tables.append(self._group(number).take(pa.array(places[here] - self.begins[number])))
            positions.append(here)
        table = pa.concat_tables(tables)
        if len(tables) == 1:
            return table
        back = np.argsort(np.concatenate(positions), kind="stable")
        return table if (np.diff(back) == 1).all() else table.take(pa.array(back))

    def _group(self, number: int) -> pa.Table:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        file, group, _ = self.groups[number]
        if self._file is None or self._file[0] != file:
            self._file = (file, pq.ParquetFile(file))
        opened = self._file[1]
        names = [name for name in self.schema.names if name in opened.schema_arrow.names]
        table = _as(opened.read_row_group(group, columns=names), self.schema)
        self._held[number] = table
        while len(self._held) > GROUPS_HELD:
            self._held.popitem(last=False)
        return table


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with exactly these columns; those it lacks are null."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            column = table[field.name]
            columns.append(column if column.type == field.type else column.cast(field.type))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return pa.table(columns, schema=schema).combine_chunks()


def _lineage(rows: pa.Table, source: str, copies: npt.NDArray[np.int64]) -> pa.Table:
    """Rows under their new copies, with the tag `source:NAME` and, where the copy is another, `again:COPY`."""
    before = rows["copy"].fill_null(0).to_numpy()
    tags = rows["tags"].combine_chunks()
    added = pa.array([f"source:{source}"], pa.large_string()).take(pa.array(np.zeros(len(rows), np.int64)))
    tags = _appended(tags, added, np.ones(len(rows), bool))
    again = copies != before
    if again.any():
        old = pa.array(
            [f"{AGAIN}{copy}" if new else "" for copy, new in zip(before.tolist(), again.tolist(), strict=True)]
        )
        tags = _appended(tags, old.cast(pa.large_string()), again)
    rows = rows.set_column(rows.column_names.index("copy"), "copy", pa.array(copies))
    return rows.set_column(rows.column_names.index("tags"), rows.schema.field("tags"), tags)


def _appended(lists: pa.LargeListArray, values: pa.Array, where: npt.NDArray[np.bool_]) -> pa.LargeListArray:
    """Lists of text, each with one more item where `where`; a null is an empty list."""
    lengths = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    flat = lists.flatten()
    new = lengths + where
    offsets = np.concatenate([[0], np.cumsum(new)])
    index = np.zeros(offsets[-1], np.int64)
    last = offsets[1:][where] - 1
    mask = np.ones(offsets[-1], bool)
    mask[last] = False
    index[mask] = np.arange(len(flat))
    index[last] = len(flat) + np.flatnonzero(where)
    items = pa.chunked_array([flat, values]).take(pa.array(index))
    return pa.LargeListArray.from_arrays(pa.array(offsets), items.combine_chunks())
