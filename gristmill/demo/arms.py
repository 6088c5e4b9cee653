"""Arms of a trial on the embedded model: a base, sets of rows to train it further on, and the same items for all."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gristmill.loop.evaluate import evaluate
from gristmill.loop.suite import Suite
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import ready
from gristmill.parquet import RowWriter
from gristmill.run import Run
from gristmill.train.tiny.make import taught_on
from gristmill.train.tiny.world import Mix, rows, schema

Row = dict[str, Any]

FORM = {"hash": 1.0}
"""Answers end in `#### n`, as those of GSM8K do."""

LENGTH = 40
"""Tokens of an answer at most."""

ITEMS = 1_200
"""Items that decide."""


class Arm(NamedTuple):
    """What a model is trained further on, for how many steps of 32 rows."""

    rows: Sequence[Row]
    steps: int


def written(path: Path, made: Iterable[Mapping[str, Any]], *, answers: bool, scores: Sequence[str] = ()) -> Path:
    """Write rows of the world to a Parquet file."""
    columns = [pa.field(f"score_{name}", pa.float64()) for name in scores]
    with RowWriter(path, pa.schema([*schema(answers), *columns])) as file:
        for row in made:
            file.write(row)
    return path


def suite(path: Path, *, seed: int, items: int = ITEMS) -> Suite:
    """A suite of `items` held-out tasks, which are written to `path`; answered greedily."""
    written(path, rows(items, seed=seed, part="test", mix=Mix(forms=FORM)), answers=False)
    return Suite(
        name=path.stem,
        items=str(path),
        scores=["tiny"],
        samples=1,
        slices=["slot_operation", "slot_carry", "slot_borrow"],
        sampling={"max_tokens": LENGTH, "temperature": 0},
    )


def evaluated(suite: Suite, model: Path, out: Path, run: Run) -> Row:
    """The summary of a model on a suite; its answers and scores are written to `out`."""
    asked = ready(f"hf:{model}", calls=Calls(run.path))
    try:
        return evaluate(suite, asked, out, run=run, seed=None, force=True)
    finally:
        wait(asked.close())


def trained(base: Path, arm: Arm, out: Path, *, seed: int, rate: float) -> Path:
    """The base, trained further on an arm and saved in `out`."""
    taught_on(base, arm.rows, out, steps=arm.steps, seed=seed, rate=rate)
    return out
