"""The arithmetic of MinHash banding: how many hashes, in how many bands, find which share of pairs.

Two rows of Jaccard similarity s agree in one MinHash with probability s (Broder 1997), in all r rows of a band with
s^r, and in at least one of b bands with 1 - (1 - s^r)^b: the S-curve (Leskovec, Rajaraman, Ullman, *Mining of Massive
Datasets*, 3.4.2). Candidates are verified, so a false candidate costs time, never a row.
"""

from math import ceil, log1p
from typing import NamedTuple

from gristmill.errors import UsageError

LOW_SHARE = 0.2
"""At most this share of pairs at LOW of the threshold may become candidates: it bounds the work of verification."""
LOW = 0.625
MAX_HASHES = 512


class Bands(NamedTuple):
    """`bands` groups of `rows` MinHashes."""

    bands: int
    rows: int

    @property
    def hashes(self) -> int:
        """MinHashes a signature has."""
        return self.bands * self.rows

    def probability(self, jaccard: float) -> float:
        """The probability that a pair of this similarity (0..1) becomes a candidate."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)

    def s_curve(self) -> list[tuple[float, float]]:
        """(similarity, probability) from 0 to 1 in steps of 0.05."""
        return [(step / 20, self.probability(step / 20)) for step in range(21)]


def bands_for(threshold: float, recall: float) -> Bands:
    """The fewest hashes that catch `recall` of the pairs at `threshold` and few of the dissimilar ones.

    For each r the number of bands follows from 1 - (1 - threshold^r)^b >= recall; of those whose probability at
    `LOW` × threshold is at most `LOW_SHARE`, the one with the fewest hashes is taken. At 0.8 and 0.98: 13 bands of 6.
    Raises UsageError for a threshold or recall outside (0, 1), or where `MAX_HASHES` do not reach them.
    """
    if not 0 < threshold < 1:
        raise UsageError(
            f"--near {threshold:g}: allowed is above 0 and below 1; for 1 leave --exact on and use --near off"
        )
    if not 0 < recall < 1:
        raise UsageError(f"--near-recall {recall:g}: allowed is above 0 and below 1")
    fitting = []
    for rows in range(1, 33):
        bands = ceil(log1p(-recall) / log1p(-(threshold**rows))) if threshold**rows < 1 else 1
        choice = Bands(max(bands, 1), rows)
        if choice.hashes <= MAX_HASHES and choice.probability(LOW * threshold) <= LOW_SHARE:
            fitting.append(choice)
    if not fitting:
        raise UsageError(
            f"--near {threshold:g} --near-recall {recall:g}: needs over {MAX_HASHES} hashes; lower the recall"
        )
    return min(fitting, key=lambda choice: (choice.hashes, choice.rows))
