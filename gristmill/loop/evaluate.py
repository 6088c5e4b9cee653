"""Evaluate: a suite's items put to a model, its answers scored, and EVAL rows in one file with an account of them.

Answers and verdicts are remembered by the run, so an evaluation that was killed is started again as it was and pays for
nothing twice. A call that failed is a row without a score, not a wrong one.

Not covered: comparing models (`gate.py`), logs of other tools (`logs/read.py`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import Refused, UsageError
from gristmill.generate.asking import Asking
from gristmill.generate.prompt_table import PromptTable
from gristmill.generate.sample import Plan, candidates
from gristmill.loop.accuracy import summarised
from gristmill.loop.evals import SUITE, Evals
from gristmill.loop.logs.rows import Row
from gristmill.loop.suite import Suite, items_of, register
from gristmill.models.protocol import Model
from gristmill.parquet import RowWriter, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import CARRIED, EVAL
from gristmill.rollout.groups import Solved
from gristmill.run import Run, peak_rss_mb
from gristmill.score.cache import Scores, cached
from gristmill.score.pipeline import Tally as Verdicts
from gristmill.score.score import Item, Score

TOGETHER = 1_024
"""Rows that are scored at once."""

HEAVY = {"prompt", "response", "reasoning", "tools", "reference"}
"""Columns that a summary does not need."""


def evaluate(
    suite: Suite,
    model: Model,
    out: Path,
    *,
    run: Run,
    sampling: Mapping[str, Any] | None = None,
    samples: int | None = None,
    solved: Solved | None = None,
    seed: int | None = 0,
    limit: int | None = None,
    asking: Asking | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Put a suite's items to a model, score the answers, write EVAL rows to `out`, and tell how good it is.

    `sampling`, `samples` and `solved` (the score that says what is right) stand in place of the suite's. The suite is
    registered in the run before the first call.

    Returns the summary of `accuracy.summarised` with what it took. Raises Refused, with the rows so far in `out`, when
    a budget is spent, too many calls or verdicts fail, or an endpoint is gone; UsageError for a suite that does not
    fit its items.
    """
    check_replaceable(out, "eval", force=force)
    started, asking = time.monotonic(), asking or Asking()
    stages, cache, built = Stages(say), Scores(run.path, asking.budget), suite.built()
    by = solved or Solved(built[0].name, suite.least)
    if by.score not in (names := [score.name for score in built]):
        raise UsageError(f"--score {by.score}: the suite has no such score; allowed: {', '.join(names)}")
    table = PromptTable(suite.items)
    items = items_of(suite, table)
    _check_slices(suite, items)
    register(run, suite, items)
    plan = Plan(n=samples or suite.samples, sampling={**suite.sampling, **(sampling or {})}, seed=seed)
    rows = asking.rows(candidates(items[:limit], [model], plan))
    if (first := next(rows, None)) is None:
        raise asking.stop or UsageError(f"suite {suite.name}: no item was asked")
    verdicts = [Verdicts(score) for score in built]
    scored = _scored(chain([first], rows), [cached(score, cache) for score in built], verdicts)
    names.sort(key=lambda name: name != by.score)
    params = {"suite": suite.name, "model": model.name, "samples": plan.n, "sampling": dict(plan.sampling)}
    stages.begin("eval")
    light = write_evals(
        asking.judged(scored), items[0], names, suite.slices, out, run=run, params=params, least=by.least
    )
    stages.end(f"{len(light):>11,} rows", asking.tally.note())
    found = Evals(light, tuple(suite.slices), tuple(names), by.least)
    summary: dict[str, Any] = {
        "gristmill": __version__,
        "suite": suite.name,
        "model": model.name,
        "rows": len(light),
        "items_bad": table.bad,
        "first_bad": table.first_bad,
        **summarised(found, confidence=suite.confidence),
        "scores": {tally.score.name: tally.summary(cache) for tally in verdicts},
        **asking.tally.summary(),
        "seconds": round(time.monotonic() - started, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    stop = asking.ended(len(light), None, out)
    if failed := next((each for each in verdicts if each.failed > asking.goal.max_failures * len(light)), None):
        stop = stop or Refused(
            f"score {failed.score.name}: {failed.failed:,} of {len(light):,} rows have no verdict for an error; first: "
            f"{failed.first_error}; the rows are in {out}"
        )
    if stop:
        raise stop
    return summary


def write_evals(
    rows: Iterable[Row],
    like: Mapping[str, Any],
    scores: Sequence[str],
    slices: Sequence[str],
    out: Path,
    *,
    run: Run,
    params: Mapping[str, Any],
    least: float = 1.0,
) -> list[Row]:
    """Write EVAL rows and register the file; returns the rows without their texts. `like` names the columns beside
    those of EVAL that rows carry, as one of them does or its item."""
    added = {f"{prefix}_{score}": None for score in scores for prefix in ("score", "verdict", "why")}
    names = [name for name in [*like, *added] if name.startswith(tuple(CARRIED))]
    fields = [
        pa.field(name, next(CARRIED[each] for each in CARRIED if name.startswith(each)))
        for name in dict.fromkeys(names)
    ]
    told = orjson.dumps({"slices": list(slices), "scores": list(scores), "least": least})
    schema = marked(pa.schema([*EVAL, *fields]))
    schema = schema.with_metadata({**schema.metadata, SUITE: told})
    light: list[Row] = []
    with space_wanted("the output", out), beside(out) as partial:
        with RowWriter(partial / out.name, schema) as writer:
            for row in rows:
                writer.write(row)
                light.append({name: value for name, value in row.items() if name not in HEAVY})
        run.output(out, "eval", params=params, counts={"rows": len(light)}, beside=partial / out.name)
    return light


def _check_slices(suite: Suite, items: Sequence[Row]) -> None:
    fields = {name for item in items for name in item} | {
        name for item in items if item.get("meta") for name in orjson.loads(item["meta"])
    }
    if missing := next((name for name in suite.slices if name not in fields), None):
        allowed = ", ".join(sorted(name for name in fields if name not in {*HEAVY, "id", "copy", "meta", "parents"}))
        raise UsageError(f"suite {suite.name}: slice {missing}: no item has it; allowed: {allowed}")


def _scored(rows: Iterator[Row], scores: Sequence[Score], verdicts: Sequence[Verdicts]) -> Iterator[Row]:
    """The rows with the columns of each score, which `verdicts` counts."""
    while part := list(islice(rows, TOGETHER)):
        judged = [_item(row) for row in part]
        for score, tally in zip(scores, verdicts, strict=True):
            for row, verdict in zip(part, tally.add(score, judged), strict=True):
                for name, value in verdict._asdict().items():
                    row[f"{'score' if name == 'value' else name}_{score.name}"] = value
        yield from part


def _item(row: Mapping[str, Any]) -> Item:
    meta = orjson.loads(row["meta"]) if row.get("meta") else {}
    return Item(row.get("response"), row.get("reference"), row["prompt"], row.get("reasoning"), meta)
