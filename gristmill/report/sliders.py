"""The limits of a filter as sliders, and what each does to the rows of a table when it alone is moved.

Everything is judged anew from the values that the filter stored (`verdicts.py`, `near_again.py`). A row that passes a
limit it failed before is counted as let pass, whatever a later stage would have made of it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gristmill.lookup import columns_of
from gristmill.report.near_again import Bits, Falls, falls, rank, thresholds, up_to
from gristmill.report.stops import stops_of
from gristmill.report.verdicts import Bound, Floats, Judge, Mask, Side, at_risk, failures, judges

KEYS = ["id", "copy", "source_file", "drop_rule", "drop_value", "rule_near_duplicate"]
"""The columns that `rows_of` needs besides those of the rules."""
_COMPARING = ("contaminated", "exact_duplicate", "near_duplicate")


class Settings(NamedTuple):
    """What the filter did: its rules in order, the near-duplicate threshold (None: off) and the thresholds to try.

    `later`: whether a stage after rules and scores may drop a row; `last`: whether one after near duplicates may.
    """

    rules: list[Judge]
    threshold: float | None
    at: list[float]
    falls: Falls
    later: bool
    last: bool


class Rows(NamedTuple):
    """Some rows: the values that limits look at, which rules (first axis) each row (second) fails and the first of
    them (-1: none), why it was dropped, and at which near-duplicate thresholds it falls (bits)."""

    values: dict[str, Floats]
    failed: Mask
    first: NDArray[np.int64]
    dropped: pa.ChunkedArray
    falls: Bits
    sources: pa.ChunkedArray


class Slider(NamedTuple):
    """A limit of a rule that can be moved to each of `stops`; `lost` and `back` count rows over the whole table."""

    rule: int
    column: str
    side: Side
    base: int
    stops: list[float]
    lost: NDArray[np.int64]
    back: NDArray[np.int64]


def settings_of(directory: Path, summary: dict[str, Any]) -> Settings:
    """What the filter did that wrote `directory`, by its `summary.json`."""
    rules = summary.get("rules") or {}
    named = {rule.get("name"): rule for rule in rules} if isinstance(rules, list) else rules
    near = named.get("near_duplicate") or {}
    threshold = near.get("near")
    at = thresholds(threshold) if threshold is not None else []
    found = falls(directory / "pairs.parquet", at, guard=near.get("numbers", "guard") == "guard")
    last = (named.get("collapsed") or {}).get("collapse") == "mark"
    later = last or any(name in named for name in _COMPARING) or any("keep_top" in rule for rule in named.values())
    return Settings(judges(summary, columns_of(directory / "rows.parquet")), threshold, at, found, later, last)


def values_of(table: pa.Table) -> dict[str, Floats]:
    """The columns of the rules, NaN where nothing was measured."""
    return {name: table[name].cast(pa.float64()).to_numpy() for name in table.column_names if name not in KEYS}


def rows_of(table: pa.Table, settings: Settings) -> Rows:
    """Judge rows again; `table` has `KEYS` and the columns of the rules."""
    values = values_of(table)
    failed = np.array(failures(values, settings.rules), bool).reshape(len(settings.rules), len(table))
    first = np.where(failed.any(axis=0), failed.argmax(axis=0), -1) if len(failed) else np.full(len(table), -1)
    dropped = table["drop_rule"].cast(pa.large_string())
    sources = pc.fill_null(table["source_file"].cast(pa.large_string()), "unknown")
    bits = np.zeros(len(table), np.uint64)
    if settings.threshold is not None:
        fell = _is(dropped, "near_duplicate")
        bits = _agreeing(table, fell, settings)
        bits[(first >= 0) | ~(fell | pc.is_null(dropped).to_numpy() | _is(dropped, "collapsed"))] = 0
    return Rows(values, failed, first, dropped, bits, sources)


def _is(dropped: pa.ChunkedArray, name: str) -> Mask:
    mask: Mask = pc.fill_null(pc.equal(dropped, name), False).to_numpy()
    return mask


def _agreeing(table: pa.Table, fell: Mask, settings: Settings) -> Bits:
    """The thresholds at which rows fall, in agreement with what the filter did at its own.

    Copies of one text have no pairs in `pairs.parquet` but for the best of them; they fall at any threshold.
    """
    similarity, highest = (
        pc.fill_null(table[name].cast(pa.float64()), 0.0).to_numpy() for name in ("drop_value", "rule_near_duplicate")
    )
    alone = np.where(fell, up_to(np.maximum(similarity, highest), settings.at), np.uint64(0))
    bits = settings.falls.of(rank(table["id"], table["copy"]), alone)
    base = np.uint64(settings.at.index(settings.threshold or 0.0))
    below = (np.uint64(1) << base) - np.uint64(1)
    at_base = (bits >> base) & np.uint64(1) == 1
    bits = np.where(fell & ~at_base, up_to(np.maximum(similarity, settings.threshold or 0.0), settings.at), bits)
    return np.where(~fell & at_base, bits & below, bits)


def sliders_of(settings: Settings, sample: Rows, ends: dict[str, tuple[float, float]]) -> list[Slider]:
    """A slider for each limit that can be moved: of scores, of near duplicates, then of the other rules."""
    found: list[tuple[int, str, Side, int, list[float]]] = []
    for number, rule in enumerate(settings.rules):
        limits: dict[tuple[str, Side], set[float]] = {}
        for bound in (bound for case in rule.cases for bound in case):
            limits.setdefault((bound.column, bound.side), set()).add(bound.value)
        again = {case for later in settings.rules[number + 1 :] for case in later.cases}
        for (column, side), at in limits.items():
            limit = min(at)
            # A rule's limits on one measure are one entry of a rules file; one that a later rule repeats moves nothing.
            if len(at) == 1 and column in ends and (Bound(column, side, limit),) not in again:
                places = stops_of(sample.values[column], ends[column], limit)
                found.append((number, column, side, places.index(limit), places))
    found.sort(key=lambda slider: not slider[1].startswith("score_"))
    if settings.threshold is not None:
        scores = sum(slider[1].startswith("score_") for slider in found)
        found.insert(scores, (len(settings.rules), "near", "most", settings.at.index(settings.threshold), settings.at))
    zeros = [(np.zeros(len(slider[4]), np.int64), np.zeros(len(slider[4]), np.int64)) for slider in found]
    return [Slider(*slider, *counts) for slider, counts in zip(found, zeros, strict=True)]


def count(slider: Slider, rows: Rows, settings: Settings) -> None:
    """Add, for each stop of one slider moved alone, the rows it loses and the rows that it lets pass."""
    kept = (rows.first < 0) & pc.is_null(rows.dropped).to_numpy()
    if slider.column == "near":
        fell = (rows.first < 0) & _is(rows.dropped, "near_duplicate")
        for mask, counts, state in ((kept, slider.lost, 1), (fell, slider.back, 0)):
            bits = rows.falls[mask & (rows.falls > 0)]
            for stop in range(len(slider.stops)):
                counts[stop] += int(np.count_nonzero((bits >> np.uint64(stop)) & np.uint64(1) == state))
        return
    rule = settings.rules[slider.rule]
    decides, lost = at_risk(rows.values, rule, slider.column, slider.side)
    others = rows.failed.sum(axis=0) - rows.failed[slider.rule]
    passes = decides & ~lost & (others == 0)
    values = rows.values[slider.column]
    fails = _beyond(values[passes & kept], slider)
    slider.lost[:] += fails
    stopped = values[passes & (rows.first == slider.rule)]
    slider.back[:] += len(stopped) - _beyond(stopped, slider)


def _beyond(values: Floats, slider: Slider) -> NDArray[np.int64]:
    """How many values are outside the limit at each stop."""
    values = values[~np.isnan(values)]
    places = np.searchsorted(slider.stops, values, side="right" if slider.side == "least" else "left")
    counted = np.cumsum(np.bincount(places, minlength=len(slider.stops) + 1))[: len(slider.stops)]
    beyond: NDArray[np.int64] = counted if slider.side == "least" else len(values) - counted
    return beyond
