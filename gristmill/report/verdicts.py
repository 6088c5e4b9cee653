"""The limits of a filter applied again to the values it stored, so that a limit can be moved without measuring.

A filter's rules and score thresholds come from `summary.json` (`explain.limits_of`), the values from `rows.parquet`.
Not covered: what compares rows with each other (`near_again.py` for near duplicates) and `--keep-top`, whose limit is
a rank.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gristmill.explain import limits_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Side = Literal["least", "most"]


class Bound(NamedTuple):
    """One end of a limit: the smallest (`least`) or greatest (`most`) value of a column that is still good."""

    column: str
    side: Side
    value: float


class Judge(NamedTuple):
    """A rule that can be judged from stored values.

    A row fails it if in some case it breaks every bound, or, where `missing` names a column, if it has no value there.
    """

    name: str
    cases: tuple[tuple[Bound, ...], ...]
    missing: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns whose values it needs."""
        return [bound.column for case in self.cases for bound in case] + ([self.missing] if self.missing else [])


def judges(summary: dict[str, Any], columns: Iterable[str]) -> list[Judge]:
    """The rules of a summary that drop rows by the values of these columns, in the order in which they are tried.

    A limit with two ends becomes two cases; a case with a column that is not there cannot fail and is left out.
    """
    there = set(columns)
    rules = summary.get("rules") or {}
    named = {str(rule.get("name")): rule for rule in rules} if isinstance(rules, list) else rules
    limits = limits_of(summary)
    found = []
    for name, rule in named.items():
        score = f"score_{name.removeprefix('unjudged_')}"
        if rule.get("action", "drop") != "drop":
            continue
        cases = [case for ends in limits.get(name, []) for case in product(*map(_ends, ends))]
        cases = [case for case in cases if {bound.column for bound in case} <= there]
        if cases:
            found.append(Judge(name, tuple(cases)))
        elif name.startswith("unjudged_") and score in there:
            found.append(Judge(name, (), missing=score))
    return found


def _ends(limit: dict[str, Any]) -> list[Bound]:
    sides: tuple[Side, Side] = ("least", "most")
    return [Bound(limit["measure"], side, float(limit[side])) for side in sides if limit[side] is not None]


def breaks(values: Floats, side: Side, limit: float) -> Mask:
    """Which values are outside; one that was not measured (NaN) never is."""
    mask: Mask = values < limit if side == "least" else values > limit
    return mask


def failures(values: dict[str, Floats], rules: list[Judge]) -> list[Mask]:
    """For each rule the rows that fail it, whatever the other rules say."""
    rows = len(next(iter(values.values()), np.empty(0)))
    found = []
    for rule in rules:
        fails = np.isnan(values[rule.missing]) if rule.missing else np.zeros(rows, bool)
        for case in rule.cases:
            fails |= np.logical_and.reduce([breaks(values[b.column], b.side, b.value) for b in case])
        found.append(fails)
    return found


def at_risk(values: dict[str, Floats], rule: Judge, column: str, side: Side) -> tuple[Mask, Mask]:
    """Rows that this one limit of the rule decides, and rows that fail the rule whatever the limit is."""
    rows = len(values[column])
    decides, lost = np.zeros(rows, bool), np.zeros(rows, bool)
    for case in rule.cases:
        others = [bound for bound in case if (bound.column, bound.side) != (column, side)]
        broken = np.ones(rows, bool)
        for bound in others:
            broken &= breaks(values[bound.column], bound.side, bound.value)
        if len(others) < len(case):
            decides |= broken
        else:
            lost |= broken
    return decides & ~lost, lost
