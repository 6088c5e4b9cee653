"""Locality-sensitive hashing: from texts to the pairs that are worth verifying.

A signature is a row's MinHashes, of which 64 bits a band and the low byte of each hash are held. Rows of equal text are
one node: as plain edges, copies of a removed row would survive. Not covered: verifying the pairs (`near.py`).
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Series, col, func, lit
from daft.functions import minhash

from gristmill.filter.bands import Bands
from gristmill.filter.boilerplate import Common, masked_text
from gristmill.filter.duplicates import survivor_order, text_hash
from gristmill.filter.marks import Table
from gristmill.filter.shingles import NGRAM, distinct

CENTRES = 32
"""Best-ranked nodes of a bucket that each of its nodes is compared with: bounds the work in data made of templates."""
REPORTED = 0.5
"""Jaccard similarity from which a verified pair is reported."""

Ints = npt.NDArray[np.int64]

_CHUNK = 100_000


@dataclass
class Nodes:
    """The distinct texts, best first. `members` are all rows; `keys[first[node] : first[node + 1]]` those of a node."""

    keys: pa.Table
    first: Ints
    signatures: npt.NDArray[np.uint8]  # (nodes, 8 * bands + hashes)
    by_source: Counter[str]


def signatures(rows: Table, bands: Bands, common: Common | None) -> Nodes:
    """The first pass: the rows that share their text or a band with another, as nodes in survivor order."""
    if common is None:
        hashed, ngram = rows.with_column("_hashed", col("_text")), NGRAM
    else:
        hashed, ngram = rows.with_column("_hashed", masked_text(common)), 1
    signature = minhash(col("_hashed"), num_hashes=bands.hashes, ngram_size=ngram, hash_function="xxhash")
    packed = _packer(bands)(signature).alias("_signature")
    empty = (col("_text") == lit("")).alias("_empty")
    columns = hashed.select("id", "copy", "source_file", "_prefer", *text_hash(), empty, packed).to_arrow()
    matrix = _matrix(columns["_signature"], 8 * bands.bands + bands.hashes)
    shared = np.zeros(len(columns), bool)
    for band in range(bands.bands):
        shared |= _shared(_band(matrix, band))
    rows_shared = np.flatnonzero(shared & ~columns["_empty"].to_numpy())
    keys = columns.select(["id", "copy", "source_file", "_prefer", "_h1", "_h2"]).take(pa.array(rows_shared))
    order = survivor_order(keys, []).to_numpy().astype(np.int64)
    text = np.stack([keys["_h1"].to_numpy()[order], keys["_h2"].to_numpy()[order]], axis=1)
    _, best, node = np.unique(text, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(best))[node.reshape(-1)]  # nodes numbered by their best row
    within = np.argsort(rank, kind="stable")
    first = np.searchsorted(rank[within], np.arange(len(best) + 1))
    keys = keys.take(pa.array(order[within]))
    signatures = matrix[rows_shared[order[within]][first[:-1]]]
    sources = pc.value_counts(columns["source_file"]).to_pylist()
    return Nodes(keys, first, signatures, Counter({entry["values"] or "": entry["counts"] for entry in sources}))


def _packer(bands: Bands) -> Any:
    """A function from MinHashes to one binary a row: a 64-bit hash of each band, then the low byte of each MinHash."""
    count, size, hashes = bands.bands, bands.rows, bands.hashes

    @func.batch(return_dtype=DataType.binary())
    def pack(signature: Series) -> Any:
        values = signature.to_arrow().flatten().to_numpy().astype(np.uint64).reshape(-1, hashes)
        mixed = np.zeros((len(values), count), np.uint64)
        for row in range(size):
            mixed = (mixed ^ values[:, row::size]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        packed = np.empty((len(values), 8 * count + hashes), np.uint8)
        packed[:, : 8 * count] = mixed.view(np.uint8).reshape(len(values), 8 * count)
        packed[:, 8 * count :] = values & np.uint64(255)
        offsets = pa.py_buffer(np.arange(len(values) + 1, dtype=np.int64) * packed.shape[1])
        return pa.Array.from_buffers(pa.large_binary(), len(values), [None, offsets, pa.py_buffer(packed)])

    return pack


def _matrix(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.uint8]:
    """A column of binaries of one length as a matrix, a row each."""
    chunks = []
    for chunk in column.chunks:
        start = chunk.offset
        offsets = np.frombuffer(chunk.buffers()[1], np.int64)
        data = np.frombuffer(chunk.buffers()[2], np.uint8) if chunk.buffers()[2] else np.empty(0, np.uint8)
        chunks.append(data[offsets[start] : offsets[start + len(chunk)]].reshape(-1, width))
    return np.concatenate(chunks) if chunks else np.empty((0, width), np.uint8)


def _band(matrix: npt.NDArray[np.uint8], band: int) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(matrix[:, 8 * band : 8 * band + 8]).view(np.uint64).reshape(-1)


def _shared(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which values stand more than once."""
    order = np.argsort(values)
    same = values[order][1:] == values[order][:-1]
    shared = np.zeros(len(values), bool)
    shared[order[1:][same]] = shared[order[:-1][same]] = True
    return shared


def candidates(nodes: Nodes, bands: Bands, threshold: float) -> tuple[Ints, Ints]:
    """Pairs of nodes (better, worse) that share a bucket and whose signatures agree enough, each once."""
    low = nodes.signatures[:, 8 * bands.bands :]
    # Four standard deviations below the threshold loses nothing; one below REPORTED is what is reported "where found".
    sure = threshold - 4 * (threshold * (1 - threshold) / bands.hashes) ** 0.5
    least = min(sure, REPORTED - 0.5 / bands.hashes**0.5) * bands.hashes
    pairs = [np.empty(0, np.uint64)]
    for band in range(bands.bands):
        values = _band(nodes.signatures, band)
        order = np.argsort(values, kind="stable")  # within a bucket the nodes stay best first
        begins = np.ones(len(order), bool)
        begins[1:] = values[order][1:] != values[order][:-1]
        start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
        place = np.arange(len(order)) - start
        for centre in range(CENTRES):
            later = np.flatnonzero(place > centre)
            better, worse = order[start[later] + centre], order[later]
            for begin in range(0, len(later), _CHUNK):
                one, other = better[begin : begin + _CHUNK], worse[begin : begin + _CHUNK]
                enough = (low[one] == low[other]).sum(axis=1) >= least
                pairs.append(one[enough].astype(np.uint64) << np.uint64(32) | other[enough].astype(np.uint64))
        pairs = [distinct(np.concatenate(pairs))]  # a band adds few that the ones before it did not find
    found = pairs[0]
    return (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)
