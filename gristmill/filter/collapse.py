"""Answers with the same opening: groups by the first 200 normalised characters. Other likenesses: see duplicates."""

from collections import defaultdict
from typing import Any, NamedTuple

import pyarrow as pa
from daft import col
from daft.functions import substr

from gristmill.errors import UsageError
from gristmill.filter.marks import Table, evidence, findings_schema, kept, mark
from gristmill.filter.text import normalized
from gristmill.records import kind_of

OPENING = 200


class Openings(NamedTuple):
    """Findings with `rule_collapsed` (group size), and the report: groups, rows, largest [{opening, size}]."""

    findings: pa.Table
    report: dict[str, Any]


def openings_findings(table: Table, *, mark: bool = False, prefer: str | None = None) -> Openings:
    """Group the kept rows by the first 200 normalised characters of the response (of a preference: chosen).

    Empty answers and prompt tables form no group. With `mark` all but the best row of a group drop as `collapsed`:
    highest `score_<prefer>` first (null and NaN last), then (id, copy). Raises UsageError for an unknown score.
    """
    kind = kind_of(table.column_names)
    schema = findings_schema(rule_collapsed=pa.float64())
    if prefer is not None and f"score_{prefer}" not in table.column_names:
        raise UsageError(f"prefer {prefer!r}: no column score_{prefer} in this table; name a score it has")
    groups: dict[str, list[tuple[float, str, int]]] = defaultdict(list)
    if kind != "prompt":
        answer = col("chosen" if kind == "preference" else "response")
        columns = [col("id"), col("copy"), *([col(f"score_{prefer}").alias("score")] if prefer else [])]
        rows = kept(table).select(*columns, substr(normalized(answer), 0, OPENING).alias("opening")).to_pylist()
        for row in rows:
            score = row.get("score")
            rank = -score if score is not None and score == score else float("inf")
            if row["opening"]:
                groups[row["opening"]].append((rank, row["id"], row["copy"]))
    shared = {opening: sorted(rows) for opening, rows in groups.items() if len(rows) > 1}
    found = [finding for opening, rows in shared.items() for finding in _group_findings(opening, rows, mark)]
    largest = sorted(((len(rows), opening) for opening, rows in shared.items()), key=lambda g: (-g[0], g[1]))[:10]
    report = {
        "groups": len(shared),
        "rows": len(found),
        "largest": [{"opening": opening, "size": size} for size, opening in largest],
    }
    return Openings(pa.Table.from_pylist(found, schema=schema), report)


def mark_openings(table: Table, *, drop: bool = False, prefer: str | None = None) -> Table:
    """The table with `rule_collapsed`, and with `drop` all but the best row of each group dropped as `collapsed`."""
    return mark(table, openings_findings(table, mark=drop, prefer=prefer).findings)


def _group_findings(opening: str, rows: list[tuple[float, str, int]], drop: bool) -> list[dict[str, Any]]:
    size = float(len(rows))
    found: list[dict[str, Any]] = [{"id": i, "copy": c, "rule_collapsed": size} for _, i, c in rows]
    if drop:
        why = evidence(id=rows[0][1], copy=rows[0][2], opening=opening)
        for row in found[1:]:
            row |= {"drop_rule": "collapsed", "drop_value": size, "drop_limit": 1.0, "drop_evidence": why}
    return found
