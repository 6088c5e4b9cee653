"""What a response adds to a set of rows: the share of its word 3-grams that no other row of the set has.

1 says that nothing of it is said elsewhere, 0 that all of it is. Words are those of `filter/text.py`: NFKC, lower case,
between white space. The set is a file, as a rule the table itself; its content is part of the score's parameters, so
that a verdict reached on another set is not taken from the cache. Of two equal responses both have 0.

Not covered: meaning (a paraphrase is new to this), and the diversity of the set as a whole (`gristmill filter`,
docs/diversity.md). All distinct 3-grams of the set are held in memory, 8 bytes for each row that has one.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.files import BAD, batches
from gristmill.filter.diversity_metrics import words_of
from gristmill.score.score import Item, Score, Verdict
from gristmill.score.text import answer_of

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

NGRAM = 3
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def diversity(argument: str) -> Score:
    """ROWS: the share of a response's word 3-grams that no other row of this file of samples has, 0 to 1, `scored`.

    `too_short` for fewer than three words has no value. Raises UsageError for a file without responses.
    """
    grams, texts = _held(argument)
    digest = blake2b(grams.tobytes() + b"".join(sorted(texts)), digest_size=8).hexdigest()
    return Score("diversity", "1", partial(_diversity, argument), {"rows": digest})


@cache
def _held(path: str) -> tuple[Hashes, frozenset[bytes]]:
    """The distinct 3-grams of every row, sorted, and the hashes of the texts."""
    kind, _, read = batches([path], answer="reference")
    if kind not in ("sample", "label"):
        raise UsageError(f"score diversity:{path}: these are {kind} rows; name a file of rows with a response")
    grams = [np.empty(0, np.uint64)]
    texts: set[bytes] = set()
    for batch in read:
        items = [Item(text) for text in batch.filter(batch[BAD].is_null())["response"].to_pylist() if text]
        answers = [answer_of(item) for item in items]
        texts.update(map(_hash, answers))
        grams += _grams(answers)
    return np.sort(np.concatenate(grams)), frozenset(texts)


def _diversity(path: str, items: Sequence[Item]) -> list[Verdict]:
    held, texts = _held(path)
    answers = [answer_of(item) for item in items]
    return [
        _verdict(grams, held, own=_hash(answer) in texts)
        for answer, grams in zip(answers, _grams(answers), strict=True)
    ]


def _verdict(grams: Hashes, held: Hashes, *, own: bool) -> Verdict:
    if not len(grams):
        return Verdict(None, "too_short", f"fewer than {NGRAM} words")
    rows = np.searchsorted(held, grams, "right") - np.searchsorted(held, grams, "left")
    new = int((rows <= own).sum())
    return Verdict(new / len(grams), "scored", f"{new} of {len(grams)} word {NGRAM}-grams are in no other row")


def _grams(texts: Sequence[str]) -> Iterator[Hashes]:
    """The hashes of the distinct 3-grams of each text, sorted."""
    words = words_of(pa.array([text.encode(errors="replace").decode() for text in texts], pa.large_string()))
    known = np.array([int.from_bytes(_hash(word), "little") for word in words.vocabulary.to_pylist()], np.uint64)
    hashes = known[words.numbers.astype(np.int64)]
    start = 0
    for end in words.ends.tolist():
        here = hashes[start:end]
        mixed = sum(here[step : len(here) - NGRAM + 1 + step] * _ODD[step] for step in range(NGRAM))
        yield np.unique(mixed) if len(here) >= NGRAM else np.empty(0, np.uint64)
        start = end


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="replace"), digest_size=8).digest()
