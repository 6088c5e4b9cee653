"""The rows of a source where they lie, and what is held of each: its place, its key, its size and its cell.

Parquet that Gristmill wrote is read where it is; everything else is read once into the run as the step `read`, so that
`gristmill why` finds it. Rows that a filter dropped, and bad rows, do not count. Of each row the driver holds about 40
bytes; texts stay on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import daft
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gristmill import progress
from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, Table, check_bad, scan
from gristmill.filter.row_keys import Hashes, Ints, halves, numbered
from gristmill.formats import expand
from gristmill.generate.direct import has_reasoning
from gristmill.mix.mix_file import MixFile, Source
from gristmill.records import CARRIED, SCHEMAS, Kind, kind_of
from gristmill.run import Run
from gristmill.shapes import Answer

GROUP_BYTES = 64 << 20
"""A row group that takes more is not read where it is: the groups under way are held whole."""

STRATA = 1_000
"""Values a column may have as strata."""

TEXTS = ("prompt", "tools", "response", "reasoning", "chosen", "rejected")
"""The columns whose characters are a row's size in tokens."""


class Rows(NamedTuple):
    """The rows of a source in input order.

    `place` is the row's number over all of `files`, `high` and `low` the halves of its id, `size` 1 or its characters,
    `cell` the number of its stratum (and whether it has reasoning) in `cells`.
    """

    source: Source
    kind: Kind
    files: list[str]
    carried: list[str]
    """Columns beside those of the kind: scores, measures, slots, flags."""
    place: Ints
    high: Hashes
    low: Hashes
    copy: npt.NDArray[np.int64]
    size: Ints
    cell: npt.NDArray[np.int32]
    cells: list[tuple[str, bool]]
    """The stratum of each cell, and whether its rows have reasoning."""
    bad: int

    def __len__(self) -> int:
        return len(self.place)


def read(paths: Sequence[str], *, columns: Mapping[str, str], answer: Answer) -> Table:
    """Every row of the files, bad ones too, in `_order`."""
    return scan(paths, columns=columns, answer=answer)


