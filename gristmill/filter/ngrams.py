"""The index of an evaluation's word 8-grams: built from items, kept in memory or one .npz file.

Words are numbered by the evaluation's own vocabulary, so a word of a row that no evaluation uses is -1 and ends every
n-gram. An n-gram is looked up by a 64-bit hash of its word numbers and verified on the numbers themselves.
Not covered: what a shared n-gram means (`contamination.py`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gristmill.filter.text import normalize_texts

N = 8
COMMON = 10
"""An 8-gram in more than this many records of one evaluation file is boilerplate (an instruction) and left out, and so
is one that a record repeats more often (a table of zeros)."""

Array = np.ndarray[Any, np.dtype[Any]]


class Item(NamedTuple):
    """One text field of record `item` (0-based) of an evaluation file."""

    file: str
    item: int
    field: str
    text: str


class Index(NamedTuple):
    """Items, their words and their 8-grams, sorted by hash.

    `tokens` holds the word numbers of all items end to end, item i at `starts[i]:starts[i + 1]`; `hashes` is sorted
    and `places[j]` is where in `tokens` the 8-gram of `hashes[j]` begins; `covered[i]` is how many words of item i its
    indexed 8-grams cover; `vocabulary` is the words in order of their numbers, UTF-8, joined by newlines.
    """

    files: Array
    numbers: Array
    fields: Array
    vocabulary: Array
    tokens: Array
    starts: Array
    hashes: Array
    places: Array
    covered: Array

    def save(self, path: str) -> None:
        """Write the index to one .npz file."""
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **self._asdict())


def load(path: str) -> Index:
    """Read an index that `Index.save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Index(**{name: arrays[name] for name in Index._fields})


def normalized_words(texts: list[str]) -> list[list[str]]:
    """The words of each text, normalised as `filter/text.py` does, outside a table."""
    return [text.split() for text in normalize_texts(pa.array(texts, pa.large_string())).to_pylist()]


def build(items: Iterable[Item]) -> Index:
    """Index evaluation items, of any number of files."""
    given = list(items)
    words = normalized_words([item.text for item in given])
    vocabulary: dict[str, int] = {}
    tokens = np.array([vocabulary.setdefault(w, len(vocabulary)) for ws in words for w in ws], dtype=np.int64)
    starts = np.cumsum([0, *(len(ws) for ws in words)])
    owner = np.repeat(np.arange(len(given)), np.diff(starts))
    hashes = gram_hashes(tokens)
    places = np.flatnonzero(owner[: len(hashes)] == owner[N - 1 :]) if len(hashes) else np.zeros(0, np.int64)
    hashes = hashes[places]
    names = sorted({item.file for item in given})
    file_of = np.array([names.index(item.file) for item in given], dtype=np.int64)
    numbers = np.array([item.item for item in given], dtype=np.int64)
    rare = ~_common(hashes, file_of[owner[places]], numbers[owner[places]])
    hashes, places = hashes[rare], places[rare]
    order = np.argsort(hashes, kind="stable")
    inside = np.zeros(len(tokens), dtype=np.int64)
    inside[(places[:, None] + np.arange(N)).ravel()] = 1
    covered = np.bincount(owner, weights=inside, minlength=len(given)).astype(np.int64)
    text = [np.array(x, dtype=np.str_) for x in ([i.file for i in given], [i.field for i in given])]
    vocab = np.frombuffer("\n".join(vocabulary).encode(), dtype=np.uint8)
    return Index(text[0], numbers, text[1], vocab, tokens, starts, hashes[order], places[order], covered)


def gram_hashes(tokens: Array) -> Array:
    """A 64-bit hash of the 8 word numbers from each position; shape (max(0, len(tokens) - 7),)."""
    count = max(0, len(tokens) - N + 1)
    mixed = tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    total = np.zeros(count, dtype=np.uint64)
    for k in range(N):
        total = total * np.uint64(0xBF58476D1CE4E5B9) + mixed[k : k + count]
    return total ^ (total >> np.uint64(31))


def _common(hashes: Array, files: Array, numbers: Array) -> Array:
    """Which 8-grams stand in more than COMMON records of one file, or more often than that in one record."""
    places = np.stack([hashes, files.astype(np.uint64), numbers.astype(np.uint64)], axis=1)
    records, times = np.unique(places, axis=0, return_counts=True)
    pairs, counts = np.unique(records[:, :2], axis=0, return_counts=True)
    return np.isin(hashes, np.concatenate([pairs[counts > COMMON, 0], records[times > COMMON, 0]]))
