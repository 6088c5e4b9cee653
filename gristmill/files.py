"""Every file format in: paths, globs, directories and URLs to a table, with what cannot be read set aside.

JSON, JSONL, Parquet, CSV and plain text (one prompt a line), each also `.gz` or `.zst`, on any fsspec URL, are read as
a stream: memory holds a block of a file, never the file. A row that cannot be used becomes a *bad row*: its file, its
0-based number in the file (for JSONL and text the physical line, counting every line) and the reason. Its neighbours
survive. What breaks a whole file (a truncated gzip or Parquet) is one bad row, after the rows that came before it.

Not covered: other people's column names (`shapes.py`); compressed Parquet and JSON that holds one object over many
lines are read whole, because their formats ask for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import daft
import pyarrow as pa
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

from gristmill import progress
from gristmill.errors import BadInput, BadRow, UsageError
from gristmill.formats import Bad, Numbered, check_opens, expand, file_size, place_of, raw_records
from gristmill.records import CARRIED, MESSAGES, SCHEMAS, Kind, row_id
from gristmill.runner import plain_errors
from gristmill.shapes import READ_NAMES, Answer, kind_of_record, row_of

Table = daft.DataFrame

BATCH_ROWS = 8_192
BATCH_BYTES = 16 << 20
PEEKED = 1_000
"""Records of each file that decide the kind of row and the carried columns of a table."""

ORDER = "_order"
"""Internal column of a scanned table: file number << 40 | row number, the order of the input."""
BAD = "_bad"
"""Internal column of a scanned table: why a row cannot be used, null for a good row."""


def read(
    paths: str | Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    answer: Answer = "response",
    scores: Iterable[str] = (),
    max_bad: float = 0.01,
    limit: int | None = None,
) -> Table:
    """Read files of any known shape into a table held in memory.

    `columns` maps our column names to theirs (`{"response": "solution"}`; `"Body+Question"` joins two with a newline).
    `scores` names numeric columns to carry as `score_<name>`. At most `max_bad` (a share of the rows, but at least 5
    rows unless it is 0) may be bad, else BadInput; fewer are left out, and the log has a warning of how many and the
    first. Rows dropped by an earlier filter are left out.
    """
    table = scan(paths, columns=columns, answer=answer, scores=scores, limit=limit)
    with plain_errors():
        scanned = table.collect()
    bad = scanned.where(~daft.col(BAD).is_null()).sort(ORDER).select("source_file", "source_row", BAD).to_pylist()
    warn_of_bad(bad, len(scanned), max_bad)
    good = scanned.where(daft.col(BAD).is_null())
    return with_copies(good).sort(ORDER).exclude(ORDER, BAD).collect()


def check_bad(
    bad: int, rows: int, max_bad: float, *, first: Mapping[str, Any] | None, flag: str = "--max-bad "
) -> None:
    """Raise BadInput if more rows are bad than `max_bad` allows, or if no row is usable. `rows` counts the bad too;
    `flag` is what sets the limit, if anything does."""
    allowed = max(max_bad * rows, 5 if max_bad else 0)
    where = f"{first['source_file']}:{first['source_row']}: {first[BAD]}" if first else ""
    if bad > allowed:
        raise BadInput(
            f"{bad} of {rows} rows cannot be read, {allowed:.0f} are allowed ({flag}{max_bad:g}); first: {where}"
        )
    if rows == bad:
        raise BadInput(f"no usable row{'; first problem: ' + where if where else ': every file is empty'}")


def warn_of_bad(
    bad: Sequence[Mapping[str, Any]], rows: int, max_bad: float = 0.01, *, flag: str = "--max-bad "
) -> None:
    """Tell the log of bad rows that are left out; raises what `check_bad` does."""
    check_bad(len(bad), rows, max_bad, first=bad[0] if bad else None, flag=flag)
    if bad:
        where = f"{bad[0]['source_file']}:{bad[0]['source_row']}: {bad[0][BAD]}"
        logging.getLogger("gristmill").warning("%d bad rows left out; first: %s", len(bad), where)


def with_copies(table: Table) -> Table:
    """Number the rows of equal id in input order: adds `copy`."""
    key = table.select("id", ORDER).collect()
    again = key.groupby("id").agg(daft.col(ORDER).count().alias("n")).where("n > 1").select("id")
    rows = key.join(again, on="id").sort(["id", ORDER]).to_arrow()
    ids = rows["id"].to_pylist()
    copies, number = [], 0
    for position, row in enumerate(ids):
        number = number + 1 if position and ids[position - 1] == row else 0
        copies.append(number)
    if not copies:
        return table.with_column("copy", daft.lit(0).cast(daft.DataType.int64()))
    counted = daft.from_arrow(pa.table({ORDER: rows[ORDER], "copy": pa.array(copies, pa.int64())}))
    return table.exclude("copy").join(counted, on=ORDER, how="left").with_column("copy", daft.col("copy").fill_null(0))


def scan(
    paths: str | Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    answer: Answer = "response",
    scores: Iterable[str] = (),
    limit: int | None = None,
) -> Table:
    """A lazy table of every row of the files, the bad ones included (`_bad`), in `_order`, without `copy`.

    The kind of row is judged by the first records of every file; files of different kinds are refused, except that
    prompts among samples are samples without an answer. Raises BadInput or UsageError at once for a path that does
    not exist, a format or a column mapping nobody knows.
    """
    renames = _renames(columns or {}, scores)
    source = _Source(expand([paths] if isinstance(paths, str) else paths), renames, answer, limit)
    return source.read()


def batches(
    paths: str | Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    answer: Answer = "response",
    limit: int | None = None,
) -> tuple[Kind, pa.Schema, Iterator[pa.RecordBatch]]:
    """What `scan` reads, without an engine and in the order of the input: the kind of row, the schema, the batches.

    For steps that are driven by one process (model calls, scores). Raises what `scan` raises.
    """
    source = _Source(expand([paths] if isinstance(paths, str) else paths), _renames(columns or {}, ()), answer, limit)
    return source.kind, source.arrow_schema, _Files(source, source.paths, 0)._batches()


class _Source(DataSource):
    """The files as a Daft source, one task a file.

    Rows name a file as it was given; it is read from its place, which is the same in every working directory.
    """

    def __init__(self, paths: Sequence[str], renames: Mapping[str, list[str]], answer: Answer, limit: int | None):
        self.paths, self.renames, self.answer, self.limit = paths, renames, answer, limit
        self.places = dict(zip(paths, map(place_of, paths), strict=True))
        self.kind, carried = _peek(paths, renames)
        self.arrow_schema = _schema(self.kind, carried)

    @property
    def name(self) -> str:
        return "gristmill files"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.arrow_schema)

    async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:  # noqa: ARG002 (Daft prunes above us)
        # A limit counts over all files, so it makes one task of them; on one machine so does the order, which the
        # engine keeps within a task but for neighbours (parsing is Python, so two tasks would take turns anyway).
        here = daft.get_or_create_runner().name == "native"
        groups = [self.paths] if here or self.limit is not None else [[path] for path in self.paths]
        first = 0
        for group in groups:
            yield _Files(self, group, first)
            first += len(group)


class _Files(DataSourceTask):
    def __init__(self, source: _Source, paths: Sequence[str], first: int):
        self.source, self.paths, self.first = source, paths, first

    @property
    def schema(self) -> daft.Schema:
        return self.source.schema

    async def read(self) -> AsyncIterator[RecordBatch]:
        batches = self._batches()
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(None, next, batches, None)
        while (batch := await ahead) is not None:
            ahead = loop.run_in_executor(None, next, batches, None)  # parsed while Daft works on the one before
            yield RecordBatch.from_arrow_table(pa.Table.from_batches([batch]))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        source, left, read = self.source, self.source.limit, 0
        progress.expect(all_bytes=sum(map(file_size, self.paths)) if left is None else 0)
        for number, path in enumerate(self.paths, self.first):
            check_opens(source.places[path])
            records = raw_records(source.places[path])
            if left is not None:
                records = islice(records, left)
            for batch in _row_batches(records, path, number, source):
                left = None if left is None else left - batch.num_rows
                read += batch.num_rows
                progress.advance(batch.num_rows, at="read")
                yield batch
        progress.expect(read)


def _row_batches(records: Iterator[Numbered], path: str, number: int, source: _Source) -> Iterator[pa.RecordBatch]:
    """Rows of one file as batches of the source's schema."""
    kind, schema = source.kind, source.arrow_schema
    extra = frozenset(schema.names) - set(SCHEMAS[kind].names) - {ORDER, BAD}
    rows: list[dict[str, Any]] = []
    size = 0
    for row_number, record, weight in records:
        row: dict[str, Any] = {"source_file": path, "source_row": row_number, ORDER: number << 40 | row_number}
        if isinstance(record, Bad):
            row[BAD] = record.reason
        elif record.get("drop_rule") is not None:
            continue
        else:
            try:
                row |= row_of(_renamed(record, source.renames), kind, answer=source.answer, extra=extra)
                row["id"] = row_id(kind, row)
            except BadRow as error:
                row[BAD] = str(error)
        rows.append(row)
        size += weight
        if len(rows) == BATCH_ROWS or size > BATCH_BYTES:
            yield batch_of(rows, schema)
            rows, size = [], 0
    if rows:
        yield batch_of(rows, schema)


