"""How good a model is on items it was asked once or several times: accuracy, pass@k, calibration.

Accuracy is the mean over items of the share of an item's samples that are right. Its interval is Wilson's (1927), at
the number of independent answers that the spread between items leaves (samples of one item resemble each other: counted
as independent, five of each make a 95 % interval that holds far less often). pass@k is the unbiased estimate of
`score/pass_at_k.py`. Calibration is the expected calibration error in ten equal bins (Naeini et al. 2015; Guo et al.
2017, https://arxiv.org/abs/1706.04599) and Brier's score (1950), both 0 at best.

Not covered: items drawn in clusters (several questions to one text): their intervals are too narrow.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low
from typing import Any

import numpy as np
import orjson

from gristmill.errors import UsageError
from gristmill.intervals import wilson
from gristmill.loop.evals import Evals, Key, Outcome, default_slices, outcomes, solved_of
from gristmill.loop.logs.rows import Row
from gristmill.rollout.groups import Solved
from gristmill.score.pass_at_k import pass_at_k

BINS = 10


def accuracy(counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Accuracy over items, each given as (right, judged): `items`, `samples`, `accuracy`, `low`, `high`; items without
    a judged sample are `unscored`. The accuracy of none is None."""
    judged = [(right, samples) for right, samples in counts if samples]
    told: dict[str, Any] = {"items": len(judged), "samples": sum(n for _, n in judged)}
    told["unscored"] = len(counts) - len(judged)
    if not judged:
        return {**told, "accuracy": None, "low": 0.0, "high": 1.0}
    means = np.array([right / samples for right, samples in judged])
    share = float(means.mean())
    n = _independent(means, share, told["samples"])
    low, high = wilson(share * n, n)
    return {**told, "accuracy": share, "low": low, "high": high}


def _independent(means: np.ndarray[Any, Any], share: float, samples: int) -> float:
    """How many independent answers have the variance of this mean: between the items and their samples."""
    items = len(means)
    if samples == items or items < 2:
        return items
    variance = float(means.var(ddof=1)) / items
    return float(np.clip(share * (1 - share) / variance, items, samples)) if variance > 0 else items


def pass_at(counts: Iterable[tuple[int, int]], k: int) -> float | None:
    """The chance that one of `k` samples is right, over items of (right, judged) with k judged; None for none."""
    each = [pass_at_k(n, right, k) for right, n in counts if n >= k]
    return sum(each) / len(each) if each else None


def calibration(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, float | int]:
    """`ece` and `brier` of confidences, 0 to 1, in answers that are right or not.

    Raises ValueError for none, and for a confidence outside 0 to 1.
    """
    said, is_right = np.asarray(confidence, float), np.asarray(right, float)
    if not len(said) or not ((said >= 0) & (said <= 1)).all():
        raise ValueError("confidences must be from 0 to 1, and at least one")
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, is_right - said, minlength=BINS))  # of each bin, times its size
    return {"n": len(said), "ece": float(gaps.sum() / len(said)), "brier": float(((said - is_right) ** 2).mean())}


def summarised(
    evals: Evals,
    *,
    solved: Solved | None = None,
    slices: Sequence[str] | None = None,
    confidence: str | None = None,
) -> dict[str, Any]:
    """What there is to tell of an evaluation, as JSON: accuracy overall and by slice, pass@k up to the samples that
    half of the items have, calibration where the rows have the `confidence` (a score, or a field of `meta`;
    None where one is named and no judged row has it, from 0 to 1).

    Raises UsageError for a score or slice that the rows do not have.
    """
    by = solved_of(evals, solved)
    names = tuple(default_slices(evals) if slices is None else slices)
    items = outcomes(evals.rows, by.score, names)
    counts = {key: _count(outcome, by.least) for key, outcome in items.items()}
    most = median_low([judged for _, judged in counts.values()]) if counts else 0
    sliced = by_slice(items)
    if missing := next(
        (name for name in slices or () if not any(each.startswith(f"{name}=") for each in sliced)), None
    ):
        raise UsageError(
            f"slice {missing}: no item has it; allowed are tags, slot_… and fields of meta that items have"
        )
    told: dict[str, Any] = {
        "score": by.score,
        "right_from": by.least,
        **accuracy(list(counts.values())),
        "pass_at": {str(k): pass_at(counts.values(), k) for k in _powers(most)} if most > 1 else {},
        "slices": {name: accuracy([counts[key] for key in keys]) for name, keys in sorted(sliced.items())},
    }
    found = _confidences(evals.rows, by, confidence or "confidence")
    return told | ({"calibration": found} if found or confidence else {})


def by_slice(items: Mapping[Key, Outcome]) -> dict[str, list[Key]]:
    """The items of each slice."""
    found: dict[str, list[Key]] = {}
    for key, outcome in items.items():
        for name in outcome.slices:
            found.setdefault(name, []).append(key)
    return found


def _count(outcome: Outcome, least: float) -> tuple[int, int]:
    judged = [value for value in outcome.values if value is not None]
    return sum(value >= least for value in judged), len(judged)


def _powers(most: int) -> list[int]:
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


def _confidences(rows: Sequence[Row], by: Solved, name: str) -> dict[str, float | int] | None:
    said, right = [], []
    for row in rows:
        value, found = row.get(f"score_{by.score}"), row.get(f"score_{name}")
        if found is None and row.get("meta"):
            found = orjson.loads(row["meta"]).get(name)
        if value is not None and isinstance(found, int | float) and 0 <= found <= 1:
            said.append(float(found))
            right.append(value >= by.least)
    return calibration(said, right) if said else None
