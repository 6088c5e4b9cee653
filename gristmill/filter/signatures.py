"""One pass over the texts: what the stages that compare rows with each other need of each, in some 250 bytes.

Per row: 128 bits of its normalised text (exact duplicates), 64 bits of the answer's opening (same openings), and for
near duplicates 64 bits a band of its MinHash signature and one byte a hash. They are stored as Parquet beside the
table, so that a stage reads one column at a time and another threshold needs no text.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from daft import DataType, Expression, Series, col, func, lit
from daft.functions import hash as daft_hash
from daft.functions import minhash, substr, when

from gristmill import progress
from gristmill.errors import UsageError
from gristmill.filter.bands import Bands
from gristmill.filter.boilerplate import Common, masked_text
from gristmill.filter.marks import KEY, Table, kept
from gristmill.filter.row_keys import Floats, Ints, Keys, keys_of
from gristmill.filter.shingles import NGRAM
from gristmill.filter.text import TextOf, normalized, normalized_text
from gristmill.records import Kind, kind_of
from gristmill.runner import bounded

OPENING = 200
"""Characters of the normalised answer that are its opening."""
_OPENING_READ = 2 * OPENING
"""Characters of the answer that are normalised for it: white space is folded, so more than the opening itself."""


class Signed(NamedTuple):
    """The rows that the comparing stages see.

    `lines` holds the signatures, those of row number `rows[line]` in each line; `keys`, `kept` and `score` (None: no
    preference) are by row number.
    """

    lines: ds.Dataset
    rows: Ints
    keys: Keys
    kept: npt.NDArray[np.bool_]
    score: Floats | None

    def column(self, name: str) -> Any:
        """One column of the signatures as an array, a line each."""
        return self.lines.to_table(columns=[name])[name].to_numpy()

    def text_lines(self) -> Ints:
        """The lines of kept rows that have text."""
        return np.flatnonzero(self.kept[self.rows] & ~self.column("_empty"))


def signed(
    table: Table,
    *,
    text: TextOf,
    prefer: str | None,
    bands: Bands | None = None,
    common: Common | None = None,
    openings: bool = False,
) -> tuple[Signed, pa.Table]:
    """The signatures of a table's kept rows, in memory, and their `id`, `copy` and `source_file` by row number."""
    carry: list[str | Expression] = [*KEY, "source_file", preference(table, prefer)]
    lines = sign(kept(table), carry, text=text, bands=bands, common=common, openings=openings)
    with bounded():
        rows = lines.to_arrow()
    keys = keys_of(rows["id"], rows["copy"].to_numpy())
    score = None if prefer is None else rows["_prefer"].to_numpy()
    every = np.arange(len(rows))
    return Signed(ds.dataset(rows), every, keys, np.ones(len(rows), bool), score), rows.select([*KEY, "source_file"])


def preference(table: Table, prefer: str | None) -> Expression:
    """The score that chooses survivors as `_prefer` (null where none is named); raises UsageError if there is none."""
    if prefer is None:
        return lit(None).cast(DataType.float64()).alias("_prefer")
    name = f"score_{prefer}"
    if name not in table.column_names:
        scores = ", ".join(c.removeprefix("score_") for c in table.column_names if c.startswith("score_"))
        raise UsageError(f"--prefer {prefer}: no column {name}; the scores are {scores or '(none)'}")
    return col(name).alias("_prefer")


def sign(
    table: Table,
    carry: Sequence[str | Expression],
    *,
    text: TextOf,
    bands: Bands | None,
    common: Common | None = None,
    openings: bool = True,
) -> Table:
    """The signatures of a table's rows, lazily.

    Columns: `carry`, `_empty`, `_h1`, `_h2`, `_opening` if `openings` are wanted (null without an answer), and with
    `bands` a `_b0`, … for each band and `_low`. With `common` its 5-grams are left out of the MinHashes.
    """
    kind = kind_of(table.column_names)
    # Each costly column on its own: Daft computes the columns of one projection side by side, but then batch after
    # batch, so that MinHashes beside the cheap columns of the last projection would have one core.
    table = table.with_column("_text", normalized_text(kind, text))
    computed = [(col("_text") == lit("")).alias("_empty"), *text_hash()]
    if bands is not None:
        hashed, ngram = (col("_text"), NGRAM) if common is None else (masked_text(common), 1)
        hashes = minhash(hashed, num_hashes=bands.hashes, ngram_size=ngram, hash_function="xxhash")
        table = table.with_column("_signature", _packer(bands)(hashes))
        computed += [col("_signature")[name].alias(name) for name in (*band_names(bands), "_low")]
    if openings:
        computed.append(_opening(kind).alias("_opening"))
    return table.select(*carry, *computed)


def _opening(kind: Kind) -> Expression:
    """A hash of the answer's opening, null where there is none."""
    none = lit(None).cast(DataType.uint64())
    if kind == "prompt":
        return none
    answer = col("chosen" if kind == "preference" else "response")
    opening = substr(normalized(substr(answer, 0, _OPENING_READ)), 0, OPENING)
    return when(opening != lit(""), daft_hash(opening)).otherwise(none)


def text_hash() -> tuple[Any, Any]:
    """128 bits of the column `_text` as `_h1` and `_h2`."""
    return daft_hash(col("_text")).alias("_h1"), daft_hash(col("_text"), seed=lit(1)).alias("_h2")


def band_names(bands: Bands) -> list[str]:
    """The columns of the bands' hashes."""
    return [f"_b{band}" for band in range(bands.bands)]


def _packer(bands: Bands) -> Any:
    """A function from MinHashes to a struct of a 64-bit hash a band and the low byte of each MinHash."""
    names, size, hashes = band_names(bands), bands.rows, bands.hashes
    fields = dict.fromkeys(names, DataType.uint64()) | {"_low": DataType.binary()}

    @func.batch(return_dtype=DataType.struct(fields))
    def pack(signature: Series) -> Any:
        values = signature.to_arrow().flatten().to_numpy().reshape(-1, hashes)
        mixed = np.zeros((len(names), len(values)), np.uint64)
        for row in range(size):
            mixed = (mixed ^ values[:, row::size].T) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        progress.advance(len(values))
        low = np.ascontiguousarray(values.astype(np.uint8))
        offsets = pa.py_buffer(np.arange(len(values) + 1, dtype=np.int64) * hashes)
        lows = pa.Array.from_buffers(pa.large_binary(), len(values), [None, offsets, pa.py_buffer(low)])
        return pa.StructArray.from_arrays([*(pa.array(band) for band in mixed), lows], [*names, "_low"])

    return pack
