"""Exactly N that pass: candidates are made and judged until N are kept, or there are no more.

Candidates count in their order, never in that of their answers, so the rows do not depend on which call was quick. They
are asked for in rounds, each about as large as the yield so far says is needed; after each, the steps judge all rows so
far together, so that a step may compare them (duplicates).

Not covered: steps that judge a row by rows that come later; their verdicts hold for the rows that were there.
"""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import NamedTuple

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import col

from gristmill.errors import UsageError
from gristmill.files import batch_of
from gristmill.filter.marks import Table
from gristmill.filter.rules import apply_rules, own_rule, sql_value
from gristmill.generate.sample import Row
from gristmill.records import DROPS

Step = Callable[[Table], Table]

SPARE = 1.1
"""How much more than the yield so far asks for a round holds."""
LEAST_YIELD = 0.02
"""The yield that is reckoned with when it is lower."""
LEAST_ROUND = 16

_ORDER = "_order"


class Accepted(NamedTuple):
    """The rows up to the one with which enough were kept."""

    rows: pa.Table
    """With drop columns, and what the steps measured."""
    kept: int


def passing(where: str) -> Step:
    """The step that keeps the rows for which a SQL expression over their columns is true.

    Raises UsageError, when it is given a table, for one that cannot be computed.
    """
    rule = own_rule("where", where=f"not coalesce({where}, false)", reason=f"not ({where})")

    def step(table: Table) -> Table:
        _, dtype = sql_value(table, where, "--where")
        if not dtype.is_boolean():
            raise UsageError(f"--where: {where!r} is a number; compare it")
        return apply_rules(table, [rule])

    return step


def accept(take: Callable[[int], Iterator[Row]], wanted: int, steps: Sequence[Step], schema: pa.Schema) -> Accepted:
    """Take rows until `wanted` of them pass all steps, or `take` gives fewer than it was asked for.

    `take(n)` gives the rows of the next n candidates. A row without an answer is dropped as `failed` before the steps.
    """
    _judged([], steps, schema)  # a step that cannot be computed says so before anything is paid for
    taken: list[Row] = []
    size, asked = wanted, 0
    while True:
        before = len(taken)
        taken += take(size)
        asked += size
        judged = _judged(taken, steps, schema)
        kept = np.flatnonzero(pc.is_null(judged["drop_rule"]).to_numpy(zero_copy_only=False))
        if len(kept) >= wanted:
            return Accepted(judged.slice(0, int(kept[wanted - 1]) + 1), wanted)
        if len(taken) - before < size:
            return Accepted(judged, len(kept))
        so_far = max(len(kept) / len(taken), LEAST_YIELD)
        size = max(LEAST_ROUND, ceil((wanted - len(kept)) / so_far * SPARE))


def _judged(rows: Sequence[Row], steps: Sequence[Step], schema: pa.Schema) -> pa.Table:
    """The rows after the steps, in their order."""
    failed = [row.get("error") for row in rows]
    drops = {
        "drop_rule": ["failed" if error else None for error in failed],
        "drop_value": [None] * len(rows),
        "drop_limit": [None] * len(rows),
        "drop_evidence": failed,
    }
    table = pa.Table.from_batches([batch_of(rows, schema)])
    for field in DROPS:
        table = table.append_column(field, pa.array(drops[field.name], field.type))
    table = table.append_column(_ORDER, pa.array(range(len(rows)), pa.int64()))
    frame = daft.from_arrow(table)
    for step in steps:
        frame = step(frame)
    judged = frame.sort(col(_ORDER)).to_arrow().drop_columns([_ORDER])
    return judged.select([name for name in judged.column_names if name not in DROPS.names] + DROPS.names)
