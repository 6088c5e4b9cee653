"""Generate: from a template or a table of prompts to a Parquet file of candidates, and the account of what they took.

The file is written beside its place and renamed; answers are in the calls ledger long before. So a run that was killed
is started again as it was, and what was answered costs nothing. When a budget, failures or a dead endpoint stop the
calls, the rows so far are written, and the error says so.

Not covered: filters beyond `accept` (`gristmill filter`), what a template is (`templates.py`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.generate.accept import accept
from gristmill.generate.asking import Asking
from gristmill.generate.sample import Plan, Row, candidates
from gristmill.models.batch import Batches
from gristmill.models.protocol import Model
from gristmill.parquet import RowWriter, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import CARRIED, SCHEMAS
from gristmill.run import Run, peak_rss_mb


def generate_rows(
    prompts: Iterable[Row],
    models: Sequence[Model],
    out: str | Path,
    plan: Plan,
    *,
    run: Run,
    asking: Asking | None = None,
    batches: Batches | None = None,
    source: str = "",
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask `models` for what `plan` says of each of the `prompts`, write the rows to `out`, and tell what they took.

    `asking` says when to stop, and what calls cost and may cost. With `batches`, which the models are made with, they
    are asked in batches; `prompts` are then gone through several times, and an iterator will not do.

    Returns the summary. Raises Refused, with the rows so far in `out`, when a budget is spent, too many calls fail or
    an endpoint is gone; UsageError, with nothing written, for what makes every call fail, and for no prompt at all.
    """
    out = Path(out)
    check_replaceable(out, "generate", force=force)
    started = time.monotonic()
    if batches and iter(prompts) is prompts:
        raise UsageError("batches go through the prompts several times; give a list, or a PromptSource, no iterator")
    remaining = iter(prompts)
    first = next(remaining, None)
    if first is None:
        raise UsageError(f"{source or 'prompts'}: no prompt in it; give at least one")
    schema = _schema(first)
    asking = asking or Asking()
    goal = asking.goal
    todo = candidates(chain([first], remaining), models, plan)
    if batches and goal.accept is None:
        asking.fill(batches, lambda: candidates(prompts, models, plan), say)
    with space_wanted("the output", out), beside(out) as partial:
        file = partial / out.name
        stages = Stages(say)
        stages.begin("generate")
        if goal.accept is None:
            with RowWriter(file, schema) as writer:
                for row in asking.rows(todo):
                    writer.write(row)
            rows, kept = writer.rows, None
        else:
            judged, kept = accept(
                lambda n: asking.round(islice(todo, n), batches, say), goal.accept, goal.steps, schema
            )
            asking.tally.kept(judged)
            pq.write_table(judged.replace_schema_metadata(schema.metadata), file, compression="zstd")
            rows = len(judged)
        stages.end(f"{rows:>11,} rows", asking.tally.note())
        stop = asking.ended(rows, kept, out)
        summary: dict[str, Any] = {
            "gristmill": __version__,
            "source": source,
            "rows": rows,
            "rows_kept": kept,
            "stopped": str(stop) if stop else None,
            **asking.tally.summary(),
            "batches": batches.summary() if batches else None,
            "seconds": round(time.monotonic() - started, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        if rows:
            params = {"inputs": [source], "plan": plan_told(plan), "models": [model.name for model in models]}
            counts = {name: summary[name] for name in ("rows", "rows_kept", "calls", "failed", "cost")}
            run.output(out, "generate", params=params, counts=counts, beside=file)
    if stop:
        raise stop
    return summary


def _schema(prompt: Row) -> pa.Schema:
    """The columns of the rows that prompts like this one make."""
    carried = [
        pa.field(name, next(kind for prefix, kind in CARRIED.items() if name.startswith(prefix)))
        for name in prompt
        if name.startswith(tuple(CARRIED))
    ]
    return marked(pa.schema([*SCHEMAS["sample"], *carried]))


def plan_told(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "n": plan.n,
        "temperatures": list(plan.temperatures),
        "sampling": dict(plan.sampling),
        "seed": plan.seed,
        "together": plan.together,
    }
