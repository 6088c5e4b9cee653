"""Where a slider may stand, and values rounded so that every stop parts the rounded ones as it parts the measured."""

from math import floor, log10
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["least", "most"]
Floats = NDArray[np.float64]
POINTS = 100
"""Quantiles among the stops of a slider."""
_SIDES: tuple[Side, Side] = ("least", "most")
_LARGEST = float(np.finfo(np.float64).max)


def decimals_of(values: Floats) -> int:
    """Decimals (0..12) that tell some ten thousand values apart between the smallest and the greatest."""
    known = values[np.isfinite(values)]
    width = float(known.max() - known.min()) if len(known) else 0.0
    return min(max(4 - floor(log10(width)), 0), 12) if width > 0 else 4


def stops_of(values: Floats, ends: tuple[float, float], limit: float) -> list[float]:
    """The stops of a slider, ascending: quantiles of the values in few digits, both `ends`, and the limit itself."""
    known = values[np.isfinite(values)]
    fine = decimals_of(known)
    low, high = (float(rounded(np.array([end]), side, fine)[0]) for end, side in zip(ends, _SIDES, strict=True))
    marks = np.quantile(known, np.linspace(0, 1, POINTS + 1), method="nearest").tolist() if len(known) else []
    marks = [round(mark, _digits(mark, fine)) for mark in marks]
    return sorted({mark for mark in marks if low < mark < high} | {low, high, limit})


def _digits(value: float, fine: int) -> int:
    """Decimals for two significant digits, or for a hundredth of the range where that is finer."""
    two = 1 - floor(log10(abs(value))) if value else 0
    return min(max(two, fine - 2), fine)


def rounded(values: Floats, side: Side, decimals: int) -> Floats:
    """Values at so many decimals: down for a smallest good value, up for a greatest.

    `v < t` and `v > t` are then the same for the measured and the rounded value, for every `t` of so many decimals.
    """
    near = np.round(np.clip(values, -_LARGEST, _LARGEST), decimals)
    step = 10.0**-decimals
    wrong = near > values if side == "least" else near < values
    return np.where(wrong, np.round(near - step if side == "least" else near + step, decimals), near)
