"""Reject rows by their score columns: a threshold for each score, or the best fraction by one. Computes no score."""

from collections.abc import Mapping
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.errors import UsageError
from gristmill.filter.marks import KEY, Table, findings_schema, kept, mark
from gristmill.filter.row_keys import Floats, Ints, Keys, best_first, keyed, keys_of


def minimum_scores(table: Table, minimums: dict[str, float], keep_unjudged: bool = False) -> Table:
    """Drop kept rows whose `score_<name>` is below its own threshold.

    A null or NaN score drops as `unjudged_<name>` unless `keep_unjudged`. The first name that fails gives the reason.
    Raises UsageError for a score the table does not have.
    """
    for name in minimums:
        _require(table, name)
    rows = kept(table).select(*KEY, *(f"score_{name}" for name in minimums)).to_arrow()
    scores = {name: rows[f"score_{name}"].cast(pa.float64()).to_numpy() for name in minimums}
    findings = minimum_findings(scores, np.arange(len(rows)), minimums, keep_unjudged)
    return mark(table, keyed(findings, keys_of(rows["id"], rows["copy"].to_numpy())))


def minimum_findings(
    scores: Mapping[str, Floats], rows: Ints, minimums: Mapping[str, float], keep_unjudged: bool
) -> pa.Table:
    """What `minimum_scores` marks among the numbered rows; `scores` are by row number, NaN where unknown.

    Raises UsageError for a score that is not there.
    """
    found = [findings_schema().empty_table()]
    for name, limit in minimums.items():
        if name not in scores:
            raise UsageError(f"score {name!r}: no row has it; the scores are {', '.join(scores) or '(none)'}")
        score = scores[name][rows]
        unjudged = np.isnan(score)
        lost = (score < limit) | (unjudged & (not keep_unjudged))
        found.append(_lost(rows[lost], name, score[lost], float(limit)))
        rows = rows[~lost]
    return pa.concat_tables(found).sort_by("row")


def _lost(rows: Ints, name: str, score: Floats, limit: float) -> pa.Table:
    """Findings of rows dropped by a score; NaN is a row that nobody judged."""
    known = ~np.isnan(score)
    rule = pc.if_else(pa.array(known), f"below_{name}", pa.scalar(f"unjudged_{name}", pa.large_string()))
    limits = pa.array(np.full(len(rows), limit), from_pandas=True)
    evidence = pa.nulls(len(rows), pa.large_string())
    return pa.table([rows, rule, pa.array(score, mask=~known), limits, evidence], schema=findings_schema())


def keep_top(table: Table, fraction: float, name: str, keep_unjudged: bool = False) -> Table:
    """Keep exactly ceil(fraction·n) of the n judged kept rows, best `score_<name>` first, ties by (id, copy).

    `fraction` is in (0, 1]. The others drop as `below_<name>` with the score at the cut as limit; a null or NaN score
    drops as `unjudged_<name>` unless `keep_unjudged`. Raises UsageError for another fraction or an unknown score.
    """
    _require(table, name)
    rows = kept(table).select(*KEY, f"score_{name}").to_arrow()
    keys = keys_of(rows["id"], rows["copy"].to_numpy())
    score = rows[f"score_{name}"].cast(pa.float64()).to_numpy()
    every = np.arange(len(rows))
    return mark(table, keyed(keep_top_findings(keys, every, score, fraction, name, keep_unjudged), keys))


def keep_top_findings(
    keys: Keys, rows: Ints, score: Floats, fraction: float, name: str, keep_unjudged: bool
) -> pa.Table:
    """What `keep_top` marks among the numbered rows, by row number; `score` is by row number, NaN where unknown."""
    if not 0 < fraction <= 1:
        raise UsageError(f"--keep-top {fraction}:{name}: the fraction must be above 0 and at most 1")
    unjudged = np.isnan(score[rows])
    judged = best_first(keys, rows[~unjudged], score)
    # Rounded first, so that 0.07 of 100 rows is 7 and not the 8 of 0.07 * 100 = 7.000000000000001.
    count = ceil(round(fraction * len(judged), 9))
    below, unknown = judged[count:], rows[unjudged] if not keep_unjudged else rows[:0]
    lost = np.concatenate([below, unknown])
    cut = float(score[judged[count - 1]]) if len(judged) else float("nan")
    return _lost(lost, name, score[lost], cut).sort_by("row")


def _require(table: Table, name: str) -> None:
    if f"score_{name}" not in table.column_names:
        there = ", ".join(n.removeprefix("score_") for n in table.column_names if n.startswith("score_"))
        raise UsageError(f"score {name!r}: no column score_{name}; scores in this table: {there or 'none'}")
