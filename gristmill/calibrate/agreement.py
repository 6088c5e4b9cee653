"""How far raters agree beyond chance: Cohen's kappa, Scott's pi, Gwet's AC1, Fleiss' kappa, Krippendorff's alpha.

Raw agreement says little where one label is common: a rater who always says it agrees often. Each coefficient takes out
what chance would give, under a chance model of its own, so several are worth seeing together with the raw agreement.

- Cohen (1960), weighted (1968): https://doi.org/10.1177/001316446002000104
- Scott (1955): https://doi.org/10.1086/266577
- Gwet's AC1 (2008): https://doi.org/10.1348/000711006X126600
- Fleiss (1971): https://doi.org/10.1037/h0031619
- Krippendorff's alpha, nominal, ordinal, interval, with missing labels:
  https://doi.org/10.1080/19312458.2007.11664683

Not covered: weights other than quadratic; raters nested in groups.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Labels = Sequence[Hashable]
Scale = Literal["nominal", "ordinal", "interval"]

RESAMPLES = 2_000


def crossed(one: Labels, other: Labels) -> Floats:
    """How often each label of one rater meets each of the other; rows and columns in the order of the sorted labels."""
    labels = {label: n for n, label in enumerate(sorted({*one, *other}, key=str))}
    table = np.zeros((len(labels), len(labels)))
    np.add.at(table, ([labels[a] for a in one], [labels[b] for b in other]), 1)
    return table


def agreement(table: Floats) -> float:
    """The share of items with equal labels, from a table of `crossed`."""
    return float(np.trace(table) / table.sum()) if table.sum() else float("nan")


def cohen(table: Floats, *, quadratic: bool = False) -> float:
    """Cohen's kappa of a table of `crossed`; `quadratic` weighs a disagreement by its squared distance."""
    size = len(table)
    places = np.arange(size)
    apart = (places[:, None] - places) ** 2 if quadratic else 1 - np.eye(size)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return _beyond(1 - float((apart * table).sum()), 1 - float((apart * expected).sum()))


def scott(table: Floats) -> float:
    """Scott's pi of a table of `crossed`."""
    return _chance_corrected(table, lambda shares: float((shares**2).sum()))


def ac1(table: Floats) -> float:
    """Gwet's AC1 of a table of `crossed`; it stays sensible where one label is nearly everything."""
    return _chance_corrected(table, lambda shares: float((shares * (1 - shares)).sum() / max(len(shares) - 1, 1)))


def _chance_corrected(table: Floats, chance: Callable[[Floats], float]) -> float:
    shares = (table.sum(axis=0) + table.sum(axis=1)) / 2 / table.sum()
    expected = chance(shares)
    return (agreement(table) - expected) / (1 - expected) if expected < 1 else float("nan")


def _beyond(observed: float, expected: float) -> float:
    return 1 - (1 - observed) / (1 - expected) if expected != 1 else float("nan")


def fleiss(counts: Floats) -> float:
    """Fleiss' kappa; `counts` has an item a row and a label a column, every row the same number of raters."""
    raters = counts.sum(axis=1)[0]
    observed = float(((counts**2).sum(axis=1) - raters).mean() / (raters * (raters - 1)))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def alpha(ratings: Sequence[Sequence[Any]], scale: Scale = "nominal") -> float:
    """Krippendorff's alpha; `ratings` has an item a row and a rater a column, None where a label is missing.

    Labels of the ordinal and interval scale are numbers. An item with fewer than two labels does not count.
    """
    pairable = [[label for label in item if label is not None] for item in ratings]
    pairable = [item for item in pairable if len(item) > 1]
    labels = sorted({label for item in pairable for label in item}, key=None if scale != "nominal" else str)
    place = {label: n for n, label in enumerate(labels)}
    together = np.zeros((len(labels), len(labels)))
    for item in pairable:
        counts = np.bincount([place[label] for label in item], minlength=len(labels))
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(item) - 1)
    totals = together.sum(axis=1)
    apart = _distances(labels, totals, scale)
    observed, expected = float((together * apart).sum()), float((np.outer(totals, totals) * apart).sum())
    return 1 - (totals.sum() - 1) * observed / expected if expected else float("nan")


def _distances(labels: Sequence[Any], totals: Floats, scale: Scale) -> Floats:
    """The squared difference of each two labels."""
    if scale == "nominal":
        return 1 - np.eye(len(labels))
    if scale == "interval":
        values = np.array(labels, float)
        apart: Floats = (values[:, None] - values) ** 2
        return apart
    ranks = np.cumsum(totals) - totals / 2  # ordinal: what lies between two labels, half of either end
    return (ranks[:, None] - ranks) ** 2


def bootstrap(
    statistic: Callable[[np.ndarray[Any, np.dtype[np.int64]]], float], items: int, *, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of item numbers, over resampled items (2,000 times)."""
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(0, items, items)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
