"""Word 5-grams as sets of hashes: what near duplicates are verified on.

A shingle is 5 consecutive words of the normalised text; a text of fewer words is one shingle. Words are hashed to 64
bits and combined to 48 bits a shingle, so that a pair's number and a shingle fit into one integer: among two sets of a
few hundred shingles a false agreement has a probability below 1e-9.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series, func

from gristmill import progress
from gristmill.filter.numbers import without_numbers, word_hashes
from gristmill.threads import in_threads

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

NGRAM = 5
BITS = np.uint64(48)
MASK = np.uint64((1 << 48) - 1)
_ODD = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD], np.uint64
)


def shingle_column(text: Expression) -> Expression:
    """For each normalised text a struct: `shingles`, its sorted distinct shingle hashes, and `skeleton`, a hash of its
    words without the numeric ones, equal for texts that differ in numbers only. No text may be null."""
    return _shingles(text)


_RESULT = pa.struct([("shingles", pa.large_list(pa.uint64())), ("skeleton", pa.uint64())])


@func.batch(return_dtype=DataType.from_arrow_type(_RESULT))
def _shingles(text: Series) -> Any:
    words = pc.split_pattern(text.to_arrow(), " ")
    ends = np.cumsum(pc.list_value_length(words).to_numpy())
    tokens = words.flatten().dictionary_encode()  # of the words of a batch, one in twenty is new
    hashes, places = word_hashes(tokens.dictionary), tokens.indices.to_numpy()
    numeric, rest = without_numbers(tokens.dictionary, hashes)
    shingles, counts = sets_of(hashes[places], ends)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    sets = pa.LargeListArray.from_arrays(offsets, pa.array(shingles))
    skeletons = [_skeletons(rest[places[part]], numeric[places[part]], last) for part, last in _in_cache(ends)]
    return pa.StructArray.from_arrays([sets, pa.array(np.concatenate(skeletons))], fields=list(_RESULT))


def _in_cache(ends: Ints) -> Iterator[tuple[slice, Ints]]:
    """Of each `_TEXTS` texts, at least once, where their words are and where each text ends among them."""
    for text in range(0, max(len(ends), 1), _TEXTS):
        last, first = ends[text : text + _TEXTS], ends[text - 1] if text else 0
        yield slice(first, last[-1] if len(last) else 0), last - first


def sets_of(words: Hashes, ends: Ints) -> tuple[Hashes, Ints]:
    """Word hashes of texts, concatenated, with the end of each text, to their sorted distinct shingles and counts."""
    sets, counts = zip(*(_sets_of(words[part], last) for part, last in _in_cache(ends)), strict=True)
    return np.concatenate(sets), np.concatenate(counts)


def _sets_of(words: Hashes, ends: Ints) -> tuple[Hashes, Ints]:
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    mixed = words * _ODD[0]
    for step in range(1, NGRAM):
        mixed[:-step] += words[step:] * _ODD[step]
    owner = np.repeat(np.arange(len(ends), dtype=np.uint64), lengths)
    whole = np.arange(len(words)) <= np.repeat(ends - NGRAM, lengths)
    keys = [owner[whole] << BITS | _finished(mixed[whole])]
    short = np.flatnonzero((lengths > 0) & (lengths < NGRAM))
    if len(short):  # the words of a short text, mixed with its length, are its one shingle
        inside = np.repeat(lengths < NGRAM, lengths)
        position = (np.arange(len(words)) - np.repeat(starts, lengths))[inside]
        total = lengths.astype(np.uint64)
        np.add.at(total, owner[inside].astype(np.int64), words[inside] * _ODD[position])
        keys.append(short.astype(np.uint64) << BITS | _finished(total[short]))
    keyed = distinct(np.concatenate(keys))
    return keyed & MASK, np.bincount((keyed >> BITS).astype(np.int64), minlength=len(ends))


def distinct(values: Hashes) -> Hashes:
    """The distinct values, sorted (in place); numpy.unique of 2.3 and later hashes, which takes ten times as long."""
    values.sort()
    new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return values[new]


def _finished(hashes: Hashes) -> Hashes:
    """Spread the bits (the finaliser of SplitMix64) and keep 48 of them."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (hashes ^ (hashes >> np.uint64(31))) & MASK


def _skeletons(words: Hashes, numeric: npt.NDArray[np.bool_], ends: Ints) -> Hashes:
    """A hash of each text's sequence of words that are not numeric."""
    starts = np.concatenate([[0], ends])[:-1].astype(np.int64)
    before = np.concatenate([[0], np.cumsum(~numeric)])
    place = before[:-1] - np.repeat(before[starts], ends - starts)  # a word's number among its text's other words
    powers = np.multiply.accumulate(np.full(int(place.max(initial=0)) + 1, _ODD[0]))
    sums: Hashes = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(np.where(numeric, np.uint64(0), words * powers[place]), out=sums[1:])
    skeletons: Hashes = sums[ends] - sums[starts]
    return skeletons


def jaccards(left: Ints, right: Ints, sets: Hashes, starts: Ints, ends: Ints) -> Any:
    """The exact Jaccard similarity of pairs of sets.

    `sets` holds the distinct shingles of all rows, those of a row from its `starts` to its `ends`; `left` and `right`
    are row numbers, one of each a pair. Returns floats, 0..1.
    """
    sizes = ends - starts

    def of_chunk(begin: int) -> Any:
        ones, others = left[begin : begin + _CHUNK], right[begin : begin + _CHUNK]
        rows = np.concatenate([ones, others])
        numbers = np.tile(np.arange(len(ones), dtype=np.uint64), 2)
        counts = sizes[rows]
        at = np.repeat(starts[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        keys = np.repeat(numbers << BITS, counts) | sets[at]
        keys.sort(kind="stable")  # two ascending runs, which the stable sort merges
        shared = keys[1:][keys[1:] == keys[:-1]] >> BITS
        both = np.bincount(shared.astype(np.int64), minlength=len(ones))
        union = sizes[ones] + sizes[others] - both
        progress.advance(len(both))
        return both / np.maximum(union, 1)

    return np.concatenate([np.empty(0), *in_threads(of_chunk, range(0, len(left), _CHUNK))])


_CHUNK = 5_000
_TEXTS = 1_024
"""Texts worked on at once: their arrays stay in the cache and are not given back to the system in between, which halves
the time. Their numbers must fit into the 16 bits above a shingle."""
