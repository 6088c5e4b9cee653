"""Exact duplicates: rows whose normalised text is the same.

Of each group one row survives: the best score named by `prefer` (null last), then the smallest (`id`, `copy`). Texts
are compared by two 64-bit hashes. Rows without any text are no duplicates of each other.
"""

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.filter.marks import Table, evidence, findings_schema, mark
from gristmill.filter.row_keys import best_first, keyed
from gristmill.filter.signatures import Signed, signed
from gristmill.filter.text import TextOf


def exact(table: Table, *, text: TextOf = "both", prefer: str | None = None) -> Table:
    """Mark the rows whose normalised text another kept row has: drop_rule `exact_duplicate`, drop_value 1 (Jaccard).

    Measures `rule_exact_duplicate`, the size of the group, on the rows of groups of two and more.
    """
    rows, _ = signed(table, text=text, prefer=prefer)
    return mark(table, keyed(exact_findings(rows), rows.keys))


def exact_findings(signed: Signed) -> pa.Table:
    """What `exact` marks, by row number."""
    lines = signed.text_lines()
    first, second = (signed.column(name)[lines] for name in ("_h1", "_h2"))
    order = np.argsort(first, kind="stable")
    again = np.zeros(len(lines), bool)
    same = first[order][1:] == first[order][:-1]
    again[order[1:][same]] = again[order[:-1][same]] = True
    first, second, rows = first[again], second[again], signed.rows[lines[again]]
    rank = np.empty(len(signed.kept), np.int64)
    rank[best_first(signed.keys, rows, signed.score)] = np.arange(len(rows))
    order = np.lexsort((rank[rows], second, first))
    first, second, rows = first[order], second[order], rows[order]
    begins = np.ones(len(rows), bool)
    begins[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    group = np.cumsum(begins) - 1
    sizes = np.bincount(group, minlength=1)[group] if len(group) else group
    best = rows[begins][group]
    in_group = sizes > 1  # a group of one was a false agreement of the first hash
    rows, best, sizes = rows[in_group], best[in_group], sizes[in_group]
    lost = rows != best
    why = np.full(len(rows), None, object)
    copies = signed.keys.copy[best[lost]].tolist()
    ids = signed.keys.ids(best[lost]).to_pylist()
    why[lost] = [evidence(id=id, copy=copy, jaccard=1.0) for id, copy in zip(ids, copies, strict=True)]
    one = pa.array(np.ones(len(rows)), mask=~lost)
    rule = pc.if_else(pa.array(lost), "exact_duplicate", pa.scalar(None, pa.large_string()))
    columns = [pa.array(rows), rule, one, one, pa.array(why, pa.large_string()), pa.array(sizes.astype(np.float64))]
    return pa.table(columns, schema=_SCHEMA).sort_by("row")


_SCHEMA = findings_schema(rule_exact_duplicate=pa.float64())


def followed(exact: pa.Table, near: pa.Table, signed: Signed) -> pa.Table:
    """Exact findings whose evidence names, for a row that near duplicates removed, the row that one was tied to.

    The texts being equal, the similarity to that row is the removed row's.
    """
    lost = near.filter(pc.is_valid(near["drop_rule"]))
    rows = lost["row"].to_numpy()
    keys = zip(signed.keys.ids(rows).to_pylist(), signed.keys.copy[rows].tolist(), strict=True)
    tied = dict(zip(keys, lost["drop_evidence"].to_pylist(), strict=True))
    told = exact["drop_evidence"].to_pylist()
    for row, why in enumerate(told):
        if why is not None:
            facts = orjson.loads(why)
            told[row] = tied.get((facts["id"], facts["copy"]), why)
    place = exact.column_names.index("drop_evidence")
    return exact.set_column(place, "drop_evidence", pa.array(told, pa.large_string()))
