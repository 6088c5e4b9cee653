"""How varied a set of texts is: distinct n-grams, entropy, compression, openings, likeness of pairs, Vendi score.

Words are those of `filter/text.py`: NFKC, lower case, split at white space, every character of a script without spaces
a word. Distinct-n falls and entropy grows with the amount of text, so that sets of long and of short answers cannot be
compared as they are. Both are therefore what a random draw of `DRAW` n-grams from the set has on average, exactly, by
the hypergeometric distribution (rarefaction: Hurlbert 1971, https://doi.org/10.2307/1934145; on words it is the HD-D
of McCarthy and Jarvis 2010, https://doi.org/10.3758/BRM.42.2.381). A set of no more than `DRAW` n-grams is counted
whole, which is the published definition.

Not covered: meaning. Paraphrases of one thought are varied texts to all of these but the Vendi score.
"""

import gzip
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.filter.shingles import sets_of
from gristmill.filter.text import unified

DRAW = 10_000
"""N-grams in the draw behind distinct-n and entropy."""

ENTROPY_N = 4
"""Words of the n-grams whose entropy is taken; in 1 to 3 words entropy repeats what distinct-n says."""

OPENING = 4
"""Words of an opening: `sure! here is a`."""

COMPRESSED = 1 << 18
"""Bytes that are compressed; more text says no more, as DEFLATE looks back 32 kB."""

PAIRED = 200
"""Texts compared pair by pair."""

Numbers = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NAMES = (
    *("distinct_1", "distinct_2", "distinct_3", "compression_ratio"),
    *("top_opening_share", "top_opening", "ngram_entropy", "self_similarity"),
)
"""What `metrics` gives besides `words`, the mean number of words."""

_BASE = np.uint64(0x9E3779B97F4A7C15)


class Words(NamedTuple):
    """Texts as words end to end: `numbers` in `vocabulary`; text i ends before `ends[i]`."""

    numbers: Numbers
    ends: Ints
    vocabulary: pa.Array


def words_of(texts: pa.Array) -> Words:
    """The normalised words of texts (no nulls)."""
    lowered = pc.utf8_trim_whitespace(pc.utf8_lower(unified(texts.cast(pa.large_string()))))
    split = pc.utf8_split_whitespace(lowered)
    encoded = split.flatten().dictionary_encode()
    ends = np.cumsum(pc.list_value_length(split).to_numpy(zero_copy_only=False)).astype(np.int64)
    return Words(encoded.indices.to_numpy().astype(np.uint64), ends, encoded.dictionary)


def ngram_counts(words: Words, n: int) -> Ints:
    """How often each distinct n-gram occurs; n-grams do not reach from one text into the next."""
    grams = words.numbers
    for step in range(1, n):
        grams = grams[:-1] * _BASE + words.numbers[step:]
    lengths = np.diff(words.ends, prepend=0)
    whole = np.arange(len(words.numbers)) <= np.repeat(words.ends - n, lengths)
    grams = np.sort(grams[whole[: len(grams)]])
    first = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]])) if len(grams) else np.empty(0, np.int64)
    return np.diff(first, append=len(grams))


def distinct(counts: Ints, draw: int = DRAW) -> float | None:
    """Distinct n-grams over all n-grams of a draw, 0..1 (Li et al. 2016, https://arxiv.org/abs/1510.03055).

    `counts` is how often each n-gram occurs. None where there is none.
    """
    if not len(counts):
        return None
    times, kinds, total, draw, log = _rarefied(counts, draw)
    left = total - times - draw  # n-grams that neither are this one nor were drawn, were it not drawn
    absent = log[total - times] + log[total - draw] - log[np.maximum(left, 0)] - log[total]
    return float(kinds @ (1 - np.where(left >= 0, np.exp(absent), 0))) / draw


def entropy(counts: Ints, draw: int = DRAW) -> float | None:
    """Shannon entropy of the n-grams of a draw, in bits, 0..log2(draw); not normalised.

    Ent-n of Zhang et al. 2018 (https://arxiv.org/abs/1809.05972), in bits. None where there is no n-gram.
    """
    if not len(counts):
        return None
    times, kinds, total, draw, log = _rarefied(counts, draw)
    ways = log[total] - log[draw] - log[total - draw]
    bits = 0.0
    for often, alike in zip(times.tolist(), kinds.tolist(), strict=True):
        seen = np.arange(max(1, draw - total + often), min(often, draw) + 1)
        chance = log[often] - log[seen] - log[often - seen]
        chance += log[total - often] - log[draw - seen] - log[total - often - draw + seen] - ways
        bits -= alike * float(np.exp(chance) @ (seen / draw * np.log2(seen / draw)))
    return max(bits, 0.0)


