"""What would be kept if a limit were moved: the data behind the sliders of the report, from stored values alone.

The page gets a uniform sample of the rows (`SAMPLE`, those of the smallest `near_again.rank`) with every value that a
limit looks at, and for each slider, counted over all rows, how many rows each of its stops loses and brings back. So
one moved slider is counted exactly and several together are estimated; `whatif.js` does both.

Not covered, and said in the page: a row that a rule or score dropped was never compared with others, so once it
passes, later stages may still take it; a row that fell to a row that would now be dropped stays dropped; `--keep-top`
keeps the rows it kept.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gristmill.lookup import scan
from gristmill.report.near_again import rank
from gristmill.report.sliders import KEYS, Rows, Settings, Slider, count, rows_of, settings_of, sliders_of, values_of
from gristmill.report.stops import decimals_of, rounded
from gristmill.report.verdicts import Bound, Floats, Side, breaks
from gristmill.wording import visible

SAMPLE = 3000
SOURCES = 12


def whatif(directory: Path, summary: dict[str, Any], words: Floats) -> dict[str, Any] | None:
    """What `whatif.js` computes with, as JSON values; None where no limit can be moved or there is no row.

    `words` are the words of each row's answer, in the order of `rows.parquet`.
    """
    path = directory / "rows.parquet"
    settings = settings_of(directory, summary)
    columns = list(dict.fromkeys(column for rule in settings.rules for column in rule.columns))
    ranks = [rank(table["id"], table["copy"]) for table in scan(path, ["id", "copy"])]
    if not sum(map(len, ranks)) or not (settings.rules or settings.at):
        return None
    chosen = np.argsort(np.concatenate(ranks), kind="stable")[:SAMPLE]
    ends: dict[str, tuple[float, float]] = {}
    taken = pa.concat_tables(_taken(scan(path, [*KEYS, *columns]), np.sort(chosen), ends))
    sample = rows_of(taken.take(pa.array(np.searchsorted(np.sort(chosen), chosen))), settings)
    sliders = sliders_of(settings, sample, ends)
    sources, kept_of, dropped = Counter[str](), Counter[str](), Counter[str]()
    for table in scan(path, [*KEYS, *columns]):
        rows = rows_of(table, settings)
        for slider in sliders:
            count(slider, rows, settings)
        kept = pc.is_null(rows.dropped)
        for counter, named in ((sources, rows.sources), (kept_of, rows.sources.filter(kept)), (dropped, rows.dropped)):
            counter.update({e["values"]: e["counts"] for e in pc.value_counts(named.drop_null()).to_pylist()})
    sliders = [slider for slider in sliders if slider.lost.any() or slider.back.any()]
    if not sliders:
        return None
    total = {"rows": sources.total(), "kept": kept_of.total(), "sample": len(chosen)}
    return total | {
        "run": _shown(summary.get("run") or "DIR", 1000),
        "later": settings.later,
        "last": settings.last,
        **_judging(settings, sliders, sample, dropped),
        **_by_source(sample, sources, kept_of),
        "words": [int(n) for n in words[chosen]],
        "controls": [_control(slider, settings) for slider in sliders],
    }


def _taken(
    tables: Iterator[pa.Table], chosen: NDArray[np.int64], ends: dict[str, tuple[float, float]]
) -> Iterator[pa.Table]:
    """The rows of these numbers (ascending); `ends` learns the smallest and greatest finite value of every column."""
    start = 0
    for table in tables:
        here = chosen[(chosen >= start) & (chosen < start + len(table))] - start
        start += len(table)
        for name, values in values_of(table).items():
            if (known := values[np.isfinite(values)]).size:
                low, high = ends.get(name, (np.inf, -np.inf))
                ends[name] = min(low, float(known.min())), max(high, float(known.max()))
        yield table.take(pa.array(here))


def _judging(settings: Settings, sliders: list[Slider], sample: Rows, dropped: Counter[str]) -> dict[str, Any]:
    """The rules, their limits, and the sample's values and verdicts, all by number.

    `names` are the verdicts: first the rules, then the rest; `dropped` counts them over all rows. Of a limit, `slider`
    is the number of its slider or -1. `fixed` is a verdict that no slider moves, or -1; `spans` lists for a row, by its
    number, the near-duplicate stops from which (included) to which (not) it falls.
    """
    names = list(dict.fromkeys([*(rule.name for rule in settings.rules), "near_duplicate", *sorted(dropped)]))
    moved = {(slider.rule, slider.column, slider.side): n for n, slider in enumerate(sliders)}
    bounds = [bound for rule in settings.rules for case in rule.cases for bound in case]
    missing: list[tuple[str, Side]] = [(rule.missing, "least") for rule in settings.rules if rule.missing]
    coded = list(dict.fromkeys([*((bound.column, bound.side) for bound in bounds), *missing]))

    def limit(rule: int, bound: Bound) -> dict[str, Any]:
        column, slider = (bound.column, bound.side), moved.get((rule, bound.column, bound.side), -1)
        return {"column": coded.index(column), "side": bound.side, "value": bound.value, "slider": slider}

    rules = [
        {
            "cases": [[limit(n, bound) for bound in case] for case in rule.cases],
            "missing": coded.index((rule.missing, "least")) if rule.missing else -1,
        }
        for n, rule in enumerate(settings.rules)
    ]
    movable = None if settings.threshold is None else "near_duplicate"
    fates = zip(sample.dropped.to_pylist(), sample.first.tolist(), strict=True)
    return {
        "names": [_shown(name) for name in names],
        "dropped": [dropped[name] for name in names],
        "rules": rules,
        "columns": [_coded(sample.values[name], side, bounds) for name, side in coded],
        "fixed": [-1 if name in (None, movable) or n >= 0 else names.index(name) for name, n in fates],
        "near": {
            "name": names.index("near_duplicate"),
            "slider": moved.get((len(settings.rules), "near", "most"), -1),
            "spans": {str(n): _spans(int(bits), len(settings.at)) for n, bits in enumerate(sample.falls) if bits},
        },
    }


def _coded(values: Floats, side: Side, bounds: list[Bound]) -> list[float | int | None]:
    """Values in few decimals, null for none; exact where rounding would carry one over a limit in force."""
    short = rounded(values, side, decimals_of(values))
    for bound in bounds:
        if bound.side == side:
            short = np.where(breaks(short, side, bound.value) == breaks(values, side, bound.value), short, values)
    short = np.nan_to_num(short, nan=np.nan)  # JSON has no infinities
    return [
        None if value != value else int(value) if value.is_integer() and abs(value) < 2**53 else value
        for value in short.tolist()
    ]


def _spans(bits: int, stops: int) -> list[int]:
    """The runs of ones: where each begins and where it has ended."""
    edges = bits ^ (bits << 1)
    return [n for n in range(stops + 1) if edges >> n & 1]


def _by_source(sample: Rows, rows: Counter[str], kept: Counter[str]) -> dict[str, Any]:
    """The largest sources with their rows over the whole table, and the number of each sampled row's source."""
    largest = sorted(rows, key=lambda name: (-rows[name], name))[:SOURCES]
    listed: list[dict[str, Any]] = [
        {"name": _shown(name.rstrip("/").rsplit("/", 1)[-1]), "rows": rows[name], "kept": kept[name]}
        for name in largest
    ]
    if len(rows) > len(largest):
        rest = [sum(counts[name] for name in counts if name not in largest) for counts in (rows, kept)]
        listed.append({"name": "all others", "rows": rest[0], "kept": rest[1]})
    place = {name: n for n, name in enumerate(largest)}
    return {"sources": listed, "source": [place.get(name, len(largest)) for name in sample.sources.to_pylist()]}


def _control(slider: Slider, settings: Settings) -> dict[str, Any]:
    """A slider as the page draws it. `kind`: score, near or rule; `later`: rows it brings back may fall later on."""
    near = slider.column == "near"
    rule = "near_duplicate" if near else settings.rules[slider.rule].name
    kind = "near" if near else "score" if slider.column.startswith("score_") else "rule"
    measure = slider.column.removeprefix("rule_").removeprefix("score_")
    return {
        "kind": kind,
        "rule": _shown(rule),
        "measure": _shown(measure, 1000),
        "side": slider.side,
        "base": slider.base,
        "stops": slider.stops,
        "lost": slider.lost.tolist(),
        "back": slider.back.tolist(),
        "later": settings.last if near else settings.later,
    }


def _shown(text: object, most: int = 80) -> str:
    return visible(text, one_line=True)[:most]
