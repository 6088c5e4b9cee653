"""What a set is worth: yield, score an example, cost of a kept row, gain for a thousand rows and for a unit of money.

A small set that scores nearly as much is the more *efficient*, which is not the same as better: read both.
"""

from typing import NamedTuple

from gristmill.errors import UsageError


class Efficiency(NamedTuple):
    """Kept rows against all of them. Scores are in points."""

    yielded: float
    """Kept over all."""
    per_example: tuple[float, float]
    """Points for each example: kept, all."""
    ratio: float
    """How many times as much an example of the kept set gives."""
    gain: float
    """Points that the kept set scores above the whole."""
    per_thousand: tuple[float, float] | None
    """Points above `base` for each thousand rows: kept, all; None without a base."""
    cost_per_kept: float | None
    gain_per_money: float | None
    """Points above `base` for each unit of money; None without both."""


def efficiency(
    kept: int,
    rows: int,
    score_kept: float,
    score_all: float,
    *,
    base: float | None = None,
    cost: float | None = None,
) -> Efficiency:
    """The efficiency of training on `kept` of `rows` that scored `score_kept` against `score_all`.

    `base` is the score before training, `cost` what all rows took. Raises UsageError for counts that cannot be.
    """
    if not 0 < kept <= rows:
        raise UsageError(f"kept {kept:,} of {rows:,}: allowed are 1 to all of the rows")
    if score_all <= 0 or score_kept < 0:
        raise UsageError(f"scores {score_kept:g} and {score_all:g}: allowed are points above 0")
    mine, theirs = score_kept / kept, score_all / rows
    thousand = None if base is None else ((score_kept - base) / kept * 1000, (score_all - base) / rows * 1000)
    money = (score_kept - base) / cost if base is not None and cost else None
    each = None if cost is None else cost / kept
    return Efficiency(kept / rows, (mine, theirs), mine / theirs, score_kept - score_all, thousand, each, money)
