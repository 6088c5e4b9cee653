"""Groups of outputs to one prompt: their rewards, advantages and what they say of the prompt.

Not covered: where the outputs come from (`pipeline.py`).
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.rollout.advantages import Form, advantages, gdpo, is_dead
from gristmill.rollout.pass_rate import Offer, band, offers, rate_of
from gristmill.score.reward import Reward, Rewarded
from gristmill.score.score import Item

Row = dict[str, Any]

DOMINANT = 0.9
"""The share of a reward's variance above which one component decides it alone."""

GROUP_COLUMNS = {
    "score_advantage": pa.float64(),
    "score_pass_rate": pa.float64(),
    "score_pass_low": pa.float64(),
    "score_pass_high": pa.float64(),
    "flag_group": pa.large_string(),
    "flag_band": pa.large_string(),
}
"""What every row of a group carries beside its scores: its advantage; the group's pass rate with its 95 % Wilson
interval; `live`, `dead` (no gradient) or `unjudged`; `hard`, `medium`, `easy` or `unknown`."""


class Solved(NamedTuple):
    """What counts as solved: a value of `least` or more by the component called `score`."""

    score: str
    least: float = 1.0


def reward_columns(reward: Reward) -> list[pa.Field]:
    """The columns that rewarded rows have, in order."""
    names = [*(each.score.name for each in reward.components), reward.name]
    kinds = {"score": pa.float64(), "verdict": pa.large_string(), "why": pa.large_string()}
    fields = [pa.field(f"{prefix}_{name}", kind) for name in names for prefix, kind in kinds.items()]
    return fields + [pa.field(name, kind) for name, kind in GROUP_COLUMNS.items()]


