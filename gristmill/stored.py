"""The result of a step on disk: tables as Parquet, everything else as one `values.json`.

A DataFrame is streamed into a directory of parts, an Arrow table becomes one file; the result of a step that returns
one table lies under the name `rows`, the fields of a named tuple under theirs. What is read back is of the same shape,
so a step gives the same whether it was computed or remembered.

Not covered: the ledger (`ledger.py`) and who may write where (`run.py`).
"""

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any

import daft
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from daft.io.sink import DataSink, WriteResult
from daft.recordbatch import MicroPartition
from daft.schema import Schema

from gristmill.disk import try_writing
from gristmill.errors import UsageError
from gristmill.keys import file_hash
from gristmill.ledger import Stored
from gristmill.runner import SHARED

PARTS_BYTES = 48 << 20
"""Bytes in memory after which a table begins a new part; each core holds one, and one is gathered."""
CLUSTER_PARTS_BYTES = 32 << 20
"""The like in Daft's writer, which counts the bytes as it guesses they will be on disk."""

ALONE = "rows"
"""The field of a result that is one table."""

Shape = dict[str, Any]
"""`fields` (name to `frame`, `arrow` or `json`) and `tuple`, the class of a named tuple or None for one table."""


def write_result(result: Any, directory: Path, name: str) -> Shape:
    """Write what the step `name` returned into `directory`; returns its shape.

    Raises UsageError for what is no DataFrame, Arrow table or named tuple of those and JSON values.
    """
    if isinstance(result, daft.DataFrame | pa.Table):
        fields, kind = {ALONE: result}, None
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        fields, kind = dict(zip(result._fields, result, strict=True)), _class_name(type(result), name)
    else:
        raise UsageError(
            f"{name}: returned a {type(result).__name__}; allowed are a DataFrame, an Arrow table, or a named tuple of "
            "those and JSON values"
        )
    forms, values = {}, {}
    for field, value in fields.items():
        if isinstance(value, daft.DataFrame):
            forms[field] = "frame"
            write_parts(value, directory / field)
        elif isinstance(value, pa.Table):
            forms[field] = "arrow"
            pq.write_table(value, directory / f"{field}.parquet", compression="zstd")
        else:
            forms[field] = "json"
            values[field] = value
    if values:
        try:
            (directory / "values.json").write_bytes(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))
        except orjson.JSONEncodeError as error:
            raise UsageError(f"{name}: a field of its result is neither a table nor JSON ({error})") from error
    return {"tuple": kind, "fields": forms}


def write_parts(table: daft.DataFrame, directory: Path) -> None:
    """Stream a table into `directory` as `part-00000.parquet` and so on, at least one, in the order it comes.

    Raises UsageError for a part that a machine of a cluster wrote where this one does not see it.
    """
    directory.mkdir(parents=True)
    here = daft.get_or_create_runner().name == "native"
    try:
        written = _write_here(table, directory) if here else _write_there(table, directory)
    except Exception:  # whatever class: of a full disk Daft may say no more than "channel closed"
        try_writing(directory)
        raise
    if not written:
        pq.write_table(table.schema().to_pyarrow_schema().empty_table(), _part(directory, 0))


def _write_here(table: daft.DataFrame, directory: Path) -> int:
    """Write the parts on every core; returns how many there are."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        written = table.write_sink(_Parts(directory, pool, cores)).to_pydict()
    return int(written["parts"][0])


class _Parts(DataSink[None]):
    """Gathers what Daft hands over to parts, which threads compress: a pass waits for Daft's own writer, which has one.

    A sink, not `to_arrow_iter`, because Daft waits for a sink that is slower than its reading.
    """

    def __init__(self, directory: Path, pool: ThreadPoolExecutor, most: int):
        self.directory, self.pool, self.most = directory, pool, most
        self.held, self.size, self.number = list[pa.Table](), 0, 0
        self.writing: deque[Future[None]] = deque()

    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(pa.schema([("parts", pa.int64())]))

    def write(self, micropartitions: Iterator[MicroPartition]) -> Iterator[WriteResult[None]]:
        for rows in micropartitions:
            whole = rows.to_arrow()
            for piece in _pieces(whole):
                self.held.append(piece)
                self.size += piece.nbytes
                if self.size >= PARTS_BYTES:
                    self._submit()
            yield WriteResult(None, whole.nbytes, len(rows))

    def finalize(self, write_results: list[WriteResult[None]]) -> MicroPartition:  # noqa: ARG002
        if self.held:
            self._submit()
        while self.writing:
            self.writing.popleft().result()
        return MicroPartition.from_pydict({"parts": [self.number]})

    def _submit(self) -> None:
        """Have what is held written; waits while as many parts are under way as there are threads."""
        if len(self.writing) == self.most:
            self.writing.popleft().result()
        part, path = pa.concat_tables(self.held), _part(self.directory, self.number)
        self.writing.append(self.pool.submit(pq.write_table, part, path, compression="zstd"))
        self.held, self.size, self.number = [], 0, self.number + 1


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """A table in pieces of a part's size at most: a table from memory may come all at once."""
    rows = max(1, ceil(len(table) / max(1, ceil(table.nbytes / PARTS_BYTES))))
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)


def _write_there(table: daft.DataFrame, directory: Path) -> int:
    """Let the machines of a cluster write the parts; returns how many there are."""
    with daft.execution_config_ctx(parquet_target_filesize=CLUSTER_PARTS_BYTES):
        written = table.write_parquet(str(directory), compression="zstd").to_pydict()["path"]
    for number, path in enumerate(written):
        try:
            Path(path.removeprefix("file://")).rename(_part(directory, number))
        except FileNotFoundError:
            raise UsageError(f"{path}: written by another machine and not seen here; {SHARED}") from None
    return len(written)


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05}.parquet"


def read_result(shape: Shape, directory: Path) -> Any:
    """What `write_result` wrote."""
    values = orjson.loads((directory / "values.json").read_bytes()) if "json" in shape["fields"].values() else {}
    found: dict[str, Any] = {}
    for name, form in shape["fields"].items():
        if form == "frame":
            found[name] = daft.read_parquet(frame_files(directory, name))
        elif form == "arrow":
            found[name] = pq.read_table(directory / f"{name}.parquet", partitioning=None)
        else:
            found[name] = values[name]
    return _class(shape["tuple"])(**found) if shape["tuple"] else found[ALONE]


def frame_files(directory: Path, name: str) -> list[str]:
    """The parts of a stored DataFrame, in order."""
    return sorted(str(path) for path in (directory / name).glob("*.parquet"))


def measure(directory: Path) -> tuple[list[Stored], int]:
    """Every file below a directory, by path, with its bytes and hash; and the rows of the Parquet files among them."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    stored = [(path.relative_to(directory).as_posix(), path.stat().st_size, file_hash(path)) for path in paths]
    rows = sum(pq.read_metadata(path).num_rows for path in paths if path.suffix == ".parquet")
    return stored, rows


def is_whole(directory: Path, files: list[Stored]) -> bool:
    """Whether every file is there with as many bytes as were written."""
    try:
        return all((directory / path).stat().st_size == size for path, size, _ in files)
    except OSError:
        return False


def _class_name(kind: type, name: str) -> str:
    if "<locals>" in kind.__qualname__:
        raise UsageError(
            f"{name}: returned a {kind.__name__}, a class defined inside a function; define it in a module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
