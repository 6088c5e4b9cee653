"""Rollouts: several outputs for each prompt, their rewards and advantages, in one file of groups.

With models, the outputs are asked for; without, they are the samples of the input, grouped by their prompt. Groups are
rewarded whole, some at a time, in the order of the prompts. Answers and verdicts are remembered by the run, so what was
stopped or killed is started again as it was.

Not covered: sets made from rollouts (`pick.py`), training on them.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.generate.asking import Asking
from gristmill.generate.sample import Plan, candidates
from gristmill.models.protocol import Model
from gristmill.parquet import RowWriter, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import CARRIED, SCHEMAS, row_id
from gristmill.rollout.advantages import Form
from gristmill.rollout.groups import Account, Row, Solved, reward_columns
from gristmill.run import Run, peak_rss_mb
from gristmill.score.cache import Scores
from gristmill.score.pipeline import BadRows
from gristmill.score.reward import Reward
from gristmill.score.score import Item

TOGETHER = 1_024
"""Rows that are judged at once, in whole groups."""

EIGHT = Plan(n=8)


def rollout_prompts(
    prompts: Iterable[Row],
    model: Model,
    reward: Reward,
    out: Path,
    *,
    plan: Plan = EIGHT,
    run: Run,
    solved: Solved | None = None,
    form: Form = "grpo",
    asking: Asking | None = None,
    source: str = "",
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask `model` for `plan.n` outputs to each of the `prompts` (PROMPT rows), reward them, write the groups to `out`,
    and tell what they took.

    Raises Refused, with the rows so far in `out`, when a budget is spent, too many calls fail or an endpoint is gone;
    UsageError for what makes every call fail, and for no prompt at all.
    """
    check_replaceable(out, "rollout", force=force)
    asking = asking or Asking()
    scores = Scores(run.path, asking.budget)
    account = Account(reward.cached(scores), solved, form)
    rows = asking.rows(candidates(prompts, [model], plan))
    first = next(rows, None)
    if first is None:
        raise asking.stop or UsageError(f"{source or 'prompts'}: no prompt in it; give at least one")
    carried = [name for name in first if name.startswith(tuple(CARRIED))]
    grouped = _numbered(_chained(first, rows))
    rewarded = asking.judged(_rewarded(grouped, account))
    made = _written(rewarded, carried, account, scores, out, run=run, source=source, say=say)
    stop = asking.ended(made["rows"], None, out)
    summary = {**made, **asking.tally.summary(), "stopped": str(stop) if stop else None}
    if stop:
        raise stop
    return summary


def rollout_samples(
    paths: str | Sequence[str],
    reward: Reward,
    out: Path,
    *,
    run: Run,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    solved: Solved | None = None,
    form: Form = "grpo",
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Reward samples that are there already, grouped by prompt in the order in which the prompts first come.

    Raises BadInput for too many bad rows, UsageError for rows without responses.
    """
    check_replaceable(out, "rollout", force=force)
    scores = Scores(run.path)
    account = Account(reward.cached(scores), solved, form)
    kind, schema, read = batches(paths, columns=columns, answer="reference", limit=limit)
    if kind not in ("sample", "label"):
        raise UsageError(f"rollout: these are {kind} rows; say which MODEL answers them with -m, or --map response=…")
    bad, groups, total = BadRows(), dict[str, list[Row]](), 0
    copies: Counter[str] = Counter()
    for batch in read:
        for row in bad.set_aside(batch).drop_columns([ORDER, BAD]).to_pylist():
            groups.setdefault(row_id("prompt", row), []).append({**row, "copy": copies[row["id"]]})
            copies[row["id"]] += 1
            total += 1
    check_bad(bad.count, total + bad.count, max_bad, first=bad.first[0] if bad.first else None)
    grouped = ((prompt, row) for prompt, rows in groups.items() for row in rows)
    carried = [name for name in schema.names if name.startswith(tuple(CARRIED))]
    source = paths if isinstance(paths, str) else " ".join(paths)
    rewarded = _rewarded(grouped, account)
    made = _written(rewarded, carried, account, scores, out, run=run, source=source, say=say)
    return {**made, "rows_bad": bad.count, "bad_rows": bad.first}


def _rewarded(grouped: Iterable[tuple[Hashable, Row]], account: Account) -> Iterator[Row]:
    """Rows that come with their group, rewarded."""
    for groups, rows in _whole_groups(grouped):
        yield from account.rewarded(rows, [_item(row) for row in rows], groups)


def _written(
    rewarded: Iterable[Row],
    carried: Sequence[str],
    account: Account,
    scores: Scores,
    out: Path,
    *,
    run: Run,
    source: str,
    say: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Write the rewarded rows of an account, register the file, and tell what it holds."""
    started = time.monotonic()
    stages = Stages(say)
    names = [each.score.name for each in account.reward.components]
    added = reward_columns(account.reward)
    kept = [name for name in carried if name not in {field.name for field in added}]
    fields = [pa.field(name, next(t for prefix, t in CARRIED.items() if name.startswith(prefix))) for name in kept]
    schema = marked(pa.schema([*SCHEMAS["sample"], *fields, *added]))
    with space_wanted("the output", out), beside(out) as partial:
        stages.begin("rollout")
        with RowWriter(partial / out.name, schema) as writer:
            for row in rewarded:
                writer.write(row)
        stages.end(f"{account.rows:>11,} rows", f"{account.prompts:,} prompts, {account.without_gradient()}")
        summary = {
            "gristmill": __version__,
            "source": source,
            **account.summary(),
            "scores_known_before": dict(scores.hits),
            "seconds": round(time.monotonic() - started, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        counts = {"rows": account.rows, "prompts": account.prompts}
        run.output(
            out, "rollout", params={"inputs": [source], "reward": names}, counts=counts, beside=partial / out.name
        )
    return summary


def _numbered(rows: Iterable[Row]) -> Iterator[tuple[Hashable, Row]]:
    """Rows of candidates with the number of their group: a prompt that is there twice makes two."""
    number = -1
    for row in rows:
        number += row["sample"] == 0
        yield number, row


def _whole_groups(grouped: Iterable[tuple[Hashable, Row]]) -> Iterator[tuple[list[Hashable], list[Row]]]:
    """Rows with their groups, about `TOGETHER` at a time and never a part of a group."""
    groups: list[Hashable] = []
    rows: list[Row] = []
    for _, members in groupby(grouped, key=lambda each: each[0]):
        for group, row in members:
            groups.append(group)
            rows.append(row)
        if len(rows) >= TOGETHER:
            yield groups, rows
            groups, rows = [], []
    if rows:
        yield groups, rows


def _item(row: Mapping[str, Any]) -> Item:
    meta = orjson.loads(row["meta"]) if row.get("meta") else {}
    return Item(row.get("response"), row.get("reference"), row["prompt"], row.get("reasoning"), meta)


def _chained(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest
