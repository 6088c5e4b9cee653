"""How far a filter moved one distribution, and whether that is more than chance.

The kept rows are part of all rows, so before and after are not independent; kept and dropped are, under a filter that
looks at nothing. So kept against dropped is tested, and before against after is reported. With a share d of the rows
dropped both say the same: Cliff's delta of kept against all rows is d times that of kept against dropped, because all
rows are a mixture of the two.

- Ordered values: Cliff's delta (Cliff 1993, https://doi.org/10.1037/0033-2909.114.3.494), P(kept > any) less
  P(kept < any), with the asymmetric interval of Feng & Cliff (2004, J. Modern Applied Statistical Methods 3(2)) around
  the kept-against-dropped delta; its variance is the sum of the two groups' variances (Brunner & Munzel 2000), without
  Cliff's third term, which vanishes with size.
- Shares: Jensen–Shannon distance to base 2 (Lin 1991, https://doi.org/10.1109/18.61115; Endres & Schindelin 2003), 0 to
  1. Chance alone makes distances, so the interval is of the distance without that: percentiles of a parametric
  bootstrap of the divergence, less its bias (Efron & Tibshirani 1993, ch. 10 and 13). In a small set the distance may
  lie above it. In simulations it held the truth in 93 to 98 of 100 sets with 15 rows
  a bin or more, in 82 with five.
- Tests: rank sum over the bins, tie-corrected, and Pearson's chi-square of kept/dropped by bin. Where the expected
  counts are small and the asymptotic p-value is below 0.05, it is replaced by that of random keeps of the same size
  (a permutation test; (b + 1)/(m + 1) as in Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585).

Not covered: rows that were dropped in groups, as near duplicates are; they count as independent.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr, rel_entr

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

Z = 1.959964
"""Normal quantile of the 95 % intervals."""

BOOTSTRAPS = 500
PERMUTATIONS = 19_999
FEW_EXPECTED = 50.0
"""Expected count below which p-values under 0.05 come from permutations."""


class Dominance(NamedTuple):
    """Cliff's delta of kept rows against all rows, its interval, and the part of it that each dropped row makes."""

    effect: float
    low: float
    high: float
    parts: Floats


def dominance(kept: Floats, dropped: Floats) -> Dominance:
    """Cliff's delta of `kept` against `kept` and `dropped` together, in [-1, 1]; both hold at least two values.

    `parts` has a value for each dropped row; they sum to the effect.
    """
    over = _placements(kept, dropped)
    under = -_placements(dropped, kept)
    delta = float(over.mean())
    variance = float(over.var(ddof=1)) / len(kept) + float(under.var(ddof=1)) / len(dropped)
    low, high = _cliff_interval(delta, variance)
    share = len(dropped) / (len(kept) + len(dropped))
    return Dominance(share * delta, share * low, share * high, under / (len(kept) + len(dropped)))


def _placements(values: Floats, others: Floats) -> Floats:
    """For each value the share of the others below it less the share above it."""
    ordered = np.sort(others)
    sides = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    placed: Floats = sides / len(others) - 1
    return placed


def _cliff_interval(delta: float, variance: float) -> tuple[float, float]:
    z2v = Z**2 * variance
    below = 1 - delta**2 + z2v
    if below <= 0:  # complete separation: no variance to go by
        return delta, delta
    middle, half = delta - delta**3, Z * np.sqrt(variance * ((1 - delta**2) ** 2 + z2v))
    return max(-1.0, float((middle - half) / below)), min(1.0, float((middle + half) / below))


def js_distance(kept: Counts, dropped: Counts) -> tuple[float, float, float]:
    """Jensen–Shannon distance, 0 to 1, between the shares before and after, and its 95 % interval.

    `kept` and `dropped` are counts by category; both have a positive sum.
    """
    random = np.random.default_rng(0)
    divergence = float(_divergence(kept, kept + dropped))
    again = random.multinomial(kept.sum(), kept / kept.sum(), BOOTSTRAPS)
    rest = random.multinomial(dropped.sum(), dropped / dropped.sum(), BOOTSTRAPS)
    drawn = _divergence(again, again + rest)
    # The draws are off by the chance part twice: once in the counts they are drawn from, once in themselves.
    low, high = np.quantile(drawn, [0.025, 0.975]) - 2 * (drawn.mean() - divergence)
    distances = np.sqrt(np.clip([divergence, low, high], 0, 1))
    return float(distances[0]), float(distances[1]), float(distances[2])


def _divergence(after: Counts, before: Counts) -> Floats:
    p, q = (counts / counts.sum(-1, keepdims=True) for counts in (after, before))
    middle = (p + q) / 2
    divergence: Floats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(-1) / (2 * np.log(2))
    return divergence


def stability_index(kept: Counts, dropped: Counts) -> float:
    """Population stability index, Σ (after − before) ln(after/before), at least 0.

    Half a row is added to every count, so that a category which vanished leaves it finite. By custom below 0.1 is no
    change, above 0.25 a major one (Yurdakul 2018, https://scholarworks.wmich.edu/dissertations/3208).
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (kept, kept + dropped))
    return float(((p - q) * np.log(p / q)).sum())


def p_values(kept: Counts, dropped: Counts) -> tuple[float, float]:
    """Of a filter that looks at nothing: P(rank sum this far off), P(shares this far apart). See the module's head."""
    total = kept + dropped
    kept, total = kept[total > 0], total[total > 0]
    n, k = total.sum(), kept.sum()
    expected = total * (k / n)
    ranks = np.cumsum(total) - (total - 1) / 2
    spread = k * (n - k) / (n * (n - 1)) * float((total * (ranks - (n + 1) / 2) ** 2).sum())
    if len(total) < 2 or spread <= 0:
        return 1.0, 1.0

    def statistics(draws: NDArray[np.int64]) -> tuple[Floats, Floats]:
        away = draws - expected
        return np.abs(away @ ranks), (away**2 / expected).sum(-1) * n / (n - k)

    off, apart = statistics(kept)
    location = float(2 * ndtr(-off / np.sqrt(spread)))
    shape = float(chdtrc(len(total) - 1, apart))
    smallest = float(total.min() * min(k, n - k) / n)
    if smallest < FEW_EXPECTED and min(location, shape) < 0.05:
        draws = np.random.default_rng(0).multivariate_hypergeometric(total, k, PERMUTATIONS, method="marginals")
        offs, aparts = statistics(draws)
        tolerance = 1 - 1e-9  # equal statistics may differ by rounding
        location = float((1 + (offs >= off * tolerance).sum()) / (PERMUTATIONS + 1))
        shape = float((1 + (aparts >= apart * tolerance).sum()) / (PERMUTATIONS + 1))
    return location, shape


def holm(p: list[float]) -> list[float]:
    """P-values adjusted for all the tests made (Holm 1979, https://www.jstor.org/stable/4615733), in the same order."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]