def open_source(source: Source, mix: MixFile, run: Run, *, max_bad: float = 0.01) -> Rows:
    """Read what is needed of a source's rows; raises UsageError, and BadInput for too many bad rows."""
    files = expand(source.files)
    ours = not source.map and all(map(_is_direct, files))
    if not ours:
        with daft.execution_config_ctx(parquet_target_row_group_size=GROUP_BYTES // 8):
            table = run.step(read, files, columns=dict(source.map), answer=mix.answer)
        files = run.files(table)
    names = pq.read_schema(files[0]).names
    kind = kind_of(names)
    facts = _facts(files, source, mix, numbered_here=not ours)
    bad = facts.bad
    check_bad(len(bad), len(facts.place) + len(bad), max_bad, first=bad[0] if bad else None)
    everywhere = {name for file in files for name in pq.read_schema(file).names}
    carried = sorted(name for name in everywhere if name.startswith(tuple(CARRIED)) and name != ORDER)
    return Rows(source, kind, files, carried, *facts[:-1], len(bad))


class _Facts(NamedTuple):
    place: Ints
    high: Hashes
    low: Hashes
    copy: npt.NDArray[np.int64]
    size: Ints
    cell: npt.NDArray[np.int32]
    cells: list[tuple[str, bool]]
    bad: list[dict[str, Any]]


def _is_direct(file: str) -> bool:
    """Whether a file is a table of ours with groups small enough to be read where it is."""
    if not file.endswith(".parquet") or "://" in file:
        return False
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid):
        return False
    names = set(metadata.schema.to_arrow_schema().names)
    if not {"id", "copy", "prompt", "source_file"} <= names or not set(SCHEMAS[kind_of(names)].names) <= names:
        return False
    groups = (metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    return max(groups, default=0) <= GROUP_BYTES


def _facts(files: Sequence[str], source: Source, mix: MixFile, *, numbered_here: bool) -> _Facts:
    """What is held of each good row, in input order; `numbered_here`: rows come with their order and without copies."""
    texts, strata = list(TEXTS) if mix.by == "tokens" else [], _Strata(source)
    wanted = {"id", "copy", "drop_rule", "source_file", "source_row", ORDER, BAD, *texts, *strata.columns(files)}
    if mix.reasoning is not None:
        wanted |= {"response", "reasoning"}
    parts: dict[str, list[Any]] = {name: [] for name in ("place", "high", "low", "copy", "size", "cell", "order")}
    bad: list[dict[str, Any]] = []
    begin = 0
    for file in files:
        with pq.ParquetFile(file) as opened:
            names = [name for name in opened.schema_arrow.names if name in wanted]
            for batch in opened.iter_batches(65_536, columns=names):
                good = np.ones(len(batch), bool)
                if "drop_rule" in names:
                    good &= batch["drop_rule"].is_null().to_numpy(zero_copy_only=False)
                if BAD in names:
                    well = batch[BAD].is_null().to_numpy(zero_copy_only=False)
                    bad += batch.filter(pa.array(~well)).select(["source_file", "source_row", BAD]).to_pylist()
                    good &= well
                rows = pa.Table.from_batches([batch]).filter(pa.array(good)).combine_chunks()
                parts["place"].append(begin + np.flatnonzero(good))
                begin += len(batch)
                high, low = halves(rows["id"])
                parts["high"].append(high)
                parts["low"].append(low)
                parts["copy"].append(rows["copy"].to_numpy() if "copy" in names else np.zeros(len(rows), np.int64))
                parts["size"].append(_characters(rows, texts) if texts else np.ones(len(rows), np.int64))
                parts["cell"].append(strata.of(rows, reasoned=mix.reasoning is not None))
                parts["order"].append(rows[ORDER].to_numpy() if ORDER in names else parts["place"][-1])
                progress.advance(len(batch))
    found = {
        name: np.concatenate([*values, np.zeros(0, np.int64)][: max(len(values), 1)]) for name, values in parts.items()
    }
    order = found.pop("order")
    if len(order) and (np.diff(order) < 0).any():
        found = {name: values[np.argsort(order, kind="stable")] for name, values in found.items()}
    if numbered_here:
        found["copy"] = numbered(found["high"].astype(np.uint64), found["low"].astype(np.uint64)).copy.astype(np.int64)
    return _Facts(
        found["place"].astype(np.int64),
        found["high"].astype(np.uint64),
        found["low"].astype(np.uint64),
        found["copy"].astype(np.int64),
        found["size"].astype(np.int64),
        found["cell"].astype(np.int32),
        strata.cells(),
        bad,
    )


def _characters(rows: pa.Table, columns: Sequence[str]) -> Ints:
    """The characters of the texts of each row."""
    total = np.zeros(len(rows), np.int64)
    for name in columns:
        if name not in rows.column_names:
            continue
        column = rows[name].combine_chunks()
        if name == "prompt":
            offsets = np.asarray(column.offsets).astype(np.int64)
            turns = pc.fill_null(pc.utf8_length(column.values.field("content")), 0).to_numpy(zero_copy_only=False)
            sums = np.concatenate([[0], np.cumsum(turns, dtype=np.int64)])
            total += sums[offsets[1:]] - sums[offsets[:-1]]
        else:
            total += pc.fill_null(pc.utf8_length(column), 0).to_numpy(zero_copy_only=False)
    return total


class _Strata:
    """The cells of a source: numbered as they are met, named as text."""

    def __init__(self, source: Source):
        self.source, self.column = source, source.strata
        self._numbers: dict[tuple[str, bool], int] = {}

    def columns(self, files: Sequence[str]) -> set[str]:
        """What must be read to know a row's stratum."""
        if self.column is None:
            return set()
        names = pq.read_schema(files[0]).names
        return {self.column if self.column in names else "meta"}

    def of(self, rows: pa.Table, *, reasoned: bool) -> npt.NDArray[np.int32]:
        """The cell of each row."""
        if self.column is None and not reasoned:
            self._numbers.setdefault(("", False), 0)
            return np.zeros(len(rows), np.int32)
        values = list(self._values(rows)) if self.column is not None else [""] * len(rows)
        reasons = [False] * len(rows)
        if reasoned:
            texts = rows.select([name for name in ("response", "reasoning") if name in rows.column_names])
            reasons = [has_reasoning(row) for row in texts.to_pylist()]
        pairs = zip(values, reasons, strict=True)
        cells = [self._numbers.setdefault(pair, len(self._numbers)) for pair in pairs]
        if len(self._numbers) > 2 * STRATA:
            raise UsageError(f"source {self.source.name}: strata: {self.column} has over {STRATA:,} values")
        return np.array(cells, np.int32)

    def _values(self, rows: pa.Table) -> Iterator[str]:
        there = self.column in rows.column_names
        for value in rows[self.column if there else "meta"].to_pylist():
            found = value if there else _member(value, str(self.column))
            yield "" if found is None else ",".join(map(str, found)) if isinstance(found, list) else str(found)

    def cells(self) -> list[tuple[str, bool]]:
        """The cells met, by number; raises UsageError for a column that no row has."""
        if self.column is not None and {name for name, _ in self._numbers} == {""}:
            raise UsageError(
                f"source {self.source.name}: strata: no row has {self.column}; name a column or a key of meta"
            )
        return list(self._numbers)


def _member(meta: str | None, key: str) -> Any:
    found: Mapping[str, Any] = orjson.loads(meta) if meta else {}
    return found.get(key)


def places_of(files: Sequence[str]) -> list[tuple[str, int, int]]:
    """Every row group in order: its file, its number there, and the place of its first row."""
    found, begin = [], 0
    for file in files:
        metadata = pq.read_metadata(Path(file))
        for group in range(metadata.num_row_groups):
            found.append((file, group, begin))
            begin += metadata.row_group(group).num_rows
    return found
