"""Suites: the items a model is evaluated on, in a YAML file; and the register that keeps them out of training data.

    name: arithmetic
    items: items.jsonl            # beside this file; prompts with their reference, in any shape the reader knows
    scores: [math]                # the first says what is right
    slices: [tags, slot_operation]
    samples: 1                    # of each item
    sampling: {temperature: 0}

A suite that is evaluated in a run is registered there before the first call: its items are stored in the run, and
`gristmill filter` of that run compares with them unless told otherwise. Every version of a suite stays registered, for
every version was looked at.

Not covered: items larger than memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from gristmill.errors import UsageError
from gristmill.files import batch_of
from gristmill.generate.prompt_table import PromptTable
from gristmill.keys import arrow_hash
from gristmill.parquet import marked
from gristmill.records import SCHEMAS
from gristmill.run import Run
from gristmill.score.named import NAME, beside
from gristmill.score.named import scores as named
from gristmill.score.score import Score
from gristmill.yaml_file import read_as

Row = dict[str, Any]

REGISTERED = "suite"
"""What an output of a run is called that is a suite's items."""


class Suite(BaseModel):
    """A suite as it is written; see the module's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    items: str = Field(min_length=1)
    scores: list[str] = Field(min_length=1)
    slices: list[str] = []
    samples: int = Field(1, ge=1)
    sampling: Mapping[str, Any] = {}
    least: float = 1.0
    """The value of the first score from which on an answer is right."""
    confidence: str | None = None
    """The score, or field of `meta`, that says how sure an answer is, 0 to 1."""

    def built(self) -> list[Score]:
        """Its scores. Raises UsageError for one that is not known, or named twice."""
        found = [score for each in self.scores for score in named(each)]
        names = [score.name for score in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"suite {self.name}: score {twice} twice; rename one: {twice},name=OTHER")
        return found


def read_suite(path: str | Path) -> Suite:
    """The suite of a file, its paths made to hold from here. Raises UsageError naming what is wrong in it."""
    suite = read_as(Suite, path, "a suite: name, items, scores, slices, samples, sampling")
    if not NAME.fullmatch(suite.name.replace("-", "_")):
        raise UsageError(f"{path}: name {suite.name!r}; allowed are small letters, digits, - and _")
    above = Path(path).parent
    items = suite.items if "://" in suite.items or Path(suite.items).is_absolute() else str(above / suite.items)
    return suite.model_copy(update={"items": items, "scores": [beside(Path(path), each) for each in suite.scores]})


def items_of(suite: Suite, table: PromptTable | None = None) -> list[Row]:
    """The items as PROMPT rows with `suite` and `item`, the id of their content (`#1` for the second of the same).
    `table` is where they are read from, for who wants to know afterwards how many rows of it were bad.

    Raises BadInput for items that cannot be read, UsageError for none.
    """
    rows: list[Row] = []
    for row in table or PromptTable(suite.items):
        item = f"{row['id']}#{row['copy']}" if row["copy"] else row["id"]
        rows.append({**row, "suite": suite.name, "item": item})
    if not rows:
        raise UsageError(f"suite {suite.name}: {suite.items} holds no item; write at least one")
    return rows


def register(run: Run, suite: Suite, rows: list[Row]) -> Path:
    """Store a suite's items in the run, from where data are kept clean of them, once. Returns the file."""
    schema = marked(
        pa.schema([SCHEMAS["prompt"].field(name) for name in ("id", "copy", "prompt", "tools", "reference")])
    )
    table = pa.Table.from_batches([batch_of(rows, schema)])
    content = arrow_hash(table)
    out = run.path / "suites" / f"{suite.name}-{content[:16]}.parquet"
    if not any(each.name == REGISTERED and each.path == str(out) for each in run.outputs()) or not out.exists():
        out.parent.mkdir(exist_ok=True)
        partial = out.with_suffix(f".{os.getpid()}")
        pq.write_table(table, partial, compression="zstd")
        params = {"suite": suite.name, "items": suite.items, "scores": suite.scores}
        run.output(out, REGISTERED, params=params, counts={"rows": len(rows)}, beside=partial)
    return out


def registered(run: Run) -> list[str]:
    """The files of items of every suite that was evaluated in a run: what data for training must not hold."""
    return sorted({each.path for each in run.outputs() if each.name == REGISTERED})
