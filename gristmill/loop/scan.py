"""The scan: which of many overlapping sets of items fail more than the rest, beyond what chance finds among so many?

Kulldorff's scan statistic (1997, doi:10.1080/03610929708831995) for Bernoulli data: of every set the log-likelihood
ratio of *one failure rate inside and a lower one outside* against *one rate for all*. The sets are fixed before the
outcomes are looked at; the largest ratio under outcomes shuffled over the items is what chance reaches, so the chance
to report anything where there is nothing is the level, however many sets there are. Its tail is fitted by a Gumbel
distribution (Abrams, Kulldorff and Kleinman 2010, doi:10.1186/1476-072X-9-61). What was found is taken out and the rest
scanned again (Zhang, Assunção and Kulldorff 2010, doi:10.1155/2010/642379), against the same bar.

An item that was sampled several times counts once, by the share of its samples that failed.

Not covered: where the sets come from (`slices.py`, `clusters.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.special import xlogy
from scipy.stats import gumbel_r

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

SIZES = 40
"""Sizes at which a neighbourhood is looked at, in geometric steps."""


class Sets(NamedTuple):
    """What is looked at. A *set* is named by its number; a *neighbourhood* by its centre and how many it holds."""

    members: Sequence[Ints]
    """The places of the items of each set."""
    nearest: Ints
    """Of each centre, the places of the items by distance (centres × items, may have no rows)."""
    simplicity: Ints
    """Of each set its rank; of nearly equal sets the one with the smallest is preferred."""


class Hit(NamedTuple):
    """A set that stands out."""

    place: int
    """Its number; those of neighbourhoods follow the sets."""
    members: Ints
    ratio: float
    """The log-likelihood ratio, among what was left."""


def ratio(failed: Floats, n: Floats, all_failed: Any, total: Any) -> Floats:
    """Log-likelihood ratios of sets of `n` items with `failed` failures, of `total` with `all_failed`; 0 where the set
    does not fail more often than the rest."""
    out, out_failed = total - n, all_failed - failed
    inside, outside = failed / np.maximum(n, 1e-12), out_failed / np.maximum(out, 1e-12)
    rate = all_failed / total
    value = (
        *(xlogy(failed, inside), xlogy(n - failed, 1 - inside)),
        *(xlogy(out_failed, outside), xlogy(out - out_failed, 1 - outside)),
        *(-xlogy(all_failed, rate), -xlogy(total - all_failed, 1 - rate)),
    )
    found: Floats = np.where((n > 0) & (out > 0) & (inside > outside), np.sum(np.broadcast_arrays(*value), axis=0), 0.0)
    return np.nan_to_num(found)


class Scan:
    """Sets ready to be scanned for items numbered below `count`; those with fewer than `least` items do not count."""

    def __init__(self, sets: Sets, count: int, least: int):
        self.sets, self.count, self.least = sets, count, least
        places = np.concatenate([*sets.members, np.empty(0, np.int64)])
        ends = np.cumsum([0, *map(len, sets.members)])
        self._matrix = sp.csr_matrix((np.ones(len(places)), places, ends), shape=(len(sets.members), count))
        width = sets.nearest.shape[1] if sets.nearest.size else 0
        self.sizes = np.unique(np.geomspace(least, max(width, least), SIZES).round().astype(int)) if width else None

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """The weight of the items of every set, and of every neighbourhood (centres × sizes)."""
        if self.sizes is None:
            return self._matrix @ weights, np.empty((0, 1))
        return self._matrix @ weights, np.cumsum(weights[self.sets.nearest], axis=1)[:, self.sizes - 1]

    def ratios(
        self, failed: Floats, weights: Floats, *, floor: float = 0.0, counts: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """The ratios of the sets, and of the neighbourhoods; 0 for a set whose items fail no more often than `floor`.

        `weights` are how often an item counts: 0 for what is taken out, bootstrap counts; `counts` are those of the
        weights, where they are known.
        """
        lost, total = failed * weights, weights.sum()
        flat, near = (
            np.where((n >= self.least) & (inside > floor * n), ratio(inside, n, lost.sum(), total), 0.0)
            for n, inside in zip(counts or self.counts(weights), self.counts(lost), strict=True)
        )
        return flat, near

    def best(self, failed: Floats, weights: Floats, floor: float = 0.0) -> Hit:
        """The set that stands out most; of those within 2 of the largest ratio the simplest."""
        flat, near = self.ratios(failed, weights, floor=floor)
        top = max(flat.max(initial=0.0), near.max(initial=0.0))
        close = np.flatnonzero(flat >= top - min(2.0, top / 10))
        if len(close):
            place = int(min(close.tolist(), key=lambda n: (self.sets.simplicity[n], -flat[n], n)))
            if flat[place] == top or self.sets.simplicity[place] < PLAIN:
                return Hit(place, self.sets.members[place], float(flat[place]))
        if near.size == 0:
            return Hit(0, np.empty(0, np.int64), 0.0)
        centre, size = np.unravel_index(int(near.argmax()), near.shape)
        assert self.sizes is not None
        members = np.sort(self.sets.nearest[centre, : self.sizes[size]])
        return Hit(len(self.sets.members) + int(centre), members, float(near[centre, size]))

    def chance(self, failed: Floats, *, draws: int, seed: int) -> Floats:
        """The largest ratio under each of `draws` shuffles of the outcomes."""
        rng = np.random.default_rng(seed)
        weights = np.ones(self.count)
        counts = self.counts(weights)
        found = []
        for _ in range(draws):
            flat, near = self.ratios(rng.permutation(failed), weights, counts=counts)
            found.append(max(flat.max(initial=0.0), near.max(initial=0.0)))
        return np.array(found)


PLAIN = 10
"""Simplicity below which a set is described by people's own words, and preferred to a neighbourhood."""


class Bar(NamedTuple):
    """What chance reaches: a Gumbel distribution of the largest ratio."""

    centre: float
    scale: float

    def p_value(self, ratio: float) -> float:
        """How likely chance reaches a ratio anywhere."""
        return float(gumbel_r.sf(ratio, self.centre, self.scale))

    def limit(self, level: float) -> float:
        """The ratio that chance reaches with the probability `level`."""
        return float(gumbel_r.isf(level, self.centre, self.scale))


def bar_of(maxima: Floats) -> Bar:
    """The distribution fitted to maxima by their mean and variance."""
    scale = float(np.std(maxima, ddof=1) * np.sqrt(6) / np.pi)
    return Bar(float(maxima.mean() - np.euler_gamma * scale), max(scale, 1e-9))
