"""Run: the memory of a piece of work. A directory with a ledger and the tables of its steps.

    run = Run("gristmill-run")
    table = run.step(read, "data.jsonl")
    marked = run.step(apply_rules, table, rules=DEFAULT_RULES)

A step is a plain function. `run.step` makes a key of everything that decides its result (its code, the content of its
inputs, its parameters), computes it if the ledger does not know the key, and stores it as Parquet. So the same program
started again, or killed and started again, goes on where it was. The files of a step are written beside, renamed into
`steps/NAME-KEY`, and only then written down: whatever the ledger lists is whole, whatever it does not list is deleted
and computed again. Processes may share a run: the one that claims a step computes it, the others wait for it.

Not covered: a run directory on a network file system (SQLite's locks), and steps whose result depends on anything
but their code, inputs and parameters.
"""

import resource
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from threading import Event, Thread
from types import FunctionType
from typing import Any
from uuid import uuid4

import daft
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import progress
from gristmill.beside import move
from gristmill.code_version import code_version
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.keys import arrow_hash, canonical, captured, file_hash, hashed_files, key_of, rows_hash
from gristmill.ledger import LEASE_SECONDS, UNUSABLE, Ledger, Output, StepRecord, now, this_process
from gristmill.runner import bounded, plain_errors
from gristmill.stored import (
    ALONE,
    frame_files,
    is_whole,
    measure,
    read_result,
    write_parts,
    write_result,
)

POLL_SECONDS = 0.1
"""How often a process that waits for another's step looks for it."""

Fill = Callable[[Path], dict[str, Any]]
"""Writes the files of a step into a directory and returns their shape."""


