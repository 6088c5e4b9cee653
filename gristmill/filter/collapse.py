"""Answers with the same opening: groups by the first 200 normalised characters. Other likenesses: see duplicates."""

from typing import Any, NamedTuple

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import col
from daft.functions import substr

from gristmill.filter.marks import KEY, Table, evidence, findings_schema, mark
from gristmill.filter.row_keys import best_first, keyed
from gristmill.filter.signatures import OPENING, Signed, signed
from gristmill.filter.text import normalized
from gristmill.records import kind_of

LARGEST = 10
"""Groups that are reported with their opening."""


class Openings(NamedTuple):
    """Findings with `rule_collapsed` (group size) by row number; report: groups, rows, largest [{opening, size}]."""

    findings: pa.Table
    report: dict[str, Any]


def openings_findings(signed: Signed, table: Table, on: pa.Table, *, drop: bool = False) -> Openings:
    """Group the kept rows by the first 200 normalised characters of the response (of a preference: chosen).

    Empty answers and prompts form no group. With `drop` all but the best row of a group drop as `collapsed`: best score
    first (null and NaN last), then (id, copy). `on` holds the columns that name a row in `table`, by row number.
    """
    openings = signed.lines.to_table(columns=["_opening"])["_opening"]
    lines = np.flatnonzero(pc.is_valid(openings).to_numpy() & signed.kept[signed.rows])
    values, rows = openings.take(pa.array(lines)).to_numpy(), signed.rows[lines]
    rank = np.empty(len(signed.kept), np.int64)
    rank[best_first(signed.keys, rows, signed.score)] = np.arange(len(rows))
    order = np.lexsort((rank[rows], values))
    values, rows = values[order], rows[order]
    begins = np.ones(len(rows), bool)
    begins[1:] = values[1:] != values[:-1]
    group = np.cumsum(begins) - 1
    sizes = np.bincount(group, minlength=1)[group] if len(group) else group
    best, shared = rows[begins][group], sizes > 1
    rows, best, sizes, group = rows[shared], best[shared], sizes[shared], group[shared]
    centres, first = np.unique(best, return_index=True)
    text = _openings(table, on, centres, kind_of(table.column_names)) if drop else {}
    lost = (rows != best) & drop
    why = np.full(len(rows), None, object)
    copies = signed.keys.copy[best[lost]].tolist()
    named = zip(signed.keys.ids(best[lost]).to_pylist(), copies, best[lost].tolist(), strict=True)
    why[lost] = [evidence(id=id, copy=copy, opening=text[row]) for id, copy, row in named]
    size = sizes.astype(np.float64)
    columns = [
        pa.array(rows),
        pc.if_else(pa.array(lost), "collapsed", pa.scalar(None, pa.large_string())),
        pa.array(size, mask=~lost),
        pa.array(np.ones(len(rows)), mask=~lost),
        pa.array(why, pa.large_string()),
        pa.array(size),
    ]
    largest = centres[np.lexsort((centres, -sizes[first]))][:LARGEST]
    text = text or _openings(table, on, largest, kind_of(table.column_names))
    size_of = dict(zip(centres.tolist(), sizes[first].tolist(), strict=True))
    shown = sorted(({"opening": text[row], "size": size_of[row]} for row in largest.tolist()), key=_by_size)
    report = {"groups": len(centres), "rows": len(rows), "largest": shown}
    return Openings(pa.table(columns, schema=_SCHEMA).sort_by("row"), report)


_SCHEMA = findings_schema(rule_collapsed=pa.float64())


def _by_size(group: dict[str, Any]) -> tuple[int, str]:
    return -group["size"], group["opening"]


def _openings(table: Table, on: pa.Table, rows: Any, kind: str) -> dict[int, str]:
    """The openings of the numbered rows."""
    wanted = on.take(pa.array(rows)).append_column("_row", pa.array(rows, pa.int64()))
    answer = normalized(col("chosen" if kind == "preference" else "response"))
    if not len(wanted):
        return {}
    found = table.join(daft.from_arrow(wanted), on=on.column_names)
    openings = found.select("_row", substr(answer, 0, OPENING).alias("opening")).to_arrow()
    return dict(zip(openings["_row"].to_pylist(), openings["opening"].to_pylist(), strict=True))


def mark_openings(table: Table, *, drop: bool = False, prefer: str | None = None) -> Table:
    """The table with `rule_collapsed`, and with `drop` all but the best row of each group dropped as `collapsed`.

    Raises UsageError for a score `prefer` that the table does not have.
    """
    signatures, keys = signed(table, text="response", prefer=prefer, openings=True)
    found = openings_findings(signatures, table, keys.select(KEY), drop=drop)
    return mark(table, keyed(found.findings, signatures.keys))
