"""Mark, never delete: how a filter step tells a table what it found.

A step computes *findings*, a small Arrow table: the drop columns of the rows it drops, and what it measured on any row.
While many rows are compared they go by their number; keyed by (`id`, `copy`) (`keys.keyed`), `mark` joins them on. A
row that an earlier step dropped keeps that step's reason.
"""

from typing import Any

import daft
import orjson
import pyarrow as pa
from daft import col, lit
from daft.functions import is_null, when

from gristmill.records import DROPS

Table = daft.DataFrame
"""A Gristmill table: the columns of `records.py` in a Daft DataFrame."""

KEY = ["id", "copy"]


def kept(table: Table) -> Table:
    """The rows no step has dropped."""
    return table.where(is_null(col("drop_rule"))) if "drop_rule" in table.column_names else table


def dropped(table: Table) -> Table:
    """The rows some step has dropped, with their reasons."""
    return table.where(~is_null(col("drop_rule"))) if "drop_rule" in table.column_names else table.limit(0)


def evidence(**facts: Any) -> str:
    """The text of a `drop_evidence`: one JSON object."""
    return orjson.dumps(facts).decode()


def findings_schema(**measured: pa.DataType) -> pa.Schema:
    """The schema of findings: the row's number, the drop columns and the named measured columns."""
    fields = [("row", pa.int64()), *((f.name, f.type) for f in DROPS)]
    return pa.schema(fields + list(measured.items()))


def mark(table: Table, findings: pa.Table) -> Table:
    """Join findings to a table by (`id`, `copy`).

    `findings` has `id`, `copy`, the drop columns and any measured ones, at most one row a key; `drop_rule` may be null
    for a row that was only measured. Rows without findings get null in the measured columns. The first step to drop a
    row wins.
    """
    old = [f.name for f in DROPS if f.name in table.column_names]
    measured = [name for name in findings.column_names if name not in KEY and name not in DROPS.names]
    renamed = findings.rename_columns([f"{n}_new" if n in DROPS.names else n for n in findings.column_names])
    joined = table.exclude(*measured).join(daft.from_arrow(renamed), on=["id", "copy"], how="left")
    fresh = is_null(col("drop_rule")) if old else lit(True)
    drops = [
        when(fresh, col(f"{f.name}_new")).otherwise(col(f.name)).alias(f.name)
        if old
        else col(f"{f.name}_new").alias(f.name)
        for f in DROPS
    ]
    rest = [col(name) for name in table.column_names if name not in DROPS.names and name not in measured]
    return joined.select(*rest, *(col(name) for name in measured), *drops)