class Account:
    """What a reward did over all groups so far. `solved` says what the pass rate counts (None: the first component),
    `form` the advantage. Raises UsageError for what does not go with the reward."""

    def __init__(self, reward: Reward, solved: Solved | None = None, form: Form = "grpo"):
        names = [each.score.name for each in reward.components]
        solved = solved or Solved(names[0])
        if solved.score not in names:
            raise UsageError(f"solved {solved.score}: no component of the reward; allowed: {', '.join(names)}")
        if form == "gdpo" and reward.templates:
            raise UsageError("--advantage gdpo: a reward with templates; take one without")
        self.reward, self.solved, self.form = reward, solved, form
        self.prompts = self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.bands: Counter[str] = Counter()
        self.counts: list[tuple[int, int]] = []
        self.values: list[float] = []
        self.shares: list[dict[str, float]] = []

    def rewarded(self, rows: Sequence[Row], items: Sequence[Item], groups: Sequence[Hashable]) -> list[Row]:
        """The rows with their columns; the rows of a group stand together, and none of them in another call. They are
        the batch over which GDPO scales."""
        found = self.reward(items, groups)
        members = [list(places) for _, places in groupby(range(len(rows)), key=lambda n: groups[n])]
        rewarded = [[found[n] for n in places] for places in members]
        made: list[Row] = []
        for places, group, worth in zip(members, rewarded, self._advantages(rewarded), strict=True):
            made += self._group([rows[n] for n in places], group, worth)
        return made

    def _advantages(self, groups: Sequence[Sequence[Rewarded]]) -> list[list[float | None]]:
        if self.form != "gdpo":
            return [advantages([each.value for each in group], self.form) for group in groups]
        weights = {c.score.name: c.weight for c in self.reward.components if c.gate is None and c.weight}
        return gdpo([by_component(group, weights) for group in groups], weights)

    def _group(self, rows: Sequence[Row], found: Sequence[Rewarded], worth: Sequence[float | None]) -> list[Row]:
        judged = [v for each in found if (v := each.parts[self.solved.score].value) is not None]
        rate = rate_of(sum(v >= self.solved.least for v in judged), len(judged))
        place, kind = band(rate.solved, rate.samples), kind_of(worth)
        self.prompts += 1
        self.rows += len(rows)
        self.kinds[kind] += 1
        self.bands[place] += 1
        if rate.samples:
            self.counts.append((rate.solved, rate.samples))
        for each in found:
            self.verdicts[each.verdict] += 1
            if each.value is not None:
                self.values.append(each.value)
            if each.verdict == "scored":
                self.shares.append(each.shares)
        group = {
            "score_pass_rate": rate.value,
            "score_pass_low": rate.low,
            "score_pass_high": rate.high,
            "flag_group": kind,
            "flag_band": place,
        }
        return [
            {**row, **_told(self.reward.name, each), "score_advantage": advantage, **group}
            for row, each, advantage in zip(rows, found, worth, strict=True)
        ]

    def without_gradient(self) -> str:
        """How many groups have none, and why."""
        unjudged = f", {self.kinds['unjudged']:,} not judged" if self.kinds["unjudged"] else ""
        return f"{self.kinds['dead']:,} groups without gradient{unjudged}"

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON."""
        components = component_report(self.shares)
        return {
            "prompts": self.prompts,
            "rows": self.rows,
            "rewards": dict(self.verdicts.most_common()),
            "reward_mean": float(np.mean(self.values)) if self.values else None,
            "reward_sd": float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None,
            "pass_rate_of": self.solved.score,
            "pass_rate": float(np.mean([k / n for k, n in self.counts])) if self.counts else None,
            "bands": dict(self.bands.most_common()),
            "dead_groups": self.kinds["dead"],
            "unjudged_groups": self.kinds["unjudged"],
            "components": components,
            "dominant": [each["score"] for each in components if each["share"] > DOMINANT and len(components) > 1],
            "offers": [_offer(each) for each in offers(self.rows, self.counts)] if self.counts else [],
        }


def by_component(group: Sequence[Rewarded], weights: Mapping[str, float]) -> dict[str, list[float | None]]:
    """What the weighed components of a group's rewards are worth before their weights, one value an output.

    An output without a reward has None; one that failed a gate has the worst of the others in each component.
    """
    found: dict[str, list[float | None]] = {}
    for name, weight in weights.items():
        values = [share / weight if (share := each.shares.get(name)) is not None else None for each in group]
        gain = [value * weight for value in values if value is not None]
        worst = min(gain) / weight if gain else 0.0
        found[name] = [worst if each.verdict == "gated" else v for each, v in zip(group, values, strict=True)]
    return found


def kind_of(worth: Sequence[float | None]) -> str:
    """What the advantages of a group, or its rewards, make it: `dead` where they are all equal, `unjudged` where too
    few were judged to tell, else `live`."""
    if not is_dead(worth):
        return "live"
    return "unjudged" if None in worth and sum(value is not None for value in worth) < 2 else "dead"


def _told(name: str, rewarded: Rewarded) -> Row:
    told: Row = {}
    for part, verdict in rewarded.parts.items():
        told |= {f"score_{part}": verdict.value, f"verdict_{part}": verdict.verdict, f"why_{part}": verdict.why or None}
    return told | {
        f"score_{name}": rewarded.value,
        f"verdict_{name}": rewarded.verdict,
        f"why_{name}": rewarded.why(),
    }


def component_report(shares: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """Of each component: the mean and standard deviation of what it adds to the reward, its correlation with the
    reward, and its share of the reward's variance (covariance with the reward over the reward's variance; the shares
    sum to 1, and one that works against the others is negative)."""
    names = list(dict.fromkeys(name for each in shares for name in each))
    if not names:
        return []
    table = np.array([[each.get(name, 0.0) for name in names] for each in shares])
    total = table.sum(axis=1)
    spread = float(total.var())
    report = []
    for name, column in zip(names, table.T, strict=True):
        together = float(((column - column.mean()) * (total - total.mean())).mean())
        sd = float(column.std())
        report.append(
            {
                "score": name,
                "mean": float(column.mean()),
                "sd": sd,
                "share": together / spread if spread else 0.0,
                "correlation": together / (sd * spread**0.5) if sd and spread else 0.0,
            }
        )
    return report


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "samples": offer.samples,
        "prompts": offer.prompts,
        "live_groups": round(offer.live_groups, 1),
        "dead_share": round(offer.dead_share, 4),
    }
