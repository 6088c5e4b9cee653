"""What the filter did to the distribution, and what the answers have in common, as the report shows both.

From `balance` and `diversity` of `summary.json`; a key that is missing is shown as absent. Computes nothing anew.
"""

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from gristmill.report import charts
from gristmill.wording import number

Row = dict[str, Any]
METRICS = {
    "distinct_1": "distinct words",
    "distinct_2": "distinct pairs",
    "distinct_3": "distinct triples",
    "compression_ratio": "compression ratio",
    "top_opening_share": "top opening",
    "ngram_entropy": "n-gram entropy",
    "self_similarity": "self-similarity",
    "vendi": "Vendi score",
}
"""The columns of the collapse table by their names in `summary.json`."""
GROUPS = 40
VALUES = 20


def axes(summary: Row) -> list[Row]:
    """The axes of `balance`, those that moved too far first: plot or pairs of bars, and the figures in words."""
    listed = [axis for axis in (summary.get("balance") or {}).get("axes") or [] if isinstance(axis, dict)]
    return [_axis(axis) for axis in sorted(listed, key=lambda axis: not axis.get("biased"))]


def _axis(axis: Row) -> Row:
    bins, values = axis.get("bins") or [], axis.get("values") or []
    pairs = [{name: value.get(name) for name in ("value", "before", "after", "interval")} for value in values]
    return {
        "name": axis.get("name"),
        "biased": axis.get("biased"),
        "message": axis.get("message"),
        "svg": Markup(charts.shares(bins)) if bins else None,
        "pairs": [pair | {"interval": _interval(pair["interval"], percent=True)} for pair in pairs[:VALUES]],
        "left": max(len(pairs) - VALUES, 0),
        "quantiles": [_quantiles(side, axis[side]) for side in ("before", "after") if axis.get(side)],
        "figures": "; ".join(_figures(axis)),
    }


def _quantiles(side: str, found: Row) -> str:
    named = {"p10": "10 % below", "p50": "median", "p90": "90 % below", "mean": "mean"}
    told = [f"{words} {number(found[name])}" for name, words in named.items() if found.get(name) is not None]
    return f"{side}: {', '.join(told)}"


def _figures(axis: Row) -> Iterator[str]:
    named: dict[str, tuple[str, str | None]] = {
        "js_distance": ("Jensen–Shannon distance", "js_interval"),
        "psi": ("PSI", None),
        "effect_size": ("effect size", "effect_interval"),
    }
    for name, (words, interval) in named.items():
        if axis.get(name) is not None:
            yield f"{words} {_short(axis[name])}{_interval(axis.get(interval) if interval else None)}"
    if (p := axis.get("p_value")) is not None:
        yield f"p = {p:.2g}" if p >= 0.0001 else "p < 0.0001"


def _interval(ends: list[float] | None, *, percent: bool = False) -> str:
    if not ends:
        return ""
    low, high = (f"{100 * end:.1f} %" if percent else _short(end) for end in ends)
    return f" ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def collapse(summary: Row) -> Row | None:
    """The collapse table: columns, groups with a cell for each, and the limits with where they come from."""
    found = summary.get("diversity") or {}
    groups = found.get("groups") or []
    if not groups:
        return None
    names = [name for name in METRICS if any(group.get(name) is not None for group in groups)]
    limits = found.get("limits") or {}
    return {
        "columns": [METRICS[name] for name in names],
        "groups": [_group(group, names) for group in groups[:GROUPS]],
        "left": max(len(groups) - GROUPS, 0),
        "sampled": found.get("sampled"),
        "limits": [(METRICS.get(name, name), _bounds(limit), limit.get("source")) for name, limit in limits.items()],
    }


def _group(group: Row, names: list[str]) -> Row:
    alarms = group.get("alarms") or []
    cells = [
        {"value": group.get(name), "alarm": name in alarms, "share": name == "top_opening_share"} for name in names
    ]
    return {name: group.get(name) for name in ("by", "name", "rows", "sampled", "top_opening")} | {"cells": cells}


def _bounds(limit: Row) -> str:
    ends = {"least": "at least", "most": "at most"}
    return " and ".join(f"{words} {number(limit[end])}" for end, words in ends.items() if limit.get(end) is not None)
