"""Which rows would be near duplicates at another threshold, from the pairs that a filter stored.

A row falls to a better row that is kept itself (`filter/near.py`), so what falls at one threshold depends on the whole
chain above it. All thresholds are tried at once, one bit each. Not covered: pairs that the search did not find, which
below the filter's own threshold are many, and pairs beyond the eight most similar of a row.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gristmill.lookup import scan

Bits = NDArray[np.uint64]
Floats = NDArray[np.float64]
FLOOR = 0.5
"""The smallest similarity of a stored pair."""
_ROUNDS = 1000
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Falls(NamedTuple):
    """For rows with pairs, by ascending `rank`: the thresholds (bit n for threshold n) at which the row would fall."""

    ranks: Bits
    bits: Bits

    def of(self, ranks: Bits, alone: Bits) -> Bits:
        """The bits of the rows with these ranks; those of `alone` for rows that have no pair with a better one."""
        if not len(self.ranks):
            return alone
        place = np.minimum(np.searchsorted(self.ranks, ranks), len(self.ranks) - 1)
        return np.where(self.ranks[place] == ranks, self.bits[place], alone)


def rank(ids: pa.ChunkedArray, copies: pa.ChunkedArray) -> Bits:
    """A number for each row, uniform over 64 bits: the beginning of its id, moved on for copies (a Weyl sequence).

    The rows with the smallest numbers are a uniform sample of the rows, the same in any order of the file.
    """
    digits = "".join(pc.utf8_slice_codeunits(ids.cast(pa.large_string()), 3, 19).to_pylist())
    hashes = np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)
    ranks: Bits = hashes + copies.to_numpy().astype(np.uint64) * _GOLDEN  # wraps around, as it should
    return ranks


def thresholds(threshold: float) -> list[float]:
    """The thresholds to try, ascending: every hundredth from `FLOOR` to 0.99, and the one in force."""
    return sorted({n / 100 for n in range(int(FLOOR * 100), 100)} | {threshold})


def falls(path: Path, at: list[float], *, guard: bool) -> Falls:
    """What falls at each of the thresholds `at` (ascending, at most 64), by `pairs.parquet` (none: no row falls).

    With `guard` rows that differ in numbers only are no duplicates, as under `--numbers guard`.
    """
    better, worse, near = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], [np.empty(0)]
    columns = ["id_a", "copy_a", "id_b", "copy_b", "jaccard", "same_but_numbers"]
    for table in scan(path, columns) if path.is_file() else ():
        if guard:
            table = table.filter(pc.invert(pc.fill_null(table["same_but_numbers"].cast(pa.bool_()), False)))
        better.append(rank(table["id_a"], table["copy_a"]))
        worse.append(rank(table["id_b"], table["copy_b"]))
        near.append(table["jaccard"].to_numpy())
    return _settled(np.concatenate(better), np.concatenate(worse), up_to(np.concatenate(near), at))


def up_to(similarity: Floats, at: list[float]) -> Bits:
    """The bits of the thresholds that a similarity reaches."""
    reached = np.searchsorted(np.array(at), similarity, side="right").astype(np.uint64)
    bits: Bits = (np.uint64(1) << reached) - np.uint64(1)
    return bits


def _settled(better: Bits, worse: Bits, edges: Bits) -> Falls:
    """Repeat "falls to a better row that does not fall" until nothing changes: after as many rounds as chains are long.

    A chain ends, for better rows come before worse ones; `_ROUNDS` is there for files that are not ours.
    """
    order = np.argsort(worse, kind="stable")
    better, worse, edges = better[order], worse[order], edges[order]
    ranks, starts = np.unique(worse, return_index=True)
    place = np.searchsorted(ranks, better)
    chained = np.flatnonzero(ranks[np.minimum(place, len(ranks) - 1)] == better) if len(ranks) else place
    bits = np.zeros(len(ranks), np.uint64)
    for _ in range(_ROUNDS if len(ranks) else 0):
        reaches = edges.copy()
        reaches[chained] &= ~bits[place[chained]]
        again = np.bitwise_or.reduceat(reaches, starts)
        if np.array_equal(again, bits):
            break
        bits = again
    return Falls(ranks, bits)
