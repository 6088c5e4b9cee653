"""Numeric words: what two rows may differ in without being duplicates.

A token is numeric if it is digits with any sign, currency, percent or punctuation, or an English number word. Of a
token of several parts joined by hyphens or slashes ("60-item", "$500/month") the numeric parts count as numbers and the
rest as a word. Not covered: numbers written in other languages, and digits inside a word ("v2").
"""

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_ONES = "zero|one|two|three|four|five|six|seven|eight|nine|ten"
_TEENS = "eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_POWERS = "hundred|thousand|million|billion|trillion|dozen"
NUMERIC = (
    rf"^[\p{{P}}\p{{S}}]*(?:\p{{Nd}}[\p{{Nd}}\p{{P}}\p{{S}}]*|(?:{_ONES}|{_TEENS}|{_TENS}|{_POWERS})[\p{{P}}\p{{S}}]*)$"
)
"""A numeric token or part of one, in lower case (RE2 syntax)."""

_JOINED = r"[^-/][-/]+[^-/]"


def without_numbers(words: pa.Array) -> tuple[npt.NDArray[np.bool_], dict[int, int]]:
    """Which of the distinct words are numeric, and for words that are so in part a 64-bit hash of the other parts."""
    numeric = pc.match_substring_regex(words, NUMERIC).to_numpy(zero_copy_only=False).copy()
    joined = np.flatnonzero(pc.match_substring_regex(words, _JOINED).to_numpy(zero_copy_only=False) & ~numeric)
    parts = pc.split_pattern_regex(words.take(pa.array(joined)), "[-/]+")
    are_numbers = pc.match_substring_regex(parts.flatten(), NUMERIC).to_pylist()
    rest: dict[int, int] = {}
    place = 0
    for word, its_parts in zip(joined.tolist(), parts.to_pylist(), strict=True):
        flags = are_numbers[place : place + len(its_parts)]
        place += len(its_parts)
        left = "-".join(part for part, number in zip(its_parts, flags, strict=True) if not number)
        if not left:
            numeric[word] = True
        elif any(flags):
            rest[word] = int.from_bytes(blake2b(left.encode(), digest_size=8).digest(), "little")
    return numeric, rest


def skeleton_words(tokens: Any, hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Word hashes with those of partly numeric words replaced by the hash of the rest, and which words are numeric.

    `tokens` are the words, dictionary-encoded: a regular expression a distinct word, not a word.
    """
    numeric, rest = without_numbers(tokens.dictionary)
    indices = np.asarray(tokens.indices)
    if rest:
        replaced = np.zeros(len(numeric), np.uint64)
        replaced[list(rest)] = np.array(list(rest.values()), np.uint64)
        partly = np.isin(np.arange(len(numeric)), list(rest))
        hashes = np.where(partly[indices], replaced[indices], hashes)
    return hashes, numeric[indices]
