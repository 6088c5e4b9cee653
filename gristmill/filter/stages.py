"""The stages of the filter as steps of a run: what each computes, and from what.

`read` and `signatures` look at every row by itself, so they hold for any threshold; the others compare, see the rows
that the stages before them kept (`kept`, by row number), and give findings by row number.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import daft
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from daft import col, lit
from daft.functions import is_null

from gristmill.files import BAD, ORDER, scan
from gristmill.filter.bands import Bands
from gristmill.filter.collapse import Openings, openings_findings
from gristmill.filter.contamination import contamination_hits
from gristmill.filter.duplicates import exact_findings
from gristmill.filter.marks import Table
from gristmill.filter.near import Compared, NearFindings, boilerplate_of, near_findings
from gristmill.filter.ngrams import Index
from gristmill.filter.rules import Rule, apply_rules, reapply_rules, remeasured
from gristmill.filter.signatures import Signed, sign
from gristmill.filter.text import TextOf
from gristmill.filter.work import Work
from gristmill.records import DROPS, kind_of

Mask = npt.NDArray[np.bool_]


def read(
    paths: Sequence[str],
    *,
    columns: Mapping[str, str],
    scores: Sequence[str],
    limit: int | None,
    rules: Sequence[Rule],
) -> Table:
    """The work table: every row of the files, measured and judged by the rules; bad rows too."""
    table = scan(paths, columns=columns, scores=scores, limit=limit)
    # A bad row passes the rules as one that was dropped before.
    return apply_rules(table.with_columns(_undropped()), rules)


def judge(table: Table, *, rules: Sequence[Rule], before: Sequence[Rule]) -> Table:
    """The drop columns, and what had not been measured, of a work table under other rules than it was read with."""
    judged = reapply_rules(table.exclude(*DROPS.names).with_columns(_undropped()), rules, before)
    new = [f"rule_{name}" for name in remeasured(kind_of(table.column_names), rules, before)]
    return judged.where(is_null(col(BAD))).select(ORDER, *new, *DROPS.names)


def _undropped() -> dict[str, daft.Expression]:
    empty = {f.name: lit(None).cast(daft.DataType.from_arrow_type(f.type)) for f in DROPS}
    return empty | {"drop_rule": col(BAD)}


def signatures(table: Table, *, text: TextOf, bands: Bands | None, boilerplate: float | None) -> Table:
    """The signatures of the good rows of a work table."""
    good = table.where(is_null(col(BAD)))
    common = boilerplate_of(good, boilerplate, text)
    return sign(good, [ORDER], text=text, bands=bands, common=common)


def contamination(table: Table, against: Sequence[str], *, text: TextOf, _index: Index) -> Table:  # noqa: ARG001
    """The good rows that share words with the evaluation files `against`, whose index is `_index`."""
    return contamination_hits(table.where(is_null(col(BAD))), _index, carry=[ORDER], text=text)


def exact(signatures: Table, *, kept: Mask, prefer: str | None, _signed: Signed) -> pa.Table:  # noqa: ARG001
    """Exact duplicates among the kept rows."""
    return exact_findings(_signed)


def near(
    table: Table,
    signatures: Table,  # noqa: ARG001 (what `_signed` was read from; its key is part of the step's)
    *,
    threshold: float,
    recall: float,
    numbers: Literal["guard", "merge"],
    text: TextOf,
    boilerplate: float | None,
    kept: Mask,  # noqa: ARG001
    prefer: str | None,  # noqa: ARG001
    _signed: Signed,
    _work: Work,
) -> NearFindings:
    """Near duplicates among the kept rows."""
    good = table.where(is_null(col(BAD)))
    common = boilerplate_of(good, boilerplate, text)
    compared = Compared(_signed, good, _work.on(), pa.chunked_array([_work.sources]), text, common)
    return near_findings(compared, threshold, recall=recall, numbers=numbers)


def openings(
    table: Table,
    signatures: Table,  # noqa: ARG001
    *,
    drop: bool,
    kept: Mask,  # noqa: ARG001
    prefer: str | None,  # noqa: ARG001
    _signed: Signed,
    _work: Work,
) -> Openings:
    """Answers that begin alike among the kept rows."""
    return openings_findings(_signed, table.where(is_null(col(BAD))), _work.on(), drop=drop)
