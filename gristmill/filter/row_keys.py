"""The keys of many rows at once, by row number: 20 bytes a row, where the text of an id takes more than twice that."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.filter.marks import KEY

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_DIGITS = 35
"""Characters of an id: `g1:` and 32 hexadecimal digits."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Keys(NamedTuple):
    """The two halves of each id's 128 bits, and the copy."""

    high: Hashes
    low: Hashes
    copy: npt.NDArray[np.int32]

    def ids(self, rows: Ints) -> pa.LargeStringArray:
        """The ids of the numbered rows as text."""
        halves = np.stack([self.high[rows], self.low[rows]], axis=1).astype(">u8").view(np.uint8)
        text = np.empty((len(rows), _DIGITS), np.uint8)
        text[:, :3] = np.frombuffer(b"g1:", np.uint8)
        text[:, 3::2], text[:, 4::2] = _HEX[halves >> 4], _HEX[halves & 15]
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * _DIGITS
        return pa.Array.from_buffers(
            pa.large_string(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(text.reshape(-1))]
        )


def keys_of(ids: pa.ChunkedArray, copies: npt.ArrayLike) -> Keys:
    """Keys from ids as text and their copies; raises UsageError for an id that is not one of Gristmill's."""
    return Keys(*halves(ids), np.asarray(copies, np.int32))


def halves(ids: pa.ChunkedArray) -> tuple[Hashes, Hashes]:
    """The high and the low 64 bits of ids; raises UsageError for an id that is not one of Gristmill's."""
    parts = [_halves(chunk.cast(pa.large_string())) for chunk in ids.chunks]
    high, low = np.concatenate([np.empty((0, 2), np.uint64), *parts]).T.copy()
    return high, low


def numbered(high: Hashes, low: Hashes) -> Keys:
    """Keys whose copy is the number of each row among the rows of its id, in order."""
    order = np.lexsort((low, high))  # stable, so rows of one id stay in order
    first = np.ones(len(order), bool)
    first[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    place = np.arange(len(order))
    copies = np.empty(len(order), np.int32)
    copies[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return Keys(high, low, copies)


def _halves(ids: pa.LargeStringArray) -> Hashes:
    """Hexadecimal digits to numbers, a row of two each."""
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    if ids.null_count or (np.diff(offsets) != _DIGITS).any():
        wrong = next(id for id in ids.to_pylist() if id is None or len(id) != _DIGITS)
        raise UsageError(f"id {wrong!r}: allowed is g1: and 32 hexadecimal digits; read the table with gristmill.read")
    if not len(ids):
        return np.empty((0, 2), np.uint64)
    digits = np.frombuffer(ids.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _DIGITS)[:, 3:]
    values = (digits & 15) + 9 * (digits >> 6)  # "0" is 0x30 and "a" 0x61
    pairs = np.ascontiguousarray(values[:, 0::2] << 4 | values[:, 1::2])
    return pairs.view(">u8").astype(np.uint64)


def best_first(keys: Keys, rows: Ints, score: Floats | None = None) -> Ints:
    """The numbered rows by preference: score descending (null and NaN last), then (id, copy)."""
    order: list[npt.NDArray[np.generic]] = [keys.copy[rows], keys.low[rows], keys.high[rows]]
    if score is not None:
        order.append(-np.nan_to_num(score[rows], nan=-np.inf))
    return rows[np.lexsort(order)]


def keyed(findings: pa.Table, keys: Keys) -> pa.Table:
    """Findings by row number (`row`) as findings by (`id`, `copy`)."""
    rows = findings["row"].to_numpy()
    ids, copies = keys.ids(rows), pa.array(keys.copy[rows], pa.int64())
    rest = [name for name in findings.column_names if name != "row"]
    return pa.table([ids, copies, *(findings[name] for name in rest)], names=[*KEY, *rest])
