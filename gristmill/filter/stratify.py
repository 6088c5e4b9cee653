"""Hold the shares of the strata: after the filter every value of a column has the share it had before.

The stratum that lost most decides how many rows are left; of the others the best rows stay (the preferred score, then
the smallest key). A stratum that lost every row cannot be held: it is left out, and an alarm says so. Not covered:
shares of several columns at once.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER
from gristmill.filter.marks import evidence, findings_schema
from gristmill.filter.row_keys import Floats, Ints, Keys, best_first
from gristmill.filter.work import Work

LENGTH = "length"
"""Stands for the quintile of the answer's characters."""
_LENGTH_RULE = "rule_chars"
QUANTILES = 5
MOST = 1_000
"""Values a column may have: more are no strata."""


class Strata(NamedTuple):
    """The stratum of each row by number, and the names of the strata."""

    of_row: Ints
    names: list[str]


class Stratified(NamedTuple):
    """Findings by row number, and the alarms."""

    findings: pa.Table
    alarms: list[dict[str, Any]]


def stratum_of(work: Work, column: str) -> Strata:
    """The strata of a column, of a key of `meta`, or of `length`, the quintile of the answer's characters.

    A list counts as a whole, a missing value as "". Raises UsageError for a column that no row has, or of more than
    `MOST` values.
    """
    names = pq.read_schema(work.files[0]).names
    wanted = _LENGTH_RULE if column == LENGTH else column if column in names else "meta"
    if wanted not in names:
        raise UsageError(f"--stratify {column}: {_allowed(names)}")
    parts = [pq.read_table(file, columns=[ORDER, BAD, wanted]) for file in work.files]
    rows = pa.concat_tables([part.filter(pc.is_null(part[BAD])) for part in parts]).sort_by(ORDER)
    if column == LENGTH:
        lengths = rows[wanted].to_numpy()
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, QUANTILES + 1)[1:-1])) if len(lengths) else lengths
        ends = ["0", *(f"{edge:.0f}" for edge in edges), "more"]
        named = [f"{low} to {high} characters" for low, high in pairwise(ends)]
        return Strata(np.searchsorted(edges, lengths), named)
    values = rows[wanted].to_pylist()
    if wanted != column:
        values = [orjson.loads(value).get(column) if value else None for value in values]
    texts = pa.array(["" if v is None else ",".join(map(str, v)) if isinstance(v, list) else str(v) for v in values])
    encoded = texts.dictionary_encode()
    if not pc.any(pc.not_equal(texts, ""), min_count=0).as_py():
        raise UsageError(f"--stratify {column}: no row has it; {_allowed(names)}")
    if len(encoded.dictionary) > MOST:
        raise UsageError(f"--stratify {column}: {len(encoded.dictionary):,} values; allowed are {MOST:,}")
    return Strata(encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist())


def _allowed(names: list[str]) -> str:
    ours = [name for name in names if not name.startswith(("_", "rule_", "drop_"))]
    return f"allowed are {', '.join(ours)}, a key of meta, and {LENGTH} (where rules measure it)"


def stratify_findings(keys: Keys, strata: Strata, kept: npt.NDArray[np.bool_], score: Floats | None) -> Stratified:
    """Drop kept rows, as `stratified`, until every stratum has its share of the rows there were.

    `drop_value` is the stratum's share among the rows that were kept, `drop_limit` its share of all rows; shares hold
    to a row. Of a stratum the best rows stay. Raises no error: a stratum without a kept row is left out, with an alarm.
    """
    count = len(strata.names)
    before = np.bincount(strata.of_row, minlength=count)
    after = np.bincount(strata.of_row[kept], minlength=count)
    alive = after > 0
    alarms = [
        {
            "name": "stratum_lost",
            "message": f"no row of the stratum {name!r} is kept, of {rows:,}; its share cannot be held",
            "value": 0.0,
            "limit": 0.0,
        }
        for name, rows, lives in zip(strata.names, before.tolist(), alive.tolist(), strict=True)
        if rows and not lives
    ]
    # Exact in integers: of n rows with b of the stratum's, the least favoured stratum allows a/b of each.
    counts = list(zip(after.tolist(), before.tolist(), strict=True))
    least, of = min((each for each in counts if each[0]), key=lambda each: each[0] / each[1], default=(0, 1))
    allowed = np.array([min(left, -(-all_ * least // of)) for left, all_ in counts])
    rows = best_first(keys, np.flatnonzero(kept), score)
    rows = rows[np.argsort(strata.of_row[rows], kind="stable")]
    stratum = strata.of_row[rows]
    place = np.arange(len(rows)) - np.searchsorted(stratum, stratum)
    lost = rows[place >= allowed[stratum]]
    of_lost = strata.of_row[lost]
    why = [evidence(stratum=strata.names[number]) for number in of_lost.tolist()]
    columns = [
        pa.array(lost),
        pa.array(["stratified"] * len(lost), pa.large_string()),
        pa.array(after[of_lost] / max(int(after.sum()), 1)),
        pa.array(before[of_lost] / max(int(before.sum()), 1)),
        pa.array(why, pa.large_string()),
    ]
    return Stratified(pa.table(columns, schema=findings_schema()).sort_by("row"), alarms)
