"""The upkeep of a run: is what is stored what was written, and what may be deleted.

Not covered: repair. A damaged step is computed again once its directory is deleted.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gristmill.errors import Refused
from gristmill.keys import file_hash
from gristmill.ledger import Ledger, Output, StepRecord, Stored
from gristmill.records import MESSAGES, kind_of, row_id

_NEEDED = {
    "prompt": ["prompt"],
    "sample": ["prompt", "response"],
    "label": ["prompt", "response"],
    "preference": ["prompt", "chosen", "rejected"],
}


class Damage(NamedTuple):
    """A file that is not what was written."""

    of: str
    """The step with the beginning of its key, or the output."""
    path: str
    expected: str
    """What was written down of it: bytes, hash, or the id that a row's content has."""
    found: str
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.of}: {self.path}: expected {self.expected}, found {self.found}; {self.mend}"


class Verified(NamedTuple):
    """What was looked at, and what differs from what was written down."""

    files: int
    bytes: int
    ids: int
    damaged: list[Damage]
    gone: list[str]
    """Registered outputs that are no longer there; no damage."""


class Pruned(NamedTuple):
    """What was deleted, or would be."""

    steps: list[StepRecord]
    directories: list[Path]
    """Leftovers without a row in the ledger."""
    bytes: int


def verify(directory: Path, ledger: Ledger) -> Verified:
    """Hash every stored file again, and derive the id of every row again.

    Ids are derived in tables with `id`, `prompt` and the columns of their kind; a row whose text was masked keeps the
    id it had before and is left out.
    """
    damaged: list[Damage] = []
    files = size = ids = 0
    places = [
        (f"step {step.name} {step.key[:8]}", directory / step.path, ledger.files(step.key))
        for step in ledger.steps()
        if step.pruned is None
    ]
    mends = [f"delete {where}, and run again what made it" for _, where, _ in places]
    outputs = newest(ledger.outputs())
    there = [output for output in outputs if _is_there(output)]
    places += [(f"output {output.name}", Path(output.path), output.files) for output in there]
    mends += ["run again what wrote it"] * len(there)
    for (name, where, stored), mend in zip(places, mends, strict=True):
        problems, checked = _differing(where, stored)
        damaged += [Damage(name, str(path), expected, found, mend) for path, expected, found in problems]
        files, size, ids = files + len(stored), size + sum(each[1] for each in stored), ids + checked
    return Verified(files, size, ids, damaged, [output.path for output in outputs if not _is_there(output)])


def newest(outputs: Iterable[Output]) -> list[Output]:
    """Of every path what was registered last."""
    return list({output.path: output for output in outputs}.values())


def _is_there(output: Output) -> bool:
    return Path(output.path).exists()


def _differing(where: Path, stored: Sequence[Stored]) -> tuple[list[tuple[Path, str, str]], int]:
    """The files of a step or output that differ, with what was expected and found, and how many ids were derived."""
    problems: list[tuple[Path, str, str]] = []
    ids = 0
    for name, size, hashed in stored:
        path = where / name
        if not path.is_file():
            problems.append((path, f"a file of {size:,} bytes", "none"))
        elif path.stat().st_size != size:
            problems.append((path, f"{size:,} bytes", f"{path.stat().st_size:,}"))
        elif (now := file_hash(path)) != hashed:
            problems.append((path, f"the hash {hashed}", now))
        elif path.suffix == ".parquet":
            wrong, checked = wrong_ids(path)
            if wrong:
                (stored_id, derived), count = wrong[0], len(wrong)
                problems.append((path, f"the id {derived}, from a row's content", f"{stored_id} ({count:,} such rows)"))
            ids += checked
    return problems, ids


def wrong_ids(path: Path) -> tuple[list[tuple[str, str]], int]:
    """The ids in a Parquet file that are not those of their rows, each with the one that is, and how many were looked
    at."""
    schema = pq.read_schema(path)
    names = set(schema.names)
    if not {"id", "prompt"} <= names or schema.field("prompt").type != MESSAGES:
        return [], 0
    kind = kind_of(names)
    if not set(_NEEDED[kind]) <= names:
        return [], 0
    wanted = ["id", "flag_masked", "tools", "reasoning", *_NEEDED[kind]]
    wrong, checked = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(8192, columns=[name for name in wanted if name in names]):
            rows = batch.filter(pc.and_(pc.is_valid(batch["id"]), pc.is_valid(batch["prompt"])))
            if "flag_masked" in names:
                rows = rows.filter(pc.is_null(rows["flag_masked"]))
            wrong += [(row["id"], derived) for row in rows.to_pylist() if (derived := row_id(kind, row)) != row["id"]]
            checked += len(rows)
    return wrong, checked


def prune(directory: Path, ledger: Ledger, *, every: bool = False, dry_run: bool = False) -> Pruned:
    """Delete the tables of superseded steps, and what killed processes left; `every`: the tables of all steps.

    A step stays if a registered output that still exists was made from it, as of its newest registration, or if it is
    newer than all of those, or if such a step was made from it. Without an output nothing is superseded. A pruned step
    stays in the ledger and is computed when it is asked for again. Raises Refused while a process computes a step.
    """
    if claims := ledger.claimed():
        raise Refused(f"{directory}: process {claims[0][1].pid} is computing a step; prune when it is done")
    live = {step.key: step for step in ledger.steps() if step.pruned is None}
    wanted = set() if every else _wanted(live, ledger.outputs())
    steps = [step for step in live.values() if step.key not in wanted]
    known = {directory / step.path for step in live.values()}
    every_directory = sorted(directory.glob("steps/*")) + sorted(directory.glob("steps/.*.partial"))
    left = [path for path in dict.fromkeys(every_directory) if path not in known]
    places = [directory / step.path for step in steps] + left
    freed = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
    if not dry_run:
        ledger.mark_pruned([step.key for step in steps])
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
    return Pruned(steps, left, freed)


def _wanted(live: Mapping[str, StepRecord], outputs: Sequence[Output]) -> set[str]:
    there = [output for output in newest(outputs) if _is_there(output)]
    if not there:
        return set(live)
    last = max(output.created for output in there)
    left = [key for output in there for key in output.inputs]
    left += [step.key for step in live.values() if step.created > last]
    found: set[str] = set()
    while left:
        key = left.pop()
        if key in live and key not in found:
            found.add(key)
            left += sources(live[key].inputs)
    return found


def sources(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of the steps among the inputs of a step."""
    return [each["key"] for each in inputs if "key" in each]
