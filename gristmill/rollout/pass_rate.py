"""How often a policy solves a prompt: rates with intervals, bands of difficulty, and what a budget buys.

With 8 samples a rate is a guess: a prompt solved one time in twenty shows 0 of 8 with probability .66. So a prompt is
put into a band only when the data allow it, and is *unknown* else. A rate belongs to the policy that was sampled.

Not covered: which samples count as solved (`score/`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaln

from gristmill.intervals import wilson

BANDS = (("hard", 0.0, 0.25), ("medium", 0.25, 0.75), ("easy", 0.75, 1.0))
"""Names and bounds of the bands."""

SURE = 0.8
"""The posterior probability with which a prompt must lie in a band to be put there."""


class Rate(NamedTuple):
    """`solved` of `samples`, and the interval around the rate."""

    solved: int
    samples: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The observed rate; None without a sample."""
        return self.solved / self.samples if self.samples else None


def rate_of(solved: int, samples: int) -> Rate:
    """The rate with its 95 % interval, which is everything where nothing was sampled."""
    return Rate(solved, samples, *wilson(solved, samples))


def band(solved: int, samples: int, *, sure: float = SURE) -> str:
    """The band that holds the rate with posterior probability `sure`, under a uniform prior; `unknown` if none does."""
    right, wrong = 1 + solved, 1 + samples - solved
    for name, low, high in BANDS:
        if betainc(right, wrong, high) - betainc(right, wrong, low) >= sure:  # the beta distribution function
            return name
    return "unknown"


def dead_share(rate: float, samples: int) -> float:
    """The probability that all outputs of a group are right or all are wrong: p^G + (1-p)^G."""
    return float(rate**samples + (1 - rate) ** samples)


class Offer(NamedTuple):
    """What a budget buys at one group size."""

    samples: int
    """Outputs a prompt."""
    prompts: int
    live_groups: float
    """Expected groups that have a gradient."""
    dead_share: float
    """Expected share of groups without one."""


def expected_dead_share(solved: int, samples: int, size: int) -> float:
    """The expected `dead_share` at another group size of a prompt that was solved so often, under a uniform prior.

    0 of 4 does not make a prompt hopeless, so the rate is not taken at its face value: E[p^G] = B(a+G, b) / B(a, b).
    """
    right, wrong = 1 + solved, 1 + samples - solved
    whole = betaln(right, wrong)
    return float(np.exp(betaln(right + size, wrong) - whole) + np.exp(betaln(right, wrong + size) - whole))


def offers(budget: int, counts: Sequence[tuple[int, int]], sizes: Sequence[int] = (4, 8, 16, 32, 64)) -> list[Offer]:
    """What `budget` outputs buy at each group size, for prompts like these: (solved, samples) of each.

    Ten times the samples cost ten times as much; whether that pays depends on how many groups it wakes up.
    """
    found = []
    for size in sizes:
        dead = sum(expected_dead_share(*count, size) for count in counts) / len(counts) if counts else 1.0
        prompts = budget // size
        found.append(Offer(size, prompts, prompts * (1 - dead), dead))
    return found
