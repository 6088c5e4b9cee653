"""The work table: every row as it was read and measured, in Parquet parts, and what the driver holds of each.

The parts stand in the order in which the engine wrote them. The driver numbers the good rows in input order and holds,
by that number, the key, the source, the scores and the place in the parts: some 60 bytes a row. Texts stay on disk;
`windows` brings them back in input order.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import col
from daft.functions import is_null

from gristmill.files import BAD, ORDER
from gristmill.filter.marks import Table, findings_schema
from gristmill.filter.row_keys import Floats, Ints, Keys, halves, numbered
from gristmill.records import DROPS, Kind, kind_of

WINDOW = 20_000
"""Rows that `windows` gives at a time."""
_HELD = 4
"""Parts held beyond those of the window: the engine swaps neighbours."""


class Work(NamedTuple):
    """`table` has the good rows; all else is by row number. `orders` are the rows' places in the input."""

    table: Table
    kind: Kind
    files: Sequence[str]
    orders: Ints
    keys: Keys
    sources: pa.Array
    scores: dict[str, Floats]
    part: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int32]
    ruled: pa.Table
    bad: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.orders)

    def numbers(self, orders: pa.ChunkedArray) -> Ints:
        """The row numbers of good rows given by their `_order`."""
        rows: Ints = np.searchsorted(self.orders, orders.to_numpy())
        return rows

    def findings(self, marked: pa.Table) -> pa.Table:
        """Rows with `_order`, drop columns and measures as findings by row number; rows without either are left out."""
        names = [name for name in marked.column_names if name != ORDER and name not in DROPS.names]
        some = pc.is_valid(marked["drop_rule"])
        for name in names:
            some = pc.or_(some, pc.is_valid(marked[name]))
        marked = marked.filter(some)
        columns = {"row": pa.array(self.numbers(marked[ORDER]))} | {n: marked[n] for n in (*DROPS.names, *names)}
        return pa.table(columns).sort_by("row")

    def on(self) -> pa.Table:
        """The column that names a row in `table`, by row number."""
        return pa.table({ORDER: self.orders})


def work_of(table: Table, files: Sequence[str]) -> Work:
    """Number the rows of a work table, whose parts are `files`.

    `ruled` holds the findings of the rules by row number, `bad` the bad rows {source_file, source_row, _bad}.
    """
    names = pq.read_schema(files[0]).names if files else table.column_names
    scores = [name for name in names if name.startswith("score_")]
    parts, bad, ruled = [], [], []
    for number, file in enumerate(files):
        rows = pq.read_table(file, columns=["id", "source_file", "source_row", ORDER, BAD, *scores, *DROPS.names])
        good = pc.is_null(rows[BAD])
        bad.append(rows.filter(pc.invert(good)).select(["source_file", "source_row", ORDER, BAD]))
        offsets = pa.array(np.flatnonzero(good.to_numpy()).astype(np.int32))
        rows = rows.filter(good)
        ruled.append(rows.filter(pc.is_valid(rows["drop_rule"])).select([ORDER, *DROPS.names]))
        high, low = halves(rows["id"])
        parts.append(
            rows.select(["source_file", ORDER, *scores])
            .append_column("_high", pa.array(high))
            .append_column("_low", pa.array(low))
            .append_column("_offset", offsets)
            .append_column("_part", pa.array(np.full(len(rows), number, np.int32)))
        )
        parts[-1] = parts[-1].set_column(0, "source_file", parts[-1]["source_file"].dictionary_encode())
    narrow = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    narrow = narrow.take(pc.sort_indices(narrow[ORDER]))
    column = {name: narrow[name].combine_chunks() for name in narrow.column_names}
    orders = column[ORDER].to_numpy()
    high, low = column["_high"].to_numpy(), column["_low"].to_numpy()
    set_aside = pa.concat_tables(bad).sort_by(ORDER)
    dropped = pa.concat_tables(ruled).sort_by(ORDER)
    findings = dropped.set_column(0, "row", pa.array(np.searchsorted(orders, dropped[ORDER].to_numpy())))
    return Work(
        table.where(is_null(col(BAD))),
        kind_of(names),
        files,
        orders,
        numbered(high, low),
        column["source_file"],
        {
            name.removeprefix("score_"): column[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            for name in scores
        },
        column["_part"].to_numpy(),
        column["_offset"].to_numpy(),
        findings.cast(findings_schema()),
        set_aside.drop_columns([ORDER]).to_pylist(),
    )


def windows(work: Work) -> Iterator[tuple[int, pa.Table]]:
    """The good rows in input order, `WINDOW` at a time, each window with the number of its first row."""
    held: dict[int, pa.Table] = {}
    for start in range(0, len(work), WINDOW):
        parts, offsets = work.part[start : start + WINDOW], work.offset[start : start + WINDOW]
        pieces, places = [], []
        for part in np.unique(parts).tolist():
            table = held.pop(part, None)
            held[part] = table if table is not None else pq.read_table(work.files[part])
            here = np.flatnonzero(parts == part)
            pieces.append(held[part].take(pa.array(offsets[here])))
            places.append(here)
        for part in list(held)[: max(len(held) - _HELD, 0)]:
            del held[part]
        window = pa.concat_tables(pieces)
        yield start, window.take(pa.array(np.argsort(np.concatenate(places)))).drop_columns([ORDER, BAD])
