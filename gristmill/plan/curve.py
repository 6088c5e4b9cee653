"""How the score rises with data: a saturating power law with honest intervals, and what more data would buy.

    score(n) = ceiling - a n^-b,   a >= 0, 0 < b <= 2, scores from 0 to 1

(the form: Hestness et al. 2017, https://arxiv.org/abs/1712.00409). The intervals are profile likelihoods: every ceiling
and exponent on a grid, a by weighted least squares, and all values that the points do not speak against at 95 %. A
ceiling is often open: where the curve has not bent, the points fit any. Then the answer is *cannot tell*, and no figure
beyond. So it is where the means of the sizes are farther from the best curve than seeds of one size are apart, by the F
test for lack of fit at 1 % (Draper and Smith, Applied Regression Analysis, 3rd ed. 1998, chapter 2): a model that
learns in a jump follows no power law, and the intervals of one would not hold.

Not covered: other forms, scores without a bound, curves that fall; lack of fit where no size has several seeds.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import chi2, f

from gristmill.errors import UsageError

SURE = 0.95

TELLING = 0.1
"""An interval of the score at twice the data that is wider than this says nothing worth saying."""

FLAT = 0.01
"""A gain that is surely below this at twice the data is none: one point."""

LEAST_SIZES = 4
"""Different sizes that are needed: the form has three unknowns."""

MISFIT = 0.01
"""Share of curves of the form that are taken for others, at most."""

ROUNDED = 0.002
"""Scores are told to no more than this, and the grid is no finer: seeds that agree better are not known to."""

Floats = np.ndarray[Any, np.dtype[np.float64]]

EXPONENTS = np.exp(np.linspace(np.log(0.02), np.log(2.0), 160))


class Point(NamedTuple):
    """The score of a model trained on `n` rows, from `items` items (0: not told)."""

    n: int
    score: float
    items: int = 0


class Interval(NamedTuple):
    """A best value and the 95 % interval around it."""

    best: float
    low: float
    high: float


class Curve(NamedTuple):
    """A fitted curve and what it says."""

    ceiling: Interval
    exponent: Interval
    at_most: Interval
    """The score at the largest size."""
    at_twice: Interval
    """The score at twice the largest size."""
    gain: Interval
    """What twice the data adds."""
    verdict: Literal["more data helps", "saturated", "cannot tell"]
    next_point: Interval
    """Rows in all for one point (.01) above the largest size; infinite where no amount does."""
    fits: bool
    """False where the points do not follow the form."""


def fit(points: Sequence[Point]) -> Curve:
    """The curve through points, several of a size for several seeds.

    Raises UsageError for fewer than four sizes, and scores that are not shares.
    """
    n, scores = np.array([each.n for each in points], float), np.array([each.score for each in points], float)
    sizes = np.unique(n)
    if len(sizes) < LEAST_SIZES:
        raise UsageError(f"curve: {len(sizes)} sizes; {LEAST_SIZES} at least, or the form fits anything")
    if not ((scores >= 0) & (scores <= 1)).all() or not (n > 0).all():
        raise UsageError("curve: scores must be shares from 0 to 1, and sizes above 0")
    variances = _variances(points, scores)
    grid = _grid(n, scores, variances)
    top = float(sizes[-1])
    kept = grid.deviance <= grid.deviance.min() + grid.limit
    best = int(np.argmin(grid.deviance))

    def interval(values: Floats) -> Interval:
        return Interval(float(values[best]), float(values[kept].min()), float(values[kept].max()))

    here = grid.ceiling - grid.a * top**-grid.b
    twice = grid.ceiling - grid.a * (2 * top) ** -grid.b
    with np.errstate(divide="ignore", invalid="ignore"):
        left = grid.ceiling - here - 0.01
        wanted = np.where(left > 0, (grid.a / np.where(left > 0, left, 1)) ** (1 / grid.b), np.inf)
    gain = interval(twice - here)
    fits = _fits(n, scores, variances, float(grid.deviance.min()))
    return Curve(
        interval(grid.ceiling),
        interval(grid.b),
        interval(here),
        interval(twice),
        gain,
        _verdict(gain, interval(twice)) if fits and scores.max() > 0 else "cannot tell",
        interval(wanted),
        fits,
    )


def _verdict(gain: Interval, twice: Interval) -> Literal["more data helps", "saturated", "cannot tell"]:
    if gain.high < FLAT:
        return "saturated"
    if gain.low > 0 and twice.high - twice.low <= TELLING and gain.low >= FLAT / 2:
        return "more data helps"
    return "cannot tell"


def _fits(n: Floats, scores: Floats, variances: Floats, deviance: float) -> bool:
    """Whether the means of the sizes are as near to the best curve as what differs between seeds of a size allows."""
    within = 0.0
    for size in np.unique(n):
        mine, weights = scores[n == size], 1 / variances[n == size]
        within += float((weights * (mine - np.average(mine, weights=weights)) ** 2).sum())
    sizes = len(np.unique(n))
    free = len(n) - sizes
    if not free:
        return True
    chance = max(within / free, ROUNDED**2 if (variances == 1).all() else 1.0)
    found = (deviance - within) / (sizes - 3) / chance
    return bool(found <= f.ppf(1 - MISFIT, sizes - 3, free))


def _variances(points: Sequence[Point], scores: Floats) -> Floats:
    """What chance alone makes of each score: binomial, where the items are told; else equal, and found from the fit."""
    items = np.array([each.items for each in points], float)
    if not (items > 0).all():
        return np.ones(len(points))
    smoothed = (scores * items + 1) / (items + 2)
    found: Floats = smoothed * (1 - smoothed) / items
    return found


class _Grid(NamedTuple):
    """Every curve that was tried, flat, with how far the points are from it and how much farther is still allowed."""

    ceiling: Floats
    b: Floats
    a: Floats
    deviance: Floats
    limit: float


def _grid(n: Floats, scores: Floats, variances: Floats) -> _Grid:
    ceilings = np.linspace(max(0.0, scores.min() - 0.05), 1.0, 400)
    ceiling, b = (each.ravel() for each in np.meshgrid(ceilings, EXPONENTS))
    base = n.min()
    powers = (n / base) ** -b[:, None]
    weights = 1 / variances
    off = ceiling[:, None] - scores
    scaled = np.maximum((weights * powers * off).sum(axis=1) / (weights * powers**2).sum(axis=1), 0.0)
    deviance = (weights * (off - scaled[:, None] * powers) ** 2).sum(axis=1)
    free = len(n) - 3
    if (variances == 1).all():
        spread = deviance.min() / free
        limit = float(f.ppf(SURE, 1, free)) * max(float(spread), 1e-18)
    else:
        # Seeds of training add to chance; never less than chance alone.
        limit = float(chi2.ppf(SURE, 1)) * max(1.0, float(deviance.min()) / free)
    return _Grid(ceiling, b, scaled * base**b, deviance, limit)
