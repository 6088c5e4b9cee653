"""Lengths and repetition of many texts at once, in numpy.

Repetition is Gopher's (Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 and table A1): the fraction of
a text's characters that lie in its most frequent 2-, 3- or 4-gram of words, and the fraction that lie in any 5- to
10-gram that occurs more than once. As in the paper no character is counted twice.

Departures: words stand between ASCII white space and are compared as written; the fraction is of the characters in
words (white space has none), and characters are UTF-8 bytes; a most frequent n-gram counts only if it occurs more than
once (else a text of two words would be its own top 2-gram), and of several equally frequent ones the one that covers
most counts. Words are compared by a 64-bit hash. Only the first `MOST_BYTES` of a longer text are looked at.

Not covered: Gopher's repeated lines and paragraphs, and text written without spaces (Chinese, Japanese, Thai: a whole
sentence is one word, so repetition inside it is not seen).
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TOP = (2, 3, 4)
DUPLICATE = tuple(range(5, 11))
MOST_BYTES = 1_000_000
CHUNK_BYTES = 1_000_000
"""Texts are measured in chunks of about this many bytes, so that the working arrays stay in the cache."""

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8))
_random = np.random.default_rng(0)  # fixed, so that every process hashes a word alike
_BYTE = _random.integers(1, 2**63, 256, dtype=np.uint64)
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))


def names() -> list[str]:
    """The names of what `repetition` measures, without the prefix `rule_`."""
    return ["words", *(f"top_{n}gram" for n in TOP), *(f"dup_{n}gram" for n in DUPLICATE), "repeats"]


def repetition(texts: pa.LargeStringArray) -> dict[str, Floats]:
    """Words and Gopher's repetition of each text (null counts as empty), by the names of `names()`.

    `words` is a count, `repeats` is how often the most frequent 10-gram occurs (0 where none occurs twice), the others
    are fractions in [0, 1], 0 where nothing repeats.
    """
    texts = pc.fill_null(texts.cast(pa.large_string()), "")
    found: dict[str, list[Floats]] = {name: [np.zeros(0)] for name in names()}
    for chunk in _chunks(texts):
        for name, values in _measure(chunk).items():
            found[name].append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _chunks(texts: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK_BYTES, side="right")))
        yield texts.slice(start, stop - start)
        start = stop


def _measure(texts: pa.LargeStringArray) -> dict[str, Floats]:
    rows = len(texts)
    hashes, lengths, row = _words(texts)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    total = np.bincount(row, weights=lengths, minlength=rows)
    share = np.divide(1.0, total, out=np.zeros(rows), where=total > 0)
    found: dict[str, Floats] = {name: np.zeros(rows) for name in names()}
    found["words"] = np.bincount(row, minlength=rows).astype(np.float64)
    starts = np.flatnonzero(row[1:] == row[:-1])
    grams = hashes[starts] ^ _mix(row[starts].astype(np.uint64))  # n-grams of different texts never meet
    for n in range(2, DUPLICATE[-1] + 1):
        if n > 2:
            # An n-gram repeats only where both (n-1)-grams within it do, so ever fewer places are left to look at.
            longer = np.flatnonzero(starts[1:] == starts[:-1] + 1)
            starts, grams = starts[longer], grams[longer]
        grams = _mix(grams * _BASE + hashes[starts + n - 1])
        group, starts, grams = _repeated(grams, starts)
        if not len(starts):
            break
        if n in TOP:
            found[f"top_{n}gram"] = share * _top(group, starts, n, ends, row, rows)
        places = starts
        order = np.argsort(starts)
        starts, grams = starts[order], grams[order]
        if n in DUPLICATE:
            found[f"dup_{n}gram"] = share * np.bincount(row[starts], _covered(starts, n, ends), rows)
        if n == DUPLICATE[-1]:
            np.maximum.at(found["repeats"], row[places], np.bincount(group)[group].astype(np.float64))
    return found


def _words(texts: pa.LargeStringArray) -> tuple[Words, Ints, Ints]:
    """The hash, the length in bytes and the number of the text of every word, in order."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    stop = min(offsets[-1], offsets[0] + MOST_BYTES) if len(texts) == 1 else offsets[-1]
    values = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : stop]
    within = ~_SPACE[values]
    edges = np.clip(offsets - offsets[0], 0, len(values))
    breaks = np.zeros(len(values) + 1, dtype=bool)
    breaks[edges] = True
    begins = np.flatnonzero(within & (breaks[:-1] | np.concatenate([[True], ~within[:-1]])))
    finishes = np.flatnonzero(within & (breaks[1:] | np.concatenate([~within[1:], [True]]))) + 1
    powers, inverses = _powers()
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(_BYTE[values] * powers[: len(values)], out=sums[1:])
    hashes = _mix((sums[finishes] - sums[begins]) * inverses[begins])
    row: Ints = np.searchsorted(edges, begins, side="right") - 1
    return hashes, finishes - begins, row


@cache
def _powers() -> tuple[Words, Words]:
    """The powers of the base and of its inverse modulo 2^64, by which the hash of a word forgets where it stands."""
    size = max(CHUNK_BYTES, MOST_BYTES) + 1
    return np.multiply.accumulate(np.full(size, _BASE)), np.multiply.accumulate(np.full(size, _INVERSE))


def _mix(values: Words) -> Words:
    """SplitMix64's finaliser (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _repeated(grams: Words, starts: Ints) -> tuple[Ints, Ints, Words]:
    """Group number, start and hash of the n-grams that occur more than once, ordered by group and start."""
    order = np.argsort(grams)
    ranked = grams[order]
    same = ranked[1:] == ranked[:-1]
    repeated = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    order = order[repeated]
    ranked = ranked[repeated]
    group = np.cumsum(np.concatenate([[0], ranked[1:] != ranked[:-1]])) if len(ranked) else order
    within = np.lexsort((starts[order], group))
    return group, starts[order][within], ranked


def _covered(starts: Ints, n: int, ends: Ints) -> Ints:
    """Characters that each n-gram covers up to the start of the next one; `starts` ascends."""
    covered: Ints = ends[np.minimum(starts + n, np.append(starts[1:], len(ends) - 1))] - ends[starts]
    return covered


def _top(group: Ints, starts: Ints, n: int, ends: Ints, row: Ints, rows: int) -> Ints:
    """Characters covered by the most frequent n-gram of each text, counting none twice."""
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    last = np.append(first[1:], len(group)) - 1
    following = np.append(starts[1:], 0)
    following[last] = len(ends) - 1  # the next start of the same n-gram, or the end of everything
    covered = ends[np.minimum(starts + n, following)] - ends[starts]
    count = np.append(first[1:], len(group)) - first
    best = np.zeros(rows, dtype=np.int64)
    np.maximum.at(best, row[starts[first]], (count << 32) + np.add.reduceat(covered, first))
    return best & (2**32 - 1)
