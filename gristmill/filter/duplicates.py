"""Exact duplicates: rows whose normalised text is the same.

Of each group one row survives: the best score named by `prefer` (null last), then the smallest (`id`, `copy`). Texts
are compared by two 64-bit hashes. Rows without any text are no duplicates of each other.
"""

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from daft import Expression, col, lit
from daft.functions import hash as daft_hash

from gristmill.errors import UsageError
from gristmill.filter.marks import Table, evidence, findings_schema, kept, mark
from gristmill.filter.text import TextOf, normalized_text
from gristmill.records import kind_of


def exact(table: Table, *, text: TextOf = "both", prefer: str | None = None) -> Table:
    """Mark the rows whose normalised text another kept row has: drop_rule `exact_duplicate`, drop_value 1 (Jaccard).

    Measures `rule_exact_duplicate`, the size of the group, on the rows of groups of two and more.
    """
    return mark(table, exact_findings(table, text=text, prefer=prefer))


def exact_findings(table: Table, *, text: TextOf = "both", prefer: str | None = None) -> pa.Table:
    """What `exact` marks, keyed by (`id`, `copy`)."""
    rows = kept(table).with_column("_text", normalized_text(kind_of(table.column_names), text))
    keys = rows.where(col("_text") != lit("")).select("id", "copy", *text_hash(), preference(table, prefer)).to_arrow()
    first = keys["_h1"].to_numpy()
    order = np.argsort(first, kind="stable")
    again = np.zeros(len(keys), bool)
    same = first[order][1:] == first[order][:-1]
    again[order[1:][same]] = again[order[:-1][same]] = True
    groups = keys.filter(pa.array(again))
    groups = groups.take(survivor_order(groups, ["_h1", "_h2"]))
    ids, copies = groups["id"].to_pylist(), groups["copy"].to_pylist()
    hashes = list(zip(groups["_h1"].to_pylist(), groups["_h2"].to_pylist(), strict=True))
    found: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    best = 0
    for row, text_hashes in enumerate(hashes):
        if row and hashes[best] != text_hashes:
            _grow(found, row - best)
            best = row
        rule, value, why = None, None, None
        if row != best:
            rule, value = "exact_duplicate", 1.0
            why = evidence(id=ids[best], copy=copies[best], jaccard=1.0)
        for name, entry in zip(_SCHEMA.names, (ids[row], copies[row], rule, value, value, why, None), strict=True):
            found[name].append(entry)
    if hashes:
        _grow(found, len(hashes) - best)
    return pa.table(found, schema=_SCHEMA)


_SCHEMA = findings_schema(rule_exact_duplicate=pa.float64())


def _grow(found: dict[str, list[object]], size: int) -> None:
    """Write the size of the group that the last `size` rows are; a group of one was a hash's false agreement."""
    found["rule_exact_duplicate"][-size:] = [float(size) if size > 1 else None] * size


def followed(exact: pa.Table, near: pa.Table) -> pa.Table:
    """Exact findings whose evidence names, for a row that near duplicates removed, the row that one was tied to.

    The texts being equal, the similarity to that row is the removed row's.
    """
    lost = near.filter(pc.is_valid(near["drop_rule"]))
    keys = zip(lost["id"].to_pylist(), lost["copy"].to_pylist(), strict=True)
    tied = dict(zip(keys, lost["drop_evidence"].to_pylist(), strict=True))
    told = exact["drop_evidence"].to_pylist()
    for row, why in enumerate(told):
        if why is not None:
            facts = orjson.loads(why)
            told[row] = tied.get((facts["id"], facts["copy"]), why)
    place = exact.column_names.index("drop_evidence")
    return exact.set_column(place, "drop_evidence", pa.array(told, pa.large_string()))


def text_hash() -> tuple[Expression, Expression]:
    """128 bits of the column `_text` as `_h1` and `_h2`."""
    return daft_hash(col("_text")).alias("_h1"), daft_hash(col("_text"), seed=lit(1)).alias("_h2")


def preference(table: Table, prefer: str | None) -> Expression:
    """The score that chooses survivors as `_prefer` (null where none is named); raises UsageError if there is none."""
    if prefer is None:
        return lit(None).cast("float64").alias("_prefer")
    name = f"score_{prefer}"
    if name not in table.column_names:
        scores = ", ".join(c.removeprefix("score_") for c in table.column_names if c.startswith("score_"))
        raise UsageError(f"--prefer {prefer}: no column {name}; the scores are {scores or '(none)'}")
    return col(name).alias("_prefer")


def survivor_order(keys: pa.Table, group: list[str]) -> pa.Array:
    """Row numbers sorted by the group columns, then best first: score descending (null last), then (id, copy)."""
    best_first = keys.append_column("_best", pc.negate(pc.fill_null(keys["_prefer"], -np.inf)))
    return pc.sort_indices(best_first, sort_keys=[(name, "ascending") for name in (*group, "_best", "id", "copy")])
