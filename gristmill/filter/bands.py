"""The arithmetic of MinHash banding: how many hashes, in how many bands, find which share of pairs.

Two rows of Jaccard similarity s agree in one MinHash with probability s (Broder 1997), in all r rows of a band with
s^r, and in at least one of b bands with 1 - (1 - s^r)^b: the S-curve (Leskovec, Rajaraman, Ullman, *Mining of Massive
Datasets*, 3.4.2). Candidates are verified, so a false candidate costs time, never a row.
"""

from math import ceil, log1p
from typing import NamedTuple

from gristmill.errors import UsageError

MAX_HASHES = 128
"""MinHashes a signature may have: what most tools take for all of them."""


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
    """The steepest banding that catches `recall` of the pairs at `threshold` with at most `MAX_HASHES`.

    For each r the bands follow from 1 - (1 - threshold^r)^b >= recall; the largest r that fits makes the fewest false
    candidates. At 0.8 and 0.99: 16 bands of 6. Raises UsageError for a threshold or recall outside (0, 1), or where no
    r fits.
    """
    for flag, value in (("--near", threshold), ("--near-recall", recall)):
        if not 0 < value < 1:
            raise UsageError(f"{flag} {value:g}: allowed is above 0 and below 1")
    fitting = [Bands(ceil(log1p(-recall) / log1p(-(threshold**rows))), rows) for rows in range(1, 33)]
    fitting = [choice for choice in fitting if choice.hashes <= MAX_HASHES]
    if not fitting:
        raise UsageError(
            f"--near {threshold:g} --near-recall {recall:g}: over {MAX_HASHES} hashes; raise the one or lower the other"
        )
    return fitting[-1]
