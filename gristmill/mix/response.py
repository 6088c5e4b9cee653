"""How the score of a kind answers to its share: what evaluations of several mixes say, and how sure that is.

The model is score = ceiling - a w^-b - i (1 - w), with w the kind's share of a mix of fixed size: a power law in its
own data (J. Hestness et al., https://arxiv.org/abs/1712.00409) and interference by the rest. It is not fitted to one
curve: every curve of a grid of (a, b, i) is weighed by how well it explains all evaluations so far, with the ceiling
anywhere up to 1 (integrated out, given normal errors). So few evaluations leave many curves, and what they disagree on
is unsure.

Not covered: kinds that help one another; mixes that differ in size.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from gristmill.mix.evals import error

Floats = np.ndarray[Any, np.dtype[np.float64]]

STEP = 0.0025
"""Shares are multiples of it."""
SHARES: Floats = np.linspace(STEP, 1.0, round(1 / STEP))

_A, _B, _I = (
    each.ravel().astype(np.float64)
    for each in np.meshgrid(
        np.concatenate([np.linspace(0, 0.6, 31), np.linspace(0.65, 1, 8)]),  # lost to scarcity at the first share
        np.array([0.2, 0.3, 0.4, 0.5, 0.6]),
        np.array([0.0, 0.04, 0.08]),
        indexing="ij",
    )
)
"""The grid: the exponents that data-scaling laws of language tasks show, and interference up to 8 points."""


class Response(NamedTuple):
    """What a kind may score at each of `SHARES`: a curve a row, with its weight."""

    weights: Floats
    curves: Floats

    def at(self, share: float) -> Floats:
        """What each curve says at a share."""
        place = min(max(round(share / STEP) - 1, 0), len(SHARES) - 1)
        return self.curves[:, place]

    def gain(self, share: float, other: float, level: float = 1.0) -> tuple[float, float]:
        """By how much the score changes from `share` to `other`, above `level` not counting: mean and deviation."""
        apart = np.minimum(self.at(other), level) - np.minimum(self.at(share), level)
        mean = float(self.weights @ apart)
        return mean, float(np.sqrt(self.weights @ (apart - mean) ** 2))

    def expected(self, level: float = 1.0) -> Floats:
        """The mean of the curves, each cut at `level`."""
        found: Floats = self.weights @ np.minimum(self.curves, level)
        return found


def response(shares: Sequence[float], scores: Sequence[float], items: Sequence[int]) -> Response:
    """The curves that explain the evaluations of one kind; all three have an evaluation a place."""
    w, s = np.array(shares), np.array(scores)
    first = max(w[0], STEP)
    lost = _lost(np.maximum(w, STEP), first)
    precision = np.array([error(score, n) ** -2 for score, n in zip(scores, items, strict=True)])
    ceilings = s + lost
    ceiling = (ceilings * precision).sum(axis=1) / precision.sum()
    misfit = ((ceilings - ceiling[:, None]) ** 2 * precision).sum(axis=1)
    logs = -misfit / 2 + stats.norm.logcdf((1 - ceiling) * np.sqrt(precision.sum()))
    weights = np.exp(logs - logs.max())
    curves = np.minimum(ceiling, 1)[:, None] - _lost(SHARES, first)
    return Response(weights / weights.sum(), curves)


def _lost(shares: Floats, first: float) -> Floats:
    """What each curve loses at each share."""
    found: Floats = _A[:, None] * (shares / first) ** -_B[:, None] + _I[:, None] * (1 - shares)
    return found


def best(values: Sequence[Floats], low: Sequence[float], high: Sequence[float]) -> list[float]:
    """The shares (multiples of `STEP`, within bounds, summing to 1) with the highest sum of concave `values`.

    `values` has one array over `SHARES` a kind. Steps go one by one to where they gain most, which is exact for concave
    values. The bounds must allow a sum of 1.
    """
    least = [max(int(np.ceil(each / STEP - 1e-6)), 1) for each in low]
    most = [max(int(np.floor(each / STEP + 1e-6)), n) for each, n in zip(high, least, strict=True)]
    gains = [np.diff(each) for each in values]
    taken = list(least)
    for _ in range(round(1 / STEP) - sum(least)):
        open_ = [k for k in range(len(values)) if taken[k] < most[k]]
        if not open_:
            break
        k = max(open_, key=lambda k: gains[k][taken[k] - 1])
        taken[k] += 1
    return [n * STEP for n in taken]
