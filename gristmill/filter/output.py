"""The last pass of the filter: the work table in input order, with what every stage found, into the output directory.

Rows pass in windows; Parquet is compressed on a thread of its own while the next window is made.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gristmill import progress
from gristmill.export.messages import training_row
from gristmill.filter.balance import Balance
from gristmill.filter.diversity import Diversity
from gristmill.filter.row_keys import Ints
from gristmill.filter.work import Work, windows
from gristmill.filter.yields import Yields
from gristmill.parquet import Writer
from gristmill.records import DROPS

_TRAINED = {"prompt", "tools", "response", "chosen", "rejected", "label"}


class Written(NamedTuple):
    """Counted on the way: kept and dropped rows, in all and by what made them, the distribution, how diverse it is."""

    rows_kept: int
    dropped: dict[str, int]
    yields: list[dict[str, Any]]
    balance: dict[str, Any]
    diversity: dict[str, Any]


def write_rows(work: Work, findings: Sequence[pa.Table], directory: Path) -> Written:
    """Write `rows.parquet`, `kept.parquet` and `kept.jsonl`; `findings` are those of the stages in order, by row."""
    balance, diversity, dropped = Balance(work.kind, len(work)), Diversity(work.kind), Counter[str]()
    yields = Yields()
    rows_kept = 0
    with ExitStack() as files:
        chat = files.enter_context((directory / "kept.jsonl").open("wb"))
        writers: list[Writer] = []
        for window in marked_windows(work, findings):
            survivors = window.filter(pc.is_null(window["drop_rule"]))
            if not writers:
                names = ("rows.parquet", "kept.parquet")
                writers = [files.enter_context(Writer(directory / name, window.schema)) for name in names]
            writers[0].write(window)
            writers[1].write(survivors)
            for row in survivors.select(_TRAINED & set(window.column_names)).to_pylist():
                chat.write(orjson.dumps(training_row(work.kind, row)) + b"\n")
            balance.add(window)
            diversity.add(survivors)
            yields.add(window)
            reasons = pc.value_counts(window["drop_rule"].drop_null()).to_pylist()
            dropped.update({entry["values"]: entry["counts"] for entry in reasons})
            rows_kept += len(survivors)
            progress.advance(len(window))
    return Written(rows_kept, dict(dropped.most_common()), yields.summary(), balance.summary(), diversity.summary())


def marked_windows(work: Work, findings: Sequence[pa.Table]) -> Iterator[pa.Table]:
    """The rows in input order with their copies, what the stages measured, and the drop columns last."""
    rows = [table["row"].to_numpy() for table in findings]
    measured = {name: at for at, table in enumerate(findings) for name in table.column_names[1:]}
    for start, window in windows(work):
        end = start + len(window)
        spans = [np.searchsorted(numbers, [start, end]) for numbers in rows]
        parts = [table.slice(first, last - first) for table, (first, last) in zip(findings, spans, strict=True)]
        copies = pa.array(work.keys.copy[start:end].astype(np.int64))
        window = window.drop_columns(DROPS.names)
        window = window.add_column(window.column_names.index("id") + 1, "copy", copies)
        for name, at in measured.items():
            if name not in DROPS.names:
                column = _scattered([parts[at]], name, start, end)
                place = window.column_names.index(name) if name in window.column_names else -1
                window = window.append_column(name, column) if place < 0 else window.set_column(place, name, column)
        for name in DROPS.names:
            window = window.append_column(name, _scattered(parts, name, start, end))
        yield window


def _scattered(parts: Sequence[pa.Table], name: str, start: int, end: int) -> pa.Array:
    """A column of findings, set out by row; for a drop column that of the one stage that dropped the row."""
    if name in DROPS.names:
        parts = [part.filter(pc.is_valid(part["drop_rule"])) for part in parts]
    values = pa.chunked_array([chunk for part in parts for chunk in part[name].chunks], parts[0][name].type)
    index = np.full(end - start, -1)
    rows: Ints = np.concatenate([part["row"].to_numpy() for part in parts])
    index[rows - start] = np.arange(len(rows))
    return values.take(pa.array(index, mask=index < 0)).combine_chunks()
