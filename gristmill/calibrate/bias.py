"""What moves a pairwise judge other than the answers: their order, their length, their author.

Verdicts are `A`, `B`, `tie`, `both_bad`, or a word for why there is none; `A` is always the same answer, whichever came
first. Raw shares are no bias where people do the same: on PandaLM's pairs people prefer the longer answer 67 % of the
time, so where there are people's verdicts, the difference on the same items is what is told.

Not covered: biases of rubrics (there is no order); style beyond length.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest

from gristmill.calibrate.agreement import bootstrap

DECIDED = ("A", "B")
JUDGED = ("A", "B", "tie", "both_bad")
"""Verdicts that say something of the answers."""

Verdicts = Sequence[str]


class Position(NamedTuple):
    """What the order did, over pairs that were judged in both orders."""

    pairs: int
    flips: int
    """Pairs whose verdict changed with the order."""
    to_first: int
    """Of those, pairs where whoever came first won both times."""
    to_second: int
    p: float
    """Exact McNemar: as uneven a split of the flips, if the order did not matter."""

    @property
    def rate(self) -> float:
        """The share of pairs that flipped."""
        return self.flips / self.pairs if self.pairs else float("nan")


def position(a_first: Verdicts, b_first: Verdicts) -> Position:
    """The effect of the order: verdicts with answer A shown first, and with B shown first, of the same pairs."""
    both = [(x, y) for x, y in zip(a_first, b_first, strict=True) if x in JUDGED and y in JUDGED]
    first = sum((x, y) == ("A", "B") for x, y in both)
    second = sum((x, y) == ("B", "A") for x, y in both)
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return Position(len(both), sum(x != y for x, y in both), first, second, float(p))


def survivors(a_first: Verdicts, b_first: Verdicts) -> list[str]:
    """One verdict a pair: a win only if it survives the change of order, a tie if the orders contradict each other, the
    failure if one of them failed."""
    return [survivor(x, y) for x, y in zip(a_first, b_first, strict=True)]


def survivor(a_first: str, b_first: str) -> str:
    """What is left of the verdicts on one pair in both orders."""
    for verdict in (a_first, b_first):
        if verdict not in JUDGED:
            return verdict
    return a_first if a_first == b_first else "tie"


class Length(NamedTuple):
    """How often the longer answer won, of the pairs that were decided and differ in length."""

    pairs: int
    longer_wins: float
    human_longer_wins: float | None
    """People's share on the same pairs; None without people."""
    difference: float | None
    """The judge's less people's."""
    interval: tuple[float, float] | None
    """95 %, of the difference, by resampled pairs."""


def length(
    verdicts: Verdicts, a_lengths: Sequence[int], b_lengths: Sequence[int], human: Verdicts | None = None
) -> Length:
    """The effect of length; with `human` verdicts only pairs count that both decided."""
    people: Verdicts = human if human is not None else verdicts
    rows = [
        ((v == "A") == (a > b), (h == "A") == (a > b))
        for v, a, b, h in zip(verdicts, a_lengths, b_lengths, people, strict=True)
        if v in DECIDED and h in DECIDED and a != b
    ]
    if not rows:
        return Length(0, float("nan"), None, None, None)
    wins = np.array(rows, float)
    judge, theirs = wins.mean(axis=0)
    if human is None:
        return Length(len(rows), float(judge), None, None, None)
    interval = bootstrap(lambda n: float((wins[n, 0] - wins[n, 1]).mean()), len(rows))
    return Length(len(rows), float(judge), float(theirs), float(judge - theirs), interval)


class WinRate(NamedTuple):
    """How often A beats B, ties counted as half."""

    pairs: int
    raw: float
    controlled: float
    """What it would be if the answers were of equal length."""
    interval: tuple[float, float]
    """95 %, of the controlled rate, by resampled pairs."""


def length_controlled(verdicts: Verdicts, a_lengths: Sequence[int], b_lengths: Sequence[int]) -> WinRate:
    """The length-controlled win rate of A (Dubois et al. 2024, https://arxiv.org/abs/2404.04475), in the form without
    terms for single prompts, which are fitted to AlpacaEval's own: logit P(A wins) = theta + phi tanh(d / sd(d)) with d
    the difference in length; at d = 0 the rate is sigmoid(theta). Departures: ties are half a win, a small ridge on phi
    instead of a cross-validated one on all.
    """
    rows = [
        (1.0 if v == "A" else 0.0 if v == "B" else 0.5, a - b)
        for v, a, b in zip(verdicts, a_lengths, b_lengths, strict=True)
        if v in JUDGED
    ]
    if not rows:
        return WinRate(0, float("nan"), float("nan"), (float("nan"), float("nan")))
    wins, apart = np.array(rows).T
    spread = apart.std() or 1.0
    shifts = np.tanh(apart / spread)
    interval = bootstrap(lambda n: _at_equal_length(wins[n], shifts[n]), len(rows))
    return WinRate(len(rows), float(wins.mean()), _at_equal_length(wins, shifts), interval)


def _at_equal_length(wins: Any, shifts: Any) -> float:
    def loss(at: Any) -> tuple[float, Any]:
        logits = at[0] + at[1] * shifts
        off = expit(logits) - wins
        value = np.logaddexp(0, logits).sum() - (wins * logits).sum() + RIDGE * at[1] ** 2
        return float(value), np.array([off.sum(), (off * shifts).sum() + 2 * RIDGE * at[1]])

    return float(expit(minimize(loss, np.zeros(2), jac=True, method="BFGS").x[0]))


RIDGE = 0.05


class SelfPreference(NamedTuple):
    """How often a judge's own answers won against others'."""

    pairs: int
    own_wins: float
    human_own_wins: float | None
    difference: float | None
    interval: tuple[float, float] | None


def self_preference(
    judge: str, verdicts: Verdicts, a_authors: Sequence[str], b_authors: Sequence[str], human: Verdicts | None = None
) -> SelfPreference:
    """The effect of the author, over decided pairs of which the judge wrote exactly one answer."""
    own_a = [1 if a == judge != b else -1 if b == judge != a else 0 for a, b in zip(a_authors, b_authors, strict=True)]
    found = length(verdicts, own_a, [0] * len(own_a), human)  # the own answer is the "longer" one
    return SelfPreference(*found)
