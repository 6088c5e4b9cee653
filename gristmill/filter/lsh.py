"""Locality-sensitive hashing: from signatures to the pairs that are worth verifying, a band at a time.

Memory holds one band of all rows (8 bytes a row, and its sorted copy) and the whole signatures only of rows that share
a band with another. Rows of equal text are one node: as plain edges, copies of a removed row would survive. Not
covered: verifying the pairs (`near.py`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.filter.bands import Bands
from gristmill.filter.row_keys import Hashes, Ints, best_first
from gristmill.filter.shingles import distinct
from gristmill.filter.signatures import Signed, band_names
from gristmill.threads import in_threads

CENTRES = 32
"""Best-ranked nodes of a bucket that each of its nodes is compared with: bounds the work in data made of templates."""
REPORTED = 0.5
"""Jaccard similarity from which a verified pair is reported."""

_CHUNK = 100_000


class Nodes(NamedTuple):
    """The distinct texts, best first: `rows[first[node] : first[node + 1]]` are the numbers of a node's rows, the best
    first; `bands` (bands, nodes) and `low` (nodes, hashes) their signatures."""

    rows: Ints
    first: Ints
    bands: Hashes
    low: npt.NDArray[np.uint8]


def nodes_of(signed: Signed, bands: Bands) -> Nodes:
    """The rows that share their text or a band with another, as nodes in survivor order."""
    lines = signed.text_lines()
    shared = np.zeros(len(lines), bool)
    for shared_here in in_threads(lambda name: _shared(signed.column(name)[lines]), band_names(bands)):
        shared |= shared_here
    lines = lines[shared]
    order = np.empty(len(signed.kept), np.int64)
    order[best_first(signed.keys, signed.rows[lines], signed.score)] = np.arange(len(lines))
    lines = lines[np.argsort(order[signed.rows[lines]])]
    text = [signed.column(name)[lines] for name in ("_h2", "_h1")]
    by_text = np.lexsort(text)  # stable, so the best row of a text comes first
    begins = np.ones(len(lines), bool)
    begins[1:] = (text[0][by_text][1:] != text[0][by_text][:-1]) | (text[1][by_text][1:] != text[1][by_text][:-1])
    group = np.cumsum(begins) - 1
    best = by_text[begins]
    rank = np.argsort(np.argsort(best))[group]  # nodes numbered by their best row
    within = np.argsort(rank, kind="stable")
    first = np.searchsorted(rank[within], np.arange(len(best) + 1))
    lines = lines[by_text[within]]
    hashes = np.stack([signed.column(name)[lines[first[:-1]]] for name in band_names(bands)])
    return Nodes(signed.rows[lines], first, hashes, _low(signed, lines[first[:-1]], bands.hashes))


def _shared(values: Hashes) -> npt.NDArray[np.bool_]:
    """Which values stand more than once.

    The number of the row takes the place of the lowest bits and one sort brings both; values that differ only in those
    bits are shared too, some hundred among ten million, and cost a comparison.
    """
    bits = np.uint64(max(len(values) - 1, 1).bit_length())
    tagged = values >> bits << bits | np.arange(len(values), dtype=np.uint64)
    tagged.sort()
    same = tagged[1:] >> bits == tagged[:-1] >> bits
    rows = (tagged & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    shared = np.zeros(len(values), bool)
    shared[rows[1:][same]] = shared[rows[:-1][same]] = True
    return shared


def _low(signed: Signed, lines: Ints, hashes: int) -> npt.NDArray[np.uint8]:
    """The low bytes of the signatures of some lines, read batch by batch."""
    order = np.argsort(lines)
    wanted, low, start = lines[order], np.empty((len(lines), hashes), np.uint8), 0
    for batch in signed.lines.to_batches(columns=["_low"]):
        first, last = np.searchsorted(wanted, [start, start + len(batch)])
        some = pc.take(batch["_low"], pa.array(wanted[first:last] - start)).cast(pa.large_binary())
        data = b"".join(some.to_pylist())
        low[order[first:last]] = np.frombuffer(data, np.uint8).reshape(-1, hashes)
        start += len(batch)
    return low


def candidates(nodes: Nodes, bands: Bands, threshold: float) -> tuple[Ints, Ints]:
    """Pairs of nodes (better, worse) that share a bucket and whose signatures agree enough, each once."""
    # Four standard deviations below the threshold loses nothing; one below REPORTED is what is reported "where found".
    sure = threshold - 4 * (threshold * (1 - threshold) / bands.hashes) ** 0.5
    least = min(sure, REPORTED - 0.5 / bands.hashes**0.5) * bands.hashes
    found = np.empty(0, np.uint64)
    for of_band in in_threads(lambda values: _band_pairs(values, nodes.low, least), nodes.bands):
        found = distinct(np.concatenate([found, of_band]))  # a band adds few that the ones before it did not find
    return (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _band_pairs(values: Hashes, low: npt.NDArray[np.uint8], least: float) -> Hashes:
    """Pairs of a band as better << 32 | worse, those whose signatures agree in `least` hashes."""
    order = np.argsort(values, kind="stable")  # within a bucket the nodes stay best first
    begins = np.ones(len(order), bool)
    begins[1:] = values[order][1:] != values[order][:-1]
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    place = np.arange(len(order)) - start
    pairs = [np.empty(0, np.uint64)]
    for centre in range(CENTRES):
        later = np.flatnonzero(place > centre)
        better, worse = order[start[later] + centre], order[later]
        for begin in range(0, len(later), _CHUNK):
            one, other = better[begin : begin + _CHUNK], worse[begin : begin + _CHUNK]
            enough = (low[one] == low[other]).sum(axis=1) >= least
            pairs.append(one[enough].astype(np.uint64) << np.uint64(32) | other[enough].astype(np.uint64))
    return np.concatenate(pairs)
