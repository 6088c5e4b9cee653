"""What is told of a judge on every run: what it left open, whether order and length move it, how its panel agrees.

Whether it is right is not among this: a judge that was not compared with people is *uncalibrated*, and says so.

Not covered: comparison with people (`calibrate/report.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import orjson
from scipy.stats import spearmanr

from gristmill.calibrate.agreement import agreement, cohen, crossed
from gristmill.calibrate.bias import JUDGED, length, length_controlled, position, self_preference, survivor
from gristmill.score.judge_file import JudgeFile
from gristmill.score.score import Item, Verdict

UNCALIBRATED = "uncalibrated: it was not compared with people (gristmill calibrate)"


class RubricReport:
    """The account of one axis of a rubric."""

    def __init__(self, file: JudgeFile, axis: str):
        self.scale = file.axes[axis].scale
        self.models = file.models
        self.values: Counter[float] = Counter()
        self.spreads: list[float] = []
        self.lengths: list[tuple[int, float]] = []

    def add(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> None:
        """Count a batch."""
        for item, verdict in zip(items, verdicts, strict=True):
            if verdict.value is None:
                continue
            self.values[verdict.value] += 1
            self.lengths.append((len(item.response or ""), verdict.value))
            samples = [value for each in orjson.loads(verdict.why)["samples"] for value in each]
            if len(samples) > 1:
                self.spreads.append(float(np.std(samples, ddof=1)))

    def summary(self) -> dict[str, Any]:
        """Everything so far. `at_top` is the share of the highest value; `length_correlation` is Spearman's."""
        judged = self.values.total()
        return {
            "calibrated": UNCALIBRATED,
            "models": list(self.models),
            "scale": list(self.scale),
            "values": {f"{value:g}": count for value, count in sorted(self.values.items())},
            "at_top": self.values[self.scale[1]] / judged if judged else None,
            "spread_within_item": float(np.mean(self.spreads)) if self.spreads else None,
            "length_correlation": _spearman(self.lengths),
        }


def _spearman(pairs: Sequence[tuple[int, float]]) -> float | None:
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


class PairwiseReport:
    """The account of a pairwise judge."""

    def __init__(self, file: JudgeFile):
        self.models = file.models
        self.both_orders = file.orders == "both"
        self.verdicts: list[str] = []
        self.lengths: list[tuple[int, int]] = []
        self.authors: list[tuple[str, str]] = []
        self.orders: list[list[list[str]]] = []

    def add(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> None:
        """Count a batch."""
        for item, verdict in zip(items, verdicts, strict=True):
            self.verdicts.append(verdict.verdict)
            self.lengths.append((len(item.response or ""), len(item.other or "")))
            self.authors.append((str(item.meta.get("chosen_model", "")), str(item.meta.get("rejected_model", ""))))
            told = orjson.loads(verdict.why) if verdict.why[:1] == "{" else {}
            self.orders.append(told.get("by_order") or [["error"] * (1 + self.both_orders)] * len(self.models))

    def summary(self) -> dict[str, Any]:
        """Everything so far."""
        a, b = zip(*self.lengths, strict=True) if self.lengths else ((), ())
        return {
            "calibrated": UNCALIBRATED,
            "models": list(self.models),
            "position": [self._position(number) for number in range(len(self.models))] if self.both_orders else None,
            "length": length(self.verdicts, a, b)._asdict(),
            "win_rate": length_controlled(self.verdicts, a, b)._asdict(),
            "self_preference": self._self_preferences(),
            "panel_agreement": self._panel(),
        }

    def _position(self, number: int) -> dict[str, Any]:
        a_first = [orders[number][0] for orders in self.orders]
        b_first = [orders[number][1] for orders in self.orders]
        found = position(a_first, b_first)
        return {"model": self.models[number], **found._asdict(), "rate": found.rate if found.pairs else None}

    def _self_preferences(self) -> list[dict[str, Any]]:
        a, b = zip(*self.authors, strict=True) if self.authors else ((), ())
        found = [(model, self_preference(model, self.verdicts, a, b)) for model in self.models]
        return [{"model": model, **each._asdict()} for model, each in found if each.pairs]

    def _panel(self) -> list[dict[str, Any]]:
        """How each two of the panel agree; where errors go together, two judges are hardly better than one."""
        found = []
        for one, other in combinations(range(len(self.models)), 2):
            words = [(_survived(orders[one]), _survived(orders[other])) for orders in self.orders]
            both = [pair for pair in words if set(pair) <= set(JUDGED)]
            if both:
                table = crossed(*map(list, zip(*both, strict=True)))
                names = [self.models[one], self.models[other]]
                found.append({"models": names, "pairs": len(both), "agree": agreement(table), "kappa": cohen(table)})
        return found


def _survived(orders: Sequence[str]) -> str:
    return survivor(*orders) if len(orders) == 2 else orders[0]


def words_of(report: Mapping[str, Any]) -> list[str]:
    """What a summary says to people, line by line."""
    order = [each for each in report.get("position") or () if each["pairs"]]
    lengths, rate = report.get("length") or {"pairs": 0}, report.get("win_rate") or {"pairs": 0}
    return [
        *([report["calibrated"]] if "calibrated" in report else []),
        *(
            f"order: {each['rate']:.1%} of {each['pairs']:,} verdicts of {each['model']} flip "
            f"({each['to_first']:,} to the first shown, {each['to_second']:,} to the second; p = {each['p']:.2g})"
            for each in order
        ),
        *(
            [f"length: the longer response wins {lengths['longer_wins']:.1%} of {lengths['pairs']:,} decided pairs"]
            if lengths["pairs"]
            else []
        ),
        *(
            [
                f"the chosen wins {rate['raw']:.1%}, at equal length {rate['controlled']:.1%} "
                f"({rate['interval'][0]:.1%} to {rate['interval'][1]:.1%})"
            ]
            if rate["pairs"]
            else []
        ),
        *(
            f"author: {each['model']} prefers its own response in {each['own_wins']:.1%} of {each['pairs']:,} pairs"
            for each in report.get("self_preference") or ()
        ),
        *(
            f"panel: {' and '.join(each['models'])} agree on {each['agree']:.1%} (kappa {each['kappa']:.2f})"
            for each in report.get("panel_agreement") or ()
        ),
        *(
            [f"length: its correlation with the score (Spearman) is {report['length_correlation']:.2f}"]
            if report.get("length_correlation") is not None
            else []
        ),
    ]
