"""Numeric words: what two rows may differ in without being duplicates.

A token is numeric if it is digits with any sign, currency, percent or punctuation, or an English number word. Of a
token of several parts joined by hyphens or slashes ("60-item", "$500/month") the numeric parts count as numbers and the
rest as a word. Not covered: numbers written in other languages, and digits inside a word ("v2").
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import Series

Hashes = npt.NDArray[np.uint64]

_ONES = "zero|one|two|three|four|five|six|seven|eight|nine|ten"
_TEENS = "eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_POWERS = "hundred|thousand|million|billion|trillion|dozen"
NUMERIC = (
    rf"^[\p{{P}}\p{{S}}]*(?:\p{{Nd}}[\p{{Nd}}\p{{P}}\p{{S}}]*|(?:{_ONES}|{_TEENS}|{_TENS}|{_POWERS})[\p{{P}}\p{{S}}]*)$"
)
"""A numeric token or part of one, in lower case (RE2 syntax)."""

_JOINED = r"[^-/][-/]+[^-/]"


def without_numbers(words: pa.Array, hashes: Hashes) -> tuple[npt.NDArray[np.bool_], Hashes]:
    """Which of the distinct words are numeric, and the hashes with those of partly numeric words replaced by one of
    their other parts."""
    numeric = _matches(words, NUMERIC)
    joined = np.flatnonzero(_matches(words, _JOINED) & ~numeric)
    lists = pc.split_pattern_regex(words.take(pa.array(joined)), "[-/]+")
    parts, sizes = lists.flatten(), pc.list_value_length(lists).to_numpy()
    stays = ~_matches(parts, NUMERIC)
    left = np.bincount(np.repeat(np.arange(len(joined)), sizes)[stays], minlength=len(joined))
    offsets = pa.array(np.concatenate([[0], np.cumsum(left)]), pa.int32())
    rest = pc.binary_join(pa.ListArray.from_arrays(offsets, parts.filter(pa.array(stays))), pa.scalar("-", parts.type))
    nothing = pc.binary_length(rest).to_numpy() == 0
    numeric[joined[nothing]] = True
    partly = (left < sizes) & ~nothing
    hashes = hashes.copy()
    hashes[joined[partly]] = ~word_hashes(rest)[partly]  # inverted: "7-hour" is not "hour"
    return numeric, hashes


def _matches(words: pa.Array, pattern: str) -> npt.NDArray[np.bool_]:
    matches: npt.NDArray[np.bool_] = pc.match_substring_regex(words, pattern).to_numpy(zero_copy_only=False).copy()
    return matches


def word_hashes(words: pa.Array) -> Hashes:
    """A 64-bit hash of each word."""
    hashes: Hashes = Series.from_arrow(words).hash().to_arrow().to_numpy()
    return hashes
