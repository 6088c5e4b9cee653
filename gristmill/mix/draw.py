"""Which rows of each source make the mix, how often, and as which copies.

Whole passes over a source take every row; of the last pass a row is in if its rank is among the smallest. A rank is a
hash of (seed, id, copy, source and pass), so it does not depend on files, order or engine, and of two mixes with one
seed the larger holds the smaller. With strata, or a share of reasoning, a quota is split among the cells of a source by
largest remainders and drawn within each.

Copies: a row keeps the copy it has, as far as no other row of the sources has its id; further passes, and rows of one
id from several places, are numbered on, so that (id, copy) stays a key.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gristmill.errors import UsageError
from gristmill.filter.row_keys import Hashes, Ints
from gristmill.keys import mixed
from gristmill.mix.mix_file import MixFile
from gristmill.mix.source import Rows
from gristmill.shares import allotted, rounded

_ODD = np.uint64(0x9E3779B97F4A7C15)


class Drawn(NamedTuple):
    """Of one source, in the order in which they enter the mix: row numbers, and the copies they become."""

    rows: Ints
    copies: npt.NDArray[np.int64]
    size: int
    """Their units."""


def ranks(high: Hashes, low: Hashes, copy: npt.NDArray[np.int64], seed: int, column: str) -> Hashes:
    """A random 64-bit number for each row and `column`: of (seed, id, copy, column) and nothing else."""
    key = np.frombuffer(blake2b(f"{seed}:{column}".encode(), digest_size=8).digest(), np.uint64)[0]
    found: Hashes = mixed(high ^ mixed(low + mixed(copy.astype(np.uint64) * _ODD + key)))
    return found


def draw(sources: Sequence[Rows], quotas: Mapping[str, int], mix: MixFile) -> dict[str, Drawn]:
    """The rows of each source that make its quota (of rows, or of characters: then to the nearest row).

    Raises UsageError where the share of reasoning cannot be had.
    """
    reasoned = _reasoned(sources, quotas, mix)
    found: dict[str, tuple[Ints, npt.NDArray[np.int16]]] = {}
    for rows in sources:
        cells = _cell_quotas(rows, quotas[rows.source.name], reasoned.get(rows.source.name))
        found[rows.source.name] = _taken(rows, cells, mix.seed)
    copies = _copies(sources, found)
    return {
        name: Drawn(taken, copies[name], int(rows.size[taken].sum()))
        for rows in sources
        for name, (taken, _) in [(rows.source.name, found[rows.source.name])]
    }


def _reasoned(sources: Sequence[Rows], quotas: Mapping[str, int], mix: MixFile) -> dict[str, int]:
    """How many units with reasoning each source gives."""
    if mix.reasoning is None:
        return {}
    least, most = {}, {}
    for rows in sources:
        name, quota = rows.source.name, quotas[rows.source.name]
        sizes = _cell_sizes(rows)
        having = sum(size for (_, reasons), size in zip(rows.cells, sizes, strict=True) if reasons)
        lacking = sum(sizes) - having
        least[name] = max(0, quota - int(lacking * rows.source.epochs))
        most[name] = min(quota, int(having * rows.source.epochs))
    total = rounded(mix.reasoning, sum(quotas.values()))
    if not sum(least.values()) <= total <= sum(most.values()):
        low, high = (sum(each.values()) / max(sum(quotas.values()), 1) for each in (least, most))
        raise UsageError(
            f"reasoning {mix.reasoning:g}: with these shares and epochs {low:.1%} to {high:.1%} of the mix can have "
            "reasoning; ask for that, let sources repeat, or make more with gristmill transform --op reason"
        )
    return allotted(total, {name: mix.reasoning * quotas[name] for name in least}, least, most)


def _cell_sizes(rows: Rows) -> list[int]:
    return [int(each) for each in np.bincount(rows.cell, rows.size, len(rows.cells))]


def _cell_quotas(rows: Rows, quota: int, reasoned: int | None) -> list[int]:
    """The quota of each cell: in proportion to its size, within its side of the share of reasoning."""
    sizes = _cell_sizes(rows)
    parts: list[tuple[int, Sequence[int]]] = [(quota, range(len(sizes)))] if reasoned is None else []
    if reasoned is not None:
        for amount, wanted in ((reasoned, True), (quota - reasoned, False)):
            parts.append((amount, [n for n, (_, reasons) in enumerate(rows.cells) if reasons == wanted]))
    found = [0] * len(sizes)
    for amount, cells in parts:
        whole = sum(sizes[n] for n in cells)
        if amount and whole:
            times = max(-(-amount // whole), 1)
            named = {n: amount * sizes[n] / whole for n in cells}
            bounds = {n: sizes[n] * times for n in cells}
            for n, each in allotted(amount, named, dict.fromkeys(named, 0), bounds).items():
                found[n] = each
    return found


def _taken(rows: Rows, quotas: Sequence[int], seed: int) -> tuple[Ints, npt.NDArray[np.int16]]:
    """Row numbers by pass and, within a pass, in input order."""
    sizes, units = _cell_sizes(rows), bool((rows.size == 1).all())
    full = [quota // size if size else 0 for quota, size in zip(quotas, sizes, strict=True)]
    taken, passes = [], []
    for number in range(max(full, default=0) + 1):
        here = np.array([times > number for times in full])[rows.cell]
        last = [n for n, times in enumerate(full) if times == number and quotas[n] > times * sizes[n]]
        if last:
            column = f"{rows.source.name}:{number}"
            rank = ranks(rows.high, rows.low, rows.copy, seed, column)
            for n in last:
                of_cell = np.flatnonzero(rows.cell == n) if len(sizes) > 1 else np.arange(len(rows))
                wanted = quotas[n] - full[n] * sizes[n]
                order = of_cell[np.argsort(rank[of_cell], kind="stable")]
                here[order[: wanted if units else _nearest(rows.size[order], wanted)]] = True
        chosen = np.flatnonzero(here)
        taken.append(chosen)
        passes.append(np.full(len(chosen), number, np.int16))
    return np.concatenate(taken), np.concatenate(passes)


def _nearest(sizes: Ints, wanted: int) -> int:
    """How many of the first make nearest to `wanted` units."""
    sums = np.concatenate([[0], np.cumsum(sizes)])
    place = int(np.searchsorted(sums, wanted))
    if place == len(sums):
        return len(sizes)
    return place if place == 0 or sums[place] - wanted < wanted - sums[place - 1] else place - 1


def _copies(
    sources: Sequence[Rows], taken: Mapping[str, tuple[Ints, npt.NDArray[np.int16]]]
) -> dict[str, npt.NDArray[np.int64]]:
    """The copies of the rows taken; ids are told apart by 64 bits, which at worst numbers a row on without need."""
    ids = np.sort(np.concatenate([rows.high for rows in sources]))
    again = np.unique(ids[1:][ids[1:] == ids[:-1]])
    seen: dict[int, int] = {}
    place: dict[str, dict[int, int]] = {}
    for rows in sources:
        several = np.flatnonzero(np.isin(rows.high, again)) if len(again) else np.zeros(0, np.int64)
        numbers: dict[int, int] = {}
        for row, id in zip(several.tolist(), rows.high[several].tolist(), strict=True):
            numbers[row] = seen.get(id, 0)
            seen[id] = numbers[row] + 1
        place[rows.source.name] = numbers
    found = {}
    for rows in sources:
        chosen, passes = taken[rows.source.name]
        first, step = rows.copy.copy(), rows.copy + 1
        numbers = place[rows.source.name]
        if numbers:
            several = np.fromiter(numbers, np.int64, len(numbers))
            first[several] = np.fromiter(numbers.values(), np.int64, len(numbers))
            step[several] = [seen[id] for id in rows.high[several].tolist()]
        found[rows.source.name] = first[chosen] + passes * step[chosen]
    return found