def batch_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as one Arrow batch; columns they lack are null."""
    filled = {name for row in rows for name in row}
    arrays = []
    for field in schema:
        if field.name not in filled:
            arrays.append(pa.nulls(len(rows), field.type))
            continue
        values = [row.get(field.name) for row in rows]
        arrays.append(_messages(values) if field.type == MESSAGES else pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _messages(prompts: list[list[dict[str, Any]] | None]) -> pa.Array:
    """Prompts as an Arrow list of messages; by columns, which is three times as fast as by rows."""
    turns = [turn for prompt in prompts for turn in prompt or ()]
    fields = [pa.array([turn[name] for turn in turns], pa.large_string()) for name in ("role", "content", "extra")]
    offsets, end = [], 0
    for prompt in prompts:
        offsets.append(None if prompt is None else end)
        end += len(prompt or ())
    struct = pa.StructArray.from_arrays(fields, names=["role", "content", "extra"])
    return pa.LargeListArray.from_arrays(pa.array([*offsets, end], pa.int64()), struct).cast(MESSAGES)


def _schema(kind: Kind, carried: Iterable[str]) -> pa.Schema:
    fields = [field for field in SCHEMAS[kind] if field.name != "copy"]
    more = [pa.field(name, next(t for prefix, t in CARRIED.items() if name.startswith(prefix))) for name in carried]
    return pa.schema([*fields, *more, pa.field(ORDER, pa.int64()), pa.field(BAD, pa.large_string())])


def _peek(paths: Sequence[str], renames: Mapping[str, list[str]]) -> tuple[Kind, list[str]]:
    """The kind of row the files hold and the columns they carry beside it."""
    kinds: dict[Kind, str] = {}
    everywhere: set[str] = set()
    for path in paths:
        known: set[str] = set()
        for _, record, _ in islice(raw_records(path), PEEKED):
            if isinstance(record, Mapping):
                known |= record.keys()
                kinds.setdefault(kind_of_record(_renamed(record, renames)), path)
        everywhere |= known
        _check_columns(path, known, renames)
    for ours, (theirs, *_) in renames.items():
        if ours.startswith("score_") and everywhere and not {ours, theirs} & everywhere:
            names = ", ".join(sorted(everywhere))
            raise UsageError(f"score {theirs!r}: no file has a column {theirs!r} or {ours!r}; the columns are {names}")
    prefixes = tuple(CARRIED)
    carried = sorted({name for name in everywhere | renames.keys() if name.startswith(prefixes)})
    if not kinds:
        return "sample", carried
    if kinds.keys() <= {"prompt", "sample"}:
        return "sample" if "sample" in kinds else "prompt", carried
    if len(kinds) > 1:
        (one, here), (other, there) = list(kinds.items())[:2]
        raise UsageError(f"{here} holds {one} rows and {there} {other} rows; filter the two kinds apart")
    return next(iter(kinds)), carried


def _check_columns(path: str, known: set[str], renames: Mapping[str, list[str]]) -> None:
    """Raise UsageError where a mapped column is not in a file; a score may be missing from some of the files."""
    for ours, theirs in renames.items():
        missing = [name for name in theirs if name not in known]
        if known and missing and not ours.startswith("score_"):
            flag = f"--map {ours}={'+'.join(theirs)}"
            raise UsageError(f"{flag}: {path} has no column {missing[0]!r}; it has {', '.join(sorted(known))}")


def _renames(columns: Mapping[str, str], scores: Iterable[str]) -> dict[str, list[str]]:
    """Our column names and the columns of theirs that make them; raises UsageError for a name that is not ours."""
    allowed = {name for schema in SCHEMAS.values() for name in schema.names} | READ_NAMES
    for ours in columns:
        if ours not in allowed and not ours.startswith(tuple(CARRIED)):
            raise UsageError(f"--map {ours}={columns[ours]}: no column of ours; allowed: {', '.join(sorted(allowed))}")
    renames = {ours: [name.strip() for name in theirs.split("+")] for ours, theirs in columns.items()}
    for score in scores:
        renames.setdefault(f"score_{score}", [score])
    return renames


def _renamed(record: Mapping[str, Any], renames: Mapping[str, list[str]]) -> Mapping[str, Any]:
    if not renames:
        return record
    result = dict(record)
    for ours, theirs in renames.items():
        if len(theirs) > 1:
            parts = [result.pop(name, None) for name in theirs]
            result[ours] = "\n".join(str(part) for part in parts if part is not None)
        elif theirs[0] in result and theirs[0] != ours:
            result[ours] = result.pop(theirs[0])
    return result
