"""Slices: the items that tags, slots and metadata single out, as conjunctions of few predicates.

A predicate is a tag, a value of a field, or an interval of a number between its quantiles. Conjunctions are built level
by level, of predicates on different fields, as long as enough items are left: the lattice of SliceFinder (Chung et al.
2019, arXiv:1807.06068) and SliceLine (Sagadeeva and Boehm 2021, doi:10.1145/3448016.3457323), kept small by depth.
Which of them fail more than the rest is the scan's question (`scan.py`), which also corrects for how many there are.

Not covered: disjunctions and negations (a merge by hand, `edits.py`), nested metadata.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from gristmill.loop.failures import VALUES
from gristmill.wording import number, prompt_text

Row = dict[str, Any]
Ints = np.ndarray[Any, np.dtype[np.int64]]

MOST = 20_000
"""Slices that are looked at; the largest of a level come first."""

BEAM = 1_000
"""Slices of a level that are refined further, the largest."""

CUTS = 5
"""Quantile bins of a number; every run of neighbouring bins is an interval."""

WORDS = "prompt words"
"""The one field that is measured here: how long a prompt is."""


class Slice(NamedTuple):
    """The items for which all predicates hold."""

    predicates: tuple[str, ...]
    """As text, by field."""
    fields: tuple[str, ...]
    members: Ints
    """Places of the items, ascending."""


def slices(
    items: Sequence[Row], *, least: int, depth: int = 2, fields: Iterable[str] | None = None, ignore: Iterable[str] = ()
) -> list[Slice]:
    """The slices of `least` items or more (and not of all but fewer than `least`), simplest first.

    `fields` are those to look at (None: `tags`, every slot and metadata field, and the length of the prompt), less
    those of `ignore`.
    """
    wanted, left_out = None if fields is None else set(fields), set(ignore)
    level = [
        each
        for each in _single(items)
        if (wanted is None or each.fields[0] in wanted) and each.fields[0] not in left_out and _fits(each, items, least)
    ]
    found = _largest(level)
    singles = found[:BEAM]
    for _ in range(depth - 1):
        level = [each for each in _joined(_largest(level)[:BEAM], singles) if len(each.members) >= least]
        found += _largest(level)[: MOST - len(found)]
    return _distinct(found)


def _fits(found: Slice, items: Sequence[Row], least: int) -> bool:
    return least <= len(found.members) <= len(items) - least


def _largest(level: Sequence[Slice]) -> list[Slice]:
    return sorted(level, key=lambda each: (-len(each.members), each.predicates))[:MOST]


def _joined(level: Sequence[Slice], singles: Sequence[Slice]) -> list[Slice]:
    """Each slice and one more predicate, on a field that sorts after its own (so each conjunction comes once)."""
    found = []
    for each in level:
        for single in singles:
            if single.fields[0] > each.fields[-1] or (
                single.fields[0] == each.fields[-1] == "tags" and single.predicates[0] > each.predicates[-1]
            ):
                members = np.intersect1d(each.members, single.members, assume_unique=True)
                if len(members) < len(each.members):
                    found.append(Slice(each.predicates + single.predicates, each.fields + single.fields, members))
    return found


def _distinct(found: Sequence[Slice]) -> list[Slice]:
    """Of slices with the same items, the first."""
    seen: dict[bytes, Slice] = {}
    for each in found:
        seen.setdefault(each.members.tobytes(), each)
    return list(seen.values())


def _single(items: Sequence[Row]) -> list[Slice]:
    """Every single predicate, by field and value."""
    places: dict[tuple[str, str], list[int]] = {}
    numbers: dict[str, list[tuple[int, float]]] = {WORDS: []}
    for place, item in enumerate(items):
        numbers[WORDS].append((place, len(prompt_text(item).split())))
        for tag in item["tags"]:
            places.setdefault(("tags", tag), []).append(place)
        for name, value in item["facts"].items():
            if (figure := _figure(value)) is not None:
                numbers.setdefault(name, []).append((place, figure))
            if isinstance(value, str | bool | int):
                places.setdefault((name, str(value)), []).append(place)
    values: dict[str, int] = {}
    for name, _ in places:
        values[name] = values.get(name, 0) + 1
    found = [
        Slice((f"tag {value}" if name == "tags" else f"{name} = {value}",), (name,), np.array(members, np.int64))
        for (name, value), members in sorted(places.items())
        if name == "tags" or values[name] <= VALUES
    ]
    for name, pairs in sorted(numbers.items()):
        found += _intervals(name, pairs)
    return found


def _figure(value: Any) -> float | None:
    """A number, or text that is one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        figure = float(value)
    except ValueError:
        return None
    return figure if np.isfinite(figure) else None


def _intervals(name: str, pairs: Sequence[tuple[int, float]]) -> list[Slice]:
    places, figures = np.array([place for place, _ in pairs], np.int64), np.array([figure for _, figure in pairs])
    edges = np.unique(np.quantile(figures, np.linspace(0, 1, CUTS + 1), method="lower")) if len(pairs) else figures
    if len(edges) < 3:
        return []
    found = []
    last = len(edges) - 1
    for low, high in combinations(range(last + 1), 2):
        if (low, high) == (0, last):
            continue
        inside = (figures >= edges[low]) & ((figures < edges[high]) | (high == last))
        parts = [f"{number(edges[low])} ≤ "] if low else []
        text = f"{''.join(parts)}{name}{f' < {number(edges[high])}' if high < last else ''}"
        found.append(Slice((text,), (name,), places[inside]))
    return found
