"""Scores of different scales on a common one, before they are weighed.

Without it the component that varies most decides a composite, whatever the weights say. Values that are None stay None
and do not count.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.stats import rankdata

Way = Literal["none", "z", "minmax", "rank"]


def normalized(values: Sequence[float | None], way: Way) -> list[float | None]:
    """The values on the scale of `way`: `z` (mean 0, sample standard deviation 1), `minmax` (0 to 1), `rank` (0 to 1,
    ties share their mean rank). Where all values are equal they say nothing: 0 in `z`, one half in the others.
    """
    known = np.array([value for value in values if value is not None], float)
    if way == "none" or not len(known):
        return list(values)
    scaled = iter(_WAYS[way](known).tolist())
    return [None if value is None else next(scaled) for value in values]


Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def _z(values: Floats) -> Floats:
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return (
        (values - values.mean()) / spread if spread > _EPSILON * max(1.0, abs(values).max()) else np.zeros_like(values)
    )


def _minmax(values: Floats) -> Floats:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)


def _rank(values: Floats) -> Floats:
    return (rankdata(values) - 1) / (len(values) - 1) if len(values) > 1 else np.full_like(values, 0.5)


_EPSILON = 1e-12  # below this share of the values a spread is rounding

_WAYS: dict[Way, Callable[[Floats], Floats]] = {"z": _z, "minmax": _minmax, "rank": _rank}
