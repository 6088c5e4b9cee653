"""Rollouts in memory, by the prompt that they answer.

Not covered: rollouts larger than memory.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.records import row_id
from gristmill.score.pipeline import BadRows, with_copies

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Rollouts(NamedTuple):
    """Rollouts in memory: the rows, and of each the number of its group (the rows of one prompt)."""

    table: pa.Table
    groups: Ints

    def scores(self, name: str) -> Floats:
        """A score of every row, NaN where it is None. Raises UsageError for one that is not there."""
        column = f"score_{name}"
        if column not in self.table.column_names:
            there = ", ".join(
                each.removeprefix("score_") for each in self.table.column_names if each.startswith("score_")
            )
            raise UsageError(
                f"score {name}: the rollouts have none; allowed: {there or 'none (run gristmill rollout)'}"
            )
        values: Floats = self.table[column].to_numpy().astype(float)  # Arrow has no types
        return values

    def lengths(self) -> Ints:
        """The characters of every response."""
        return np.array([len(text or "") for text in self.table["response"].to_pylist()], np.int64)

    def members(self) -> list[Ints]:
        """The places of the rows of each group."""
        order = np.argsort(self.groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1) if len(order) else []


def read_rollouts(paths: str | Sequence[str], *, limit: int | None = None, max_bad: float = 0.01) -> Rollouts:
    """The samples of files, grouped by their prompt. Raises BadInput, UsageError for rows that are no samples."""
    kind, schema, read = batches(paths, answer="reference", limit=limit)
    if kind != "sample":
        raise UsageError(f"pick: these are {kind} rows; name the output of gristmill rollout")
    bad, parts = BadRows(), []
    copies: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    groups: list[int] = []
    for batch in read:
        good = bad.set_aside(batch).drop_columns([ORDER, BAD])
        parts.append(with_copies(pa.Table.from_batches([good]), copies))
        pairs = zip(good["prompt"].to_pylist(), good["tools"].to_pylist(), strict=True)
        groups += [numbers.setdefault(row_id("prompt", {"prompt": p, "tools": t}), len(numbers)) for p, t in pairs]
    check_bad(bad.count, len(groups) + bad.count, max_bad, first=bad.first[0] if bad.first else None)
    names = [name for name in schema.names if name not in (ORDER, BAD)]
    return Rollouts(pa.concat_tables(parts).select([names[0], "copy", *names[1:]]), np.array(groups, np.int64))