def _rarefied(counts: Ints, draw: int) -> tuple[Ints, Ints, int, int, Floats]:
    """The counts that occur, the n-grams of each, all n-grams, the size of the draw, and log factorials."""
    kinds = np.bincount(counts)
    times = np.flatnonzero(kinds)
    total = int(counts.sum())
    log = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    return times, kinds[times], total, min(draw, total), log


def compression_ratio(texts: list[str]) -> float | None:
    """Bytes of the texts joined by spaces over their bytes in gzip (Shaib et al. 2024, https://arxiv.org/abs/2403.00553).

    1 and above, higher is more repetitive. Of more than `COMPRESSED` bytes the first are taken. None without text.
    """
    raw = " ".join(texts).encode()[:COMPRESSED]
    return len(raw) / len(gzip.compress(raw, mtime=0)) if raw else None


def top_opening(words: Words) -> tuple[float, str]:
    """The share of texts that begin with the commonest `OPENING` words, 0..1, and these words.

    A shorter text is its own opening; of equally common ones the first in the alphabet counts.
    """
    begins = np.concatenate([[0], words.ends[:-1]]).tolist()
    spelt = words.vocabulary.to_pylist()
    heads = [words.numbers[a : min(a + OPENING, b)].tolist() for a, b in zip(begins, words.ends.tolist(), strict=True)]
    counts = Counter(" ".join(spelt[number] for number in head) for head in heads)
    opening, count = min(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return count / len(heads), opening


def self_similarity(words: Words) -> float | None:
    """The mean Jaccard similarity of all pairs of the first `PAIRED` texts, 0..1; None for fewer than two.

    Of sets of word 5-grams, as near duplicates are measured. Embedding-free; in place of Self-BLEU (Zhu et al. 2018,
    https://arxiv.org/abs/1802.01886), which costs a comparison of every text with all others word by word.
    """
    ends = words.ends[:PAIRED]
    if len(ends) < 2:
        return None
    shingles, sizes = sets_of(words.numbers[: ends[-1]], ends)
    owner = np.repeat(np.arange(len(ends)), sizes)
    order = np.argsort(shingles, kind="stable")
    fresh = np.concatenate([[True], np.diff(shingles[order]) > 0])
    number = np.cumsum(fresh) - 1
    shared = np.bincount(number)[number] > 1  # a shingle of one text alone is in no intersection
    column = np.unique(number[shared], return_inverse=True)[1]
    holds = np.zeros((len(ends), int(column.max(initial=-1)) + 1), np.float32)
    holds[owner[order][shared], column] = 1
    both = (holds @ holds.T).astype(np.float64)
    jaccard = both / (sizes[:, None] + sizes[None, :] - both)
    return float(jaccard[np.triu_indices(len(ends), 1)].mean())


def vendi(embeddings: Floats) -> float | None:
    """The Vendi score with the cosine as kernel (Friedman and Dieng 2022, https://arxiv.org/abs/2210.02410).

    exp of the Shannon entropy of the eigenvalues of K/n, K the n x n cosines of the rows: 1 where all point one way,
    n where all are orthogonal. `embeddings` is (n, dimensions); rows that are zero or not finite are left out, and of
    fewer than two rows there is no score.
    """
    norms = np.linalg.norm(embeddings, axis=1)
    good = np.isfinite(norms) & (norms > 0)
    unit = embeddings[good] / norms[good, None]
    if len(unit) < 2:
        return None
    kernel = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # the same eigenvalues, but for zeros
    shares = np.linalg.eigvalsh(kernel / len(unit))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def metrics(texts: list[str]) -> dict[str, Any]:
    """Everything above but the Vendi score, of texts that each have a word, by the names of `summary.json`.

    A metric is None where there is nothing to measure (no text; no text of three words for `distinct_3`).
    """
    if not texts:
        return dict.fromkeys(NAMES) | {"words": 0.0}
    words = words_of(pa.array(texts, pa.large_string()))
    share, opening = top_opening(words)
    return {
        "words": len(words.numbers) / len(texts),
        **{f"distinct_{n}": distinct(ngram_counts(words, n)) for n in (1, 2, 3)},
        "compression_ratio": compression_ratio(texts),
        "top_opening_share": share,
        "top_opening": opening,
        "ngram_entropy": entropy(ngram_counts(words, ENTROPY_N)),
        "self_similarity": self_similarity(words),
    }
