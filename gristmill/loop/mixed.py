"""What a candidate of the loop is trained on: the kept counterexamples, each so many times, and replay of old data.

Not covered: shares of several sources (`gristmill mix`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gristmill.beside import beside
from gristmill.errors import UsageError
from gristmill.filter.ngrams import Index
from gristmill.loop.counter_inputs import replayed
from gristmill.parquet import RowWriter, marked
from gristmill.records import SCHEMAS
from gristmill.run import Run

Row = dict[str, Any]


def mix_counters(
    counters: Path, data: Sequence[str], out: Path, *, repeat: int, replay: int, index: Index, seed: int, run: Run
) -> dict[str, int]:
    """Write the kept rows of a table of counterexamples, `repeat` times each, and `replay` rows of `data` that hold no
    item of `index`, as samples; returns {counterexamples, repeat, replay, rows}.

    The repeats of a row differ in `copy`. Raises UsageError where no counterexample is kept.
    """
    kept = [row for row in pq.read_table(counters).to_pylist() if row["drop_rule"] is None]
    if not kept:
        raise UsageError(f"{counters}: no counterexample is kept; see their drop_rule")
    drawn = replayed(data, replay, index, seed=seed) if replay else []
    old = [row for row in drawn if row.get("drop_rule") is None]
    every = [{**row, "copy": copy} for row in kept for copy in range(repeat)] + [{**row, "copy": 0} for row in old]
    counts = {"counterexamples": len(kept), "repeat": repeat, "replay": len(old), "rows": len(every)}
    names = SCHEMAS["sample"].names
    with beside(out) as partial:
        with RowWriter(partial / out.name, marked(SCHEMAS["sample"])) as writer:
            for row in every:
                writer.write({name: row.get(name) for name in names})
        params = {"inputs": [str(counters), *data]}
        run.output(out, "mix", params=params, counts=counts, beside=partial / out.name)
    return counts
