"""Trials: train on a set, evaluate, and remember what came out, so that the same trial is never run twice.

What trains is in `trainer.py`; what evaluates are suites (`asked.py`), or a trainer that does so itself and gives, by
capability, the results of its items: `{"arithmetic": [1, 0, 1, …]}`. Items come in the same order in every trial, so
that two can be compared item by item; None stands for an item that could not be judged.

Not covered: trials side by side (each may want the whole machine).
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from numbers import Real
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill.errors import BadRow, UsageError
from gristmill.export.formats import FORMATS
from gristmill.plan.asked import Asked, graded
from gristmill.plan.trainer import Tiny, Trainer, known_of, results_of, weights_of
from gristmill.run import Run

Results = Mapping[str, Sequence[float | None]]
"""By capability, a number from 0 to 1 for each item, None for one that could not be judged."""

SCHEMA = pa.schema([("capability", pa.string()), ("item", pa.int64()), ("result", pa.float64())])


def trial(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    trainer: Trainer,
    seed: int,
    place: Path,
    *,
    suites: Sequence[Asked] = (),
) -> dict[str, list[float | None]]:
    """The results of training on SAMPLE rows with a seed; from the run, if it was tried before.

    `place` is the directory for the files. Without suites the trainer evaluates, which `Tiny` does not. Raises
    UsageError for a trainer that is not there, fails or gives nothing.
    """
    lines = b"".join(orjson.dumps(_chat(row)) + b"\n" for row in rows)
    content = blake2b(lines, digest_size=16).hexdigest()
    place.mkdir(parents=True, exist_ok=True)
    data = place / f"{content[:16]}.jsonl"
    data.write_bytes(lines)
    known = {"data": content, "trainer": known_of(trainer), "suites": [each.known for each in suites]}
    table = run.step(tried, seed=seed, known=known, _data=str(data), _trainer=trainer, _suites=suites)
    found: dict[str, list[float | None]] = {}
    for row in table.to_pylist():
        found.setdefault(row["capability"], []).append(row["result"])
    return found


def _chat(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return FORMATS["trl-sft"].make(row, "think", False)
    except BadRow as error:
        raise UsageError(f"row {row['id']} cannot be trained on: {error}") from None


def tried(
    *,
    seed: int,
    known: Mapping[str, Any],  # noqa: ARG001  the key: content, settings and versions of all that follows
    _data: str,
    _trainer: Trainer,
    _suites: Sequence[Asked],
) -> pa.Table:
    """Train and evaluate: a step of a run, known by the seed and `known`."""
    if _suites:
        results: Results = graded(weights_of(_trainer, _data, seed), _suites)
    elif isinstance(_trainer, Tiny):
        raise UsageError("trainer tiny: it evaluates on suites; name one with --suite SUITE.yaml")
    else:
        results = results_of(_trainer, _data, seed)
    rows = []
    for capability, values in results.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            kind = type(values).__name__
            raise UsageError(f"trainer {_trainer}: {capability} is a {kind}; it must be a list, a number for each item")
        for item, value in enumerate(values):
            if value is not None and (not isinstance(value, Real) or not 0 <= value <= 1):
                raise UsageError(f"trainer {_trainer}: {capability}: item {item} is {value!r}; allowed are 0 to 1")
            result = None if value is None else float(value)
            rows.append({"capability": str(capability), "item": item, "result": result})
    return pa.Table.from_pylist(rows, SCHEMA)


def mean(values: Sequence[float | None]) -> float:
    """The mean of the results that there are; 0 of none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else 0.0
