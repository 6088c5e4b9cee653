"""Trials: train on a set, evaluate, and remember what came out, so that the same trial is never run twice.

A *trainer* is whatever trains and evaluates: a Python function `FILE.py:FUNCTION`, called with the path of a JSONL
file of chat rows (what `gristmill export --to trl-sft` writes) and a seed; or a command with `{data}`, `{out}` and
`{seed}` in it, whose last line on stdout is JSON. Both give, by capability, the results of its items:
`{"arithmetic": [1, 0, 1, …]}`. Items come in the same order in every trial, so that two can be compared item by item.

Not covered: trials side by side (each may want the whole machine), what the trainer does.
"""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill.code_version import local_files
from gristmill.errors import GristmillError, UsageError
from gristmill.export.formats import FORMATS
from gristmill.run import Run
from gristmill.user_code import user_module

Results = Mapping[str, Sequence[float]]
"""By capability, a number from 0 to 1 for each item."""


def trial(run: Run, rows: Sequence[Mapping[str, Any]], trainer: str, seed: int, place: Path) -> dict[str, list[float]]:
    """The results of training on SAMPLE rows with a seed; from the run, if it was tried before.

    `place` is the directory for the files. Raises UsageError for a trainer that is not there, fails or gives nothing.
    """
    place.mkdir(parents=True, exist_ok=True)
    lines = b"".join(orjson.dumps(FORMATS["trl-sft"].make(row, "think", False)) + b"\n" for row in rows)
    data = place / f"{blake2b(lines, digest_size=8).hexdigest()}.jsonl"
    data.write_bytes(lines)
    table = run.step(tried, str(data), trainer=trainer, seed=seed, code=_code(trainer))
    found: dict[str, list[float]] = {}
    for row in table.to_pylist():
        found.setdefault(row["capability"], []).append(row["result"])
    return found


def tried(data: str, *, trainer: str, seed: int, code: str) -> pa.Table:  # noqa: ARG001  the code is part of the key
    """Train and evaluate: a step of a run, whose key holds the data, the trainer with its code, and the seed."""
    results = _called(trainer, data, seed) if _is_function(trainer) else _commanded(trainer, data, seed)
    if not isinstance(results, Mapping) or not results:
        raise UsageError(f"trainer {trainer}: gave {type(results).__name__}; it must give results by capability")
    rows = []
    for capability, items in results.items():
        for item, result in enumerate(items):
            if not isinstance(result, int | float) or not 0 <= result <= 1:
                raise UsageError(f"trainer {trainer}: {capability}: item {item} is {result!r}; allowed are 0 to 1")
            rows.append({"capability": str(capability), "item": item, "result": float(result)})
    return pa.Table.from_pylist(rows)


def _is_function(trainer: str) -> bool:
    return trainer.partition(":")[0].endswith(".py") and " " not in trainer


def _code(trainer: str) -> str:
    """A hash of the sources behind a function; a command is known by its words alone."""
    if not _is_function(trainer):
        return ""
    file = Path(trainer.partition(":")[0])
    if not file.is_file():
        raise UsageError(f"trainer {trainer}: no file {file}; name FILE.py:FUNCTION, or a command with {{data}} in it")
    digest = blake2b(digest_size=8)
    for local in sorted(local_files(file.resolve())):
        digest.update(local.read_bytes())
    return digest.hexdigest()


def _called(trainer: str, data: str, seed: int) -> Any:
    file, _, name = trainer.partition(":")
    fn = _function(Path(file).resolve(), name)
    try:
        return fn(data, seed)
    except GristmillError:
        raise
    except Exception as error:  # of the user's trainer, which may raise anything
        raise UsageError(f"trainer {trainer}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _function(file: Path, name: str) -> Any:
    try:
        found = getattr(user_module(file, file.stem), name, None)
    except Exception as error:  # of the user's module, which may raise anything
        raise UsageError(f"{file}: {type(error).__name__}: {' '.join(str(error).split())}; mend it") from error
    if not callable(found):
        raise UsageError(f"trainer {file}:{name}: no function {name!r} in {file}")
    return found


def _commanded(trainer: str, data: str, seed: int) -> Any:
    if "{data}" not in trainer:
        raise UsageError(f"trainer {trainer}: a command must have {{data}} in it; {{out}} and {{seed}} may be")
    out = Path(data).with_suffix(f".{seed}.out")
    words = [word.format(data=data, out=out, seed=seed) for word in shlex.split(trainer)]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise UsageError(f"trainer {words[0]}: {error.strerror}; name a command that can be run") from error
    if done.returncode:
        raise UsageError(f"trainer {trainer}: exit {done.returncode}; its last words are above")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        return json.loads(last)
    except json.JSONDecodeError:
        raise UsageError(f"trainer {trainer}: its last line is {last[:80]!r}; it must be JSON of results") from None
