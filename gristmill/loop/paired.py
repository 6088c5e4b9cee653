"""Two models on the same items: who is better, by how much, and whether the items were enough to tell.

Of `n` items both models are right or both wrong on most; what tells them apart are the discordant ones, which one is
right on and the other is not. Whether the models differ is McNemar's exact test (1947, doi:10.1007/BF02295996): under
equality the discordant items fall to either side like a coin. By how much is Tango's score interval (1998, Statistics
in Medicine 17:891-908), which holds its level for few items and no discordant one, where Wald's interval has width 0.
Both are one function of the counts, so power is a sum over the counts and no approximation.

Not covered: outcomes that are not right or wrong; items that depend on each other.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm

Array = np.ndarray[Any, np.dtype[np.float64]]

POWER = 0.8
"""The power that `n` needed is stated for."""

MOST_ITEMS = 50_000
"""Where the search for a number of items ends."""


class Pairs(NamedTuple):
    """What became of `n` items: `gained` only the candidate is right on, `lost` only the baseline."""

    n: int
    gained: int
    lost: int

    @property
    def difference(self) -> float:
        """The candidate's accuracy less the baseline's, -1 to 1; 0 without an item."""
        return (self.gained - self.lost) / self.n if self.n else 0.0


def mcnemar(pairs: Pairs, alternative: str = "two-sided") -> float:
    """The p-value of the exact test that the models are equally good; `greater`: against the candidate being better."""
    discordant = pairs.gained + pairs.lost
    return float(binomtest(pairs.gained, discordant, alternative=alternative).pvalue) if discordant else 1.0


def score(gained: Array | float, lost: Array | float, n: int, difference: float) -> Array:
    """Tango's statistic against the true difference being `difference` (above -1, below 1): about standard normal.

    Large where the data lie above it. The counts may be arrays. The share of lost items is its maximum likelihood
    estimate given the difference.
    """
    gained, lost = np.asarray(gained, float), np.asarray(lost, float)
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    share = (np.sqrt(np.maximum(b * b - 8 * n * c, 0)) - b) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    above = gained - lost - n * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == 0, 0.0, above / np.sqrt(variance))


def interval(pairs: Pairs, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's interval for the difference, in [-1, 1]; of both sides, so each limit alone has half the error.

    Raises ValueError without an item.
    """
    if not pairs.n:
        raise ValueError("an interval for no item")
    z = float(norm.ppf((1 + confidence) / 2))
    here, edge = pairs.difference, 1 - 1e-12

    def limit(sign: float, bound: float) -> float:
        if abs(here - bound) < 1e-12:
            return bound

        def off(difference: float) -> float:
            return float(score(pairs.gained, pairs.lost, pairs.n, difference)) - sign * z

        inner = float(np.clip(here, -edge, edge))
        return float(brentq(off, bound * edge, inner)) if off(bound * edge) * off(inner) < 0 else inner

    return limit(1.0, -1.0), limit(-1.0, 1.0)


def _likely(low: int, high: int, share: float) -> Array:
    """The numbers that a binomial of `low` to `high` trials has with any probability to speak of."""
    return np.arange(max(binom.ppf(1e-7, low, share), 0.0), binom.ppf(1 - 1e-7, high, share) + 1)


def _sum(n: int, discordant: float, gained: float, passes: Any) -> float:
    """The probability that `passes(gained, lost)` over all counts; `gained` is the share of the discordant items."""
    counts = _likely(n, n, discordant)[:, None]
    wins = _likely(int(counts[0, 0]), int(counts[-1, 0]), gained)[None, :]
    chance = binom.pmf(counts, n, discordant) * binom.pmf(wins, counts, gained)
    return min(float(chance[(chance > 0) & passes(wins, counts - wins)].sum()), 1.0)


def _split(discordant: float, difference: float) -> tuple[float, float]:
    """The share of discordant items, at least the difference, and the share of them that are gained."""
    discordant = min(max(discordant, abs(difference), 1e-9), 1.0)
    return discordant, (1 + difference / discordant) / 2


@lru_cache(4096)
def power_not_worse(n: int, margin: float, level: float, discordant: float, difference: float = 0.0) -> float:
    """How probably `n` items show the candidate to be less than `margin` worse, if the true difference is `difference`
    and the share `discordant` of items tells the models apart. At `-margin` it is the probability of a false pass."""
    z = float(norm.isf(level))
    return _sum(n, *_split(discordant, difference), lambda won, lost: score(won, lost, n, -margin) >= z)


@lru_cache(4096)
def power_better(n: int, level: float, discordant: float, difference: float) -> float:
    """How probably the one-sided exact test on `n` items finds the candidate better, if it is so by `difference`."""

    def passes(won: Array, lost: Array) -> Array:
        passed: Array = binom.sf(won - 1, np.maximum(won + lost, 0), 0.5) <= level  # SciPy has no types
        return passed

    return _sum(n, *_split(discordant, difference), passes)


def items_not_worse(
    margin: float, level: float, discordant: float, difference: float = 0.0, power: float = POWER
) -> int:
    """How many items show with that power that a candidate is less than `margin` worse, if the true difference is
    `difference` (above `-margin`); `MOST_ITEMS` at most."""
    spread = float(norm.isf(level) + norm.ppf(power))
    guess = spread**2 * max(discordant, 0.01) / (margin + difference) ** 2
    return _least(lambda n: power_not_worse(n, margin, level, discordant, difference), guess, power)


def items_better(level: float, discordant: float, difference: float, power: float = POWER) -> int:
    """How many items show with that power that a candidate better by `difference` is better."""
    spread = float(norm.isf(level) + norm.ppf(power))
    guess = spread**2 * max(discordant, difference) / difference**2
    return _least(lambda n: power_better(n, level, discordant, difference), guess, power)


def _least(power: Any, guess: float, wanted: float) -> int:
    """About the least n with the wanted power, to a hundredth (power rises in a saw-tooth of n)."""
    low, high = 1, max(int(guess), 10)
    if high >= MOST_ITEMS:
        return MOST_ITEMS
    if power(near := int(high * 0.8)) < wanted:
        low = near
    while power(high) < wanted:
        low, high = high, int(high * 1.3) + 1
        if high >= MOST_ITEMS:
            return MOST_ITEMS
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


def discordance(pairs: Pairs) -> float:
    """The share of items that tell the models apart, kept from 0 and 1 by half an item on either side."""
    return (pairs.gained + pairs.lost + 0.5) / (pairs.n + 1)


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for their number, so that the chance of any false one stays at the level (Holm 1979)."""
    adjusted, most = {}, 0.0
    for place, name in enumerate(sorted(values, key=lambda each: values[each])):
        most = max(most, min(1.0, (len(values) - place) * values[name]))
        adjusted[name] = most
    return adjusted


def pairs_of(base: Sequence[bool], candidate: Sequence[bool]) -> Pairs:
    """The counts of two models' outcomes, item by item."""
    both = list(zip(base, candidate, strict=True))
    return Pairs(len(both), sum(c and not b for b, c in both), sum(b and not c for b, c in both))