class Run:
    """A run directory, created if it is not there.

    Raises UsageError for a directory whose ledger cannot be read or was written by a newer Gristmill.
    """

    def __init__(self, path: str | Path = "gristmill-run"):
        self.path = Path(path).resolve()
        if self.path.is_file():
            raise UsageError(f"run {path}: a file; name a directory")
        with space_wanted("the ledger", self.path):
            self.ledger = Ledger(self.path)
        self.steps: list[StepRecord] = []
        """What this process asked of the run, in order."""
        self._known: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._origins: dict[int, tuple[str, str, str]] = {}  # of a table: name and key of its step, and field

    def step(self, fn: Callable[..., Any], /, *inputs: Any, **params: Any) -> Any:
        """`fn(*inputs, **params)`, computed once; what comes back was read from its stored files.

        `inputs` are tables, or paths (a str, a Path, or a list of them) whose files' content counts. `params` may be
        whatever `keys.canonical` takes; one whose name begins with `_` is handed to `fn` and stays out of the key.
        `fn` returns a DataFrame (lazy ones are streamed to disk), an Arrow table, or a named tuple of those and JSON
        values. Errors of `fn` pass through and leave nothing behind.

        Raises UsageError for what cannot be known by its content, BadInput for a file that is not there, OutOfSpace
        for a full disk.
        """
        name = _name_of(fn)
        with space_wanted("the ledger", self.path):
            handed, described = self._identified(inputs, name)
        counted = {key: canonical(value, f"{name}: {key}") for key, value in params.items() if key[0] != "_"}
        parts = {
            "function": f"{fn.__module__}:{fn.__qualname__}",
            "code": code_version(fn),
            "captured": captured(fn, name),
            "inputs": described,
            "params": counted,
        }

        def fill(directory: Path) -> dict[str, Any]:
            return write_result(fn(*handed, **params), directory, name)

        flat = [each for group in described for each in group]
        return self._settled(key_of(parts), name, flat, counted, fill)

    def result(self, key: str) -> Any:
        """What the finished step with this key returned; raises UsageError where it is not, or no longer, stored."""
        record = self._finished(key)
        if record is None:
            raise UsageError(f"{self.path}: the step {key[:16]} is not stored (any more); compute it again")
        return self._returned(record, reused=True)

    def files(self, table: Any) -> list[str]:
        """The stored Parquet files of a table that a step of this run returned, in order."""
        _, key, field = self._origin(table)
        directory = self.path / self._record(key).path
        return frame_files(directory, field) or [str(directory / f"{field}.parquet")]

    def key(self, table: Any) -> str:
        """The key of the step that returned a table."""
        return self._origin(table)[1]

    def output(
        self,
        path: str | Path,
        name: str,
        *,
        inputs: Sequence[Any] = (),
        params: Mapping[str, Any] | None = None,
        counts: Mapping[str, Any] | None = None,
        beside: Path | None = None,
    ) -> Output:
        """Write down a result that lies outside the run: a directory or a file, with the hash of every file.

        `inputs` are the tables, or the keys, of the steps it was made from; `params` and `counts` are JSON. `beside` is
        the directory in which it was written: it is renamed to `path` in the same transaction, so that of processes
        that write to one place the last to be written down is the one that is there.
        """
        where = Path(path).resolve()
        written = beside or where
        if written.is_dir():
            files, _ = measure(written)
        elif written.is_file():
            files = [(".", written.stat().st_size, file_hash(written))]
        else:
            raise UsageError(f"output {path}: no such file or directory; write it, then register it")
        keys = [each if isinstance(each, str) else self.key(each) for each in inputs]
        for key in keys:
            self._record(key)
        made = Output(name, str(where), now(), keys, dict(params or {}), dict(counts or {}), files)
        with space_wanted("the ledger", self.path):
            self.ledger.add_output(made, (lambda: move(beside, where)) if beside else None)
        return made

    def outputs(self) -> list[Output]:
        """Every result that was ever registered, newest last."""
        return self.ledger.outputs()

    def latest(self, name: str) -> Output | None:
        """The newest result of that name."""
        return next((each for each in reversed(self.outputs()) if each.name == name), None)

    def _origin(self, table: Any) -> tuple[str, str, str]:
        if self._known.get(id(table)) is not table:
            raise UsageError("this table is not one that a step of this run returned (or a table made from one)")
        return self._origins[id(table)]

    def _record(self, key: str) -> StepRecord:
        record = self.ledger.step(key)
        if record is None:
            raise UsageError(f"{self.path}: no finished step has the key {key}")
        return record

    def _identified(self, inputs: Sequence[Any], name: str) -> tuple[list[Any], list[list[dict[str, Any]]]]:
        """What to hand to the function, and what each input is known by."""
        handed, described = [], []
        for place, value in enumerate(inputs, 1):
            if isinstance(value, daft.DataFrame) and self._known.get(id(value)) is not value:
                value = self._given(value)
            if self._known.get(id(value)) is value:
                step, key, field = self._origins[id(value)]
                described.append([{"name": step, "key": key, "field": field}])
            elif isinstance(value, pa.Table):
                described.append([{"name": "arrow table", "hash": arrow_hash(value)}])
            elif paths := _paths(value):
                described.append(hashed_files(paths, self.ledger))
            else:
                raise UsageError(
                    f"{name}: input {place} is a {type(value).__name__}; allowed are tables and paths; "
                    "give everything else by name"
                )
            handed.append(value)
        return handed, described

    def _given(self, table: daft.DataFrame) -> daft.DataFrame:
        """A table that no step returned: stored as a step of its own, so that what is hashed is what is used."""
        directory = self._partial("given", uuid4().hex)
        try:
            with plain_errors(), space_wanted("a table given", self.path):
                write_parts(table, directory / ALONE)
            files = frame_files(directory, ALONE)
            batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches())
            key = key_of({"given": rows_hash(batches, pq.read_schema(files[0]))})

            def fill(target: Path) -> dict[str, Any]:
                (directory / ALONE).rename(target / ALONE)
                return {"tuple": None, "fields": {ALONE: "frame"}}

            stored: daft.DataFrame = self._settled(key, "given", [], {}, fill)
            return stored
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _settled(self, key: str, name: str, inputs: list[dict[str, Any]], params: dict[str, Any], fill: Fill) -> Any:
        """The result of a step: from the ledger, or computed here, or by the process that is at it."""
        reused = True
        while (record := self._finished(key)) is None:
            with plain_errors(), space_wanted(f"step {name}", f"{self.path} (or in {gettempdir()})"):
                token = self.ledger.claim(key)
                if token is None:
                    time.sleep(POLL_SECONDS)
                    continue
                reused = not self._computed(token, StepRecord(key, name, inputs, params, *_UNKNOWN), fill)
        return self._returned(record, reused)

    def _returned(self, record: StepRecord, reused: bool) -> Any:
        """What a finished step returned, read from its files; its tables are known from here on."""
        self.steps.append(record._replace(reused=reused, path=str(self.path / record.path)))
        result = read_result(record.shape, self.path / record.path)
        fields = result._asdict() if record.shape["tuple"] else {ALONE: result}
        for field, form in record.shape["fields"].items():
            if form != "json":
                self._known[id(fields[field])] = fields[field]
                self._origins[id(fields[field])] = (record.name, record.key, field)
        return result

    def _finished(self, key: str) -> StepRecord | None:
        """The step in the ledger, if its files are there as they were written."""
        record = self.ledger.step(key)
        if record and not is_whole(self.path / record.path, self.ledger.files(key)):
            with space_wanted("the ledger", self.path):
                self.ledger.forget(record)
            return None
        return record

    def _computed(self, token: str, record: StepRecord, fill: Fill) -> bool:
        """Compute a claimed step and write it down; False if another process took the claim over."""
        final = self.path / "steps" / f"{record.name}-{record.key[:16]}"
        directory = self._partial(record.name, record.key)
        try:
            with self._heartbeat(token), progress.step(record.name):
                for left in final.parent.glob(f".{final.name}.*.partial"):
                    shutil.rmtree(left, ignore_errors=True)  # of a process that is gone: the claim is ours
                directory.mkdir(parents=True)
                started = time.monotonic()
                with bounded():
                    shape = fill(directory)
                files, rows = measure(directory)
                seconds = round(time.monotonic() - started, 3)
                if not self.ledger.renew(token):
                    return False
                shutil.rmtree(final, ignore_errors=True)  # renamed, and killed before it was written down
                directory.rename(final)
            done = record._replace(
                shape=shape,
                rows=rows,
                bytes=sum(size for _, size, _ in files),
                seconds=seconds,
                peak_rss_mb=round(peak_rss_mb(), 1),
                created=now(),
                path=str(final.relative_to(self.path)),
            )
            return self.ledger.finish(done, files, token)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            with suppress(*UNUSABLE):  # a full disk: a claim of ours that nobody holds is void anyway
                self.ledger.release(token)

    def _partial(self, name: str, key: str) -> Path:
        return self.path / "steps" / f".{name}-{key[:16]}.{this_process().pid}-{uuid4().hex[:8]}.partial"

    @contextmanager
    def _heartbeat(self, token: str) -> Iterator[None]:
        """Renew a claim while the work goes on."""
        done = Event()

        def beat() -> None:
            while not done.wait(LEASE_SECONDS / 6):
                with suppress(*UNUSABLE):  # busy or full; the next beat, or the end of the lease, settles it
                    self.ledger.renew(token)

        thread = Thread(target=beat, daemon=True, name="gristmill claim")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


_UNKNOWN: tuple[Any, ...] = ({}, 0, 0, 0.0, 0.0, "", "")


def _name_of(fn: Any) -> str:
    if not isinstance(fn, FunctionType):
        raise UsageError(f"a step is a plain function, not a {type(fn).__name__}; define one with def")
    if not fn.__name__.isidentifier():
        raise UsageError(f"a step is named by its function, and {fn.__name__} is none; give it a name with def")
    return fn.__name__


def _paths(value: Any) -> list[str]:
    if isinstance(value, str | Path):
        return [str(value)]
    if isinstance(value, list | tuple) and value and all(isinstance(each, str | Path) for each in value):
        return [str(each) for each in value]
    return []


def peak_rss_mb() -> float:
    """The most memory this process has used so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux kilobytes
