"""Reject rows by their score columns: a threshold for each score, or the best fraction by one. Computes no score."""

from math import ceil

import pyarrow as pa
from daft import DataType, col, lit
from daft.functions import fill_null, is_nan, is_null, when

from gristmill.errors import UsageError
from gristmill.filter.marks import Table, findings_schema, kept, mark
from gristmill.records import DROPS


def minimum_scores(table: Table, minimums: dict[str, float], keep_unjudged: bool = False) -> Table:
    """Drop rows whose `score_<name>` is below its own threshold; lazy and row-local.

    A null or NaN score drops as `unjudged_<name>` unless `keep_unjudged`. The first name that fails gives the reason.
    Raises UsageError for a score the table does not have.
    """
    for name, limit in minimums.items():
        _require(table, name)
        score = col(f"score_{name}")
        unjudged = fill_null(is_nan(score), lit(True))
        below = ~unjudged & (score < lit(float(limit)))
        null = {field.name: lit(None).cast(DataType.from_arrow_type(field.type)) for field in DROPS}
        old = {n: col(n) if n in table.column_names else null[n] for n in DROPS.names}
        low = is_null(old["drop_rule"]) & fill_null(below, lit(False))
        missing = is_null(old["drop_rule"]) & unjudged & lit(not keep_unjudged)
        rule = when(low, lit(f"below_{name}")).when(missing, lit(f"unjudged_{name}")).otherwise(old["drop_rule"])
        value = when(low, score).otherwise(old["drop_value"])
        cut = when(low | missing, lit(float(limit))).otherwise(old["drop_limit"])
        table = table.with_columns(
            {"drop_rule": rule, "drop_value": value, "drop_limit": cut, "drop_evidence": old["drop_evidence"]}
        )
    return table


def keep_top(table: Table, fraction: float, name: str, keep_unjudged: bool = False) -> Table:
    """Keep exactly ceil(fraction·n) of the n judged kept rows, best `score_<name>` first, ties by (id, copy).

    `fraction` is in (0, 1]. The others drop as `below_<name>` with the score at the cut as limit; a null or NaN score
    drops as `unjudged_<name>` unless `keep_unjudged`. Raises UsageError for another fraction or an unknown score.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"--keep-top {fraction}:{name}: the fraction must be above 0 and at most 1")
    _require(table, name)
    rows = kept(table).select("id", "copy", f"score_{name}").to_pylist()
    scored = [(row[f"score_{name}"], row["id"], row["copy"]) for row in rows]
    judged = sorted((r for r in scored if r[0] is not None and r[0] == r[0]), key=lambda r: (-r[0], r[1], r[2]))
    # Rounded first, so that 0.07 of 100 rows is 7 and not the 8 of 0.07 * 100 = 7.000000000000001.
    count = ceil(round(fraction * len(judged), 9))
    found = [_drop(row, f"below_{name}", row[0], judged[count - 1][0]) for row in judged[count:]]
    if not keep_unjudged:
        found += [_drop(r, f"unjudged_{name}", None, None) for r in scored if r[0] is None or r[0] != r[0]]
    return mark(table, pa.Table.from_pylist(found, schema=findings_schema()))


def _drop(
    row: tuple[float | None, str, int], rule: str, value: float | None, limit: float | None
) -> dict[str, str | int | float | None]:
    return {"id": row[1], "copy": row[2], "drop_rule": rule, "drop_value": value, "drop_limit": limit}


def _require(table: Table, name: str) -> None:
    if f"score_{name}" not in table.column_names:
        there = ", ".join(n.removeprefix("score_") for n in table.column_names if n.startswith("score_"))
        raise UsageError(f"score {name!r}: no column score_{name}; scores in this table: {there or 'none'}")
