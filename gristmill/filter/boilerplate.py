"""Boilerplate: the 5-grams that a share of a source's rows have, left out of the comparison on request.

The share is measured on at most `SAMPLE` rows of each source, those with the smallest ids, so that it is the same on
every run and every engine. A row that has nothing but boilerplate keeps all of it.
"""

from typing import Any

import daft
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, Expression, Series, col, func, lit
from daft.functions import fill_null, list_join

from gristmill.filter.marks import Table
from gristmill.filter.shingles import Hashes, shingle_column

SAMPLE = 10_000
"""Rows of a source on which shares are measured."""

Common = dict[str, Hashes]
"""For each source the sorted hashes of its boilerplate."""


def measure_boilerplate(rows: Table, share: float) -> Common:
    """The 5-grams that more than `share` of the sampled rows of each source have; at least two rows must.

    `rows` has `id`, `source_file` and `_text`, the normalised text; equal rows count once.
    """
    rows = rows.with_column("source_file", fill_null(col("source_file"), lit("")))
    keys = rows.select("id", "source_file").to_arrow().group_by(["id", "source_file"]).aggregate([]).sort_by("id")
    common: Common = {}
    for source in pc.unique(keys["source_file"]).to_pylist():
        sample = keys.filter(pc.equal(keys["source_file"], source)).slice(0, SAMPLE)
        found = rows.join(daft.from_arrow(sample), on=["id", "source_file"])
        texts = found.select("id", shingle_column(col("_text")).alias("_s")).to_arrow()
        _, once = np.unique(texts["id"].to_numpy(), return_index=True)
        shingles = pc.struct_field(texts["_s"].take(pa.array(once)), "shingles").combine_chunks().flatten().to_numpy()
        values, counts = np.unique(shingles, return_counts=True)
        common[source] = values[counts > max(share * len(sample), 1)]
    return common


def masked_text(common: Common) -> Expression:
    """The remaining 5-grams of `_text` as words, for a MinHash of single words."""

    @func.batch(return_dtype=DataType.list(DataType.string()))
    def words(found: Series, sources: Series) -> Any:
        lists = pc.struct_field(found.to_arrow(), "shingles")
        sets, starts = masked_sets(lists, pa.chunked_array([sources.to_arrow()]), common)
        texts = pc.cast(pa.array(sets), pa.large_string())
        return pa.LargeListArray.from_arrays(pa.array(starts), texts)

    return list_join(words(shingle_column(col("_text")), col("source_file")), " ")


def masked_sets(lists: Any, sources: pa.ChunkedArray, common: Common | None) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Sets of shingles without the boilerplate of their source: all hashes one after the other, and where each begins.

    `lists` is an Arrow list of hashes a row.
    """
    hashes = lists.flatten().to_numpy()
    sizes = pc.list_value_length(lists).to_numpy()
    if common:
        names = [name or "" for name in sources.to_pylist()]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        dull = np.zeros(len(hashes), bool)
        for source, values in common.items():
            of_source = np.array([name == source for name in names], bool)[owner]
            dull |= of_source & np.isin(hashes, values)
        left = np.bincount(owner[~dull], minlength=len(sizes))
        keep = ~dull | (left == 0)[owner]
        hashes, sizes = hashes[keep], np.where(left == 0, sizes, left)
    return hashes, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
