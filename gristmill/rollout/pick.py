"""Rows and prompts picked from rollouts: SFT rows by rejection sampling, prompts for RL by their pass rate.

What is not picked stays in the table, with a drop rule, value and limit; later verbs work on the kept rows.

Not covered: pairs and labels (`pairs.py`).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from gristmill.files import batch_of
from gristmill.records import DROPS, SCHEMAS, row_id
from gristmill.rollout.groups import Solved
from gristmill.rollout.pass_rate import band, rate_of
from gristmill.rollout.rollouts import Rollouts

Row = dict[str, Any]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Take = Literal["best", "all"] | int

DECIDES = 0.95
"""The share of rejected rows above which one axis decides nearly everything."""


def pick_sft(
    rollouts: Rollouts, least: Mapping[str, float], *, by: str, take: Take = "best", cap: int | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """The rollouts with drop columns: kept are, of each prompt, the rows that reach `least` of every score named, at
    most `cap`; `take` is all of them, the best or the best k by the score `by` (ties: the shorter response first, then
    the earlier one). Rejection sampling, on as many axes as are named.
    """
    rows = len(rollouts.groups)
    drops = _Drops(rows)
    failed: dict[str, Bools] = {}
    for name, limit in least.items():
        values = rollouts.scores(name)
        failed[name] = ~(values >= limit)
        for place in np.flatnonzero(failed[name]).tolist():
            if np.isnan(values[place]):
                drops.mark(place, f"unjudged_{name}", None, limit)
            else:
                drops.mark(place, f"below_{name}", float(values[place]), limit)
    ranking = rollouts.scores(by)
    lengths = rollouts.lengths()
    most = take if isinstance(take, int) else 1 if take == "best" else rows
    most = min(most, cap or rows)
    for members in rollouts.members():
        passing = [n for n in members.tolist() if drops.free(n)]
        ranked = sorted(passing, key=lambda n: (-np.nan_to_num(ranking[n], nan=-np.inf), lengths[n], n))
        for place, n in enumerate(ranked[most:], most + 1):
            drops.mark(n, "not_best", place, most)
    table = drops.added(rollouts.table)
    kept = sum(map(drops.free, range(rows)))
    prompts = len({int(rollouts.groups[n]) for n in range(rows) if drops.free(n)})
    return table, {
        "rows": rows,
        "rows_kept": kept,
        "yield": kept / rows if rows else 0.0,
        "prompts": len(rollouts.members()),
        "prompts_kept": prompts,
        "dropped": drops.counts(),
        "decides": _decides(failed),
    }


def _decides(failed: Mapping[str, Bools]) -> str | None:
    """The axis that rejects nearly every rejected row where others hardly reject one that it does not; None if none."""
    if len(failed) < 2:
        return None
    any_failed = np.logical_or.reduce(list(failed.values())).sum()
    name, most = max(((name, int(each.sum())) for name, each in failed.items()), key=lambda pair: pair[1])
    return name if any_failed and most >= DECIDES * any_failed else None


def pick_prompts(
    rollouts: Rollouts, solved: Solved, *, low: float = 0.0, high: float = 0.625
) -> tuple[pa.Table, dict[str, Any]]:
    """The prompts of the rollouts with their pass rate; dropped are those that are surely too easy or too hard: whose
    95 % Wilson interval lies above `high` or below `low`. What is not sure stays, to be probed again: with 8 samples, a
    prompt solved one time in twenty shows no success two times in three.

    The default is one-sided (OLMo 3 drops above 62.5 %): hard prompts are where there is most to learn.
    """
    values = rollouts.scores(solved.score)
    rows: list[Row] = []
    bands: Counter[str] = Counter()
    members = rollouts.members()
    drops = _Drops(len(members))
    for number, group in enumerate(members):
        judged = values[group][~np.isnan(values[group])]
        rate = rate_of(int((judged >= solved.least).sum()), len(judged))
        place = band(rate.solved, rate.samples)
        bands[place] += 1
        first = rollouts.table.slice(int(group[0]), 1).to_pylist()[0]
        row = {name: first.get(name) for name in SCHEMAS["prompt"].names if name not in ("id", "copy", "parents")}
        row |= {"id": row_id("prompt", row), "copy": 0, "parents": None}
        row |= {"score_pass_rate": rate.value, "score_pass_low": rate.low, "score_pass_high": rate.high}
        rows.append({**row, "flag_band": place})
        if rate.low > high:
            drops.mark(number, "too_easy", rate.value, high)
        elif rate.high < low:
            drops.mark(number, "too_hard", rate.value, low)
    added = [pa.field(f"score_pass_{name}", pa.float64()) for name in ("rate", "low", "high")]
    schema = pa.schema([*SCHEMAS["prompt"], *added, pa.field("flag_band", pa.large_string())])
    table = drops.added(pa.Table.from_batches([batch_of(rows, schema)]))
    kept = sum(map(drops.free, range(len(rows))))
    return table, {"prompts": len(rows), "prompts_kept": kept, "dropped": drops.counts(), "bands": dict(bands)}


class _Drops:
    """Drop columns in the making; the first reason stands."""

    def __init__(self, rows: int):
        self._columns: dict[str, list[Any]] = {field.name: [None] * rows for field in DROPS}

    def free(self, place: int) -> bool:
        """Whether a row is kept so far."""
        return self._columns["drop_rule"][place] is None

    def mark(self, place: int, rule: str, value: float | None, limit: float) -> None:
        """Drop a row, unless it is dropped already."""
        if self.free(place):
            for name, each in zip(("drop_rule", "drop_value", "drop_limit"), (rule, value, limit), strict=True):
                self._columns[name][place] = each

    def counts(self) -> dict[str, int]:
        """Rows by rule."""
        return dict(Counter(rule for rule in self._columns["drop_rule"] if rule).most_common())

    def added(self, table: pa.Table) -> pa.Table:
        """A table with the drop columns."""
        for field in DROPS:
            table = table.append_column(field, pa.array(self._columns[field.name], field.type))
        return table
