"""The axes along which a filter is looked at: what is measured of a row, and how its values fall into bins.

Numeric axes fall into deciles of all rows (into their values where there are at most `VALUES`), categorical ones into
their `VALUES` most frequent values and `other`. Each of the `VALUES` most frequent tags is an axis of its own,
`tag:NAME`, with the values yes and no, because a row may have several. So is every score and every template slot.

Not covered: axes inside `meta`, and slots or sources of which no value is frequent.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gristmill.filter.measures import Floats
from gristmill.filter.row_measures import last_messages
from gristmill.filter.traits import (
    code_shares,
    fluency,
    languages,
    opening_verbs,
    question_types,
    varieties,
    word_counts,
)
from gristmill.records import Kind

VALUES = 20
BINS = 10
RAREST_TAG = 0.01
"""Share of the rows below which a tag is no axis."""

ANSWERS: dict[Kind, str | None] = {
    "prompt": None,
    "preference": "chosen",
    "sample": "response",
    "label": "response",
}
"""The column that holds the answer; without one the last message is measured in its place."""

COLUMNS = ("source_file", "model", "tags", "rule_dup_5gram")
"""Columns that are axes as they stand; so are all that begin with `PREFIXES`."""

PREFIXES = ("score_", "slot_")


class Axis(NamedTuple):
    """One axis over the rows that have it: `rows` are their numbers, `bins` the bin of each.

    `values` and `edges` (from and to of each bin) are of a numeric axis, `labels` of a categorical one, else empty.
    """

    name: str
    rows: NDArray[np.int64]
    bins: NDArray[np.int64]
    values: Floats
    edges: list[tuple[float, float]]
    labels: list[str]

    @property
    def numeric(self) -> bool:
        return bool(self.edges)

    def only(self, chosen: NDArray[np.bool_]) -> "Axis":
        """The axis of some of its rows, in the same bins."""
        values = self.values[chosen] if self.numeric else self.values
        return self._replace(rows=self.rows[chosen], bins=self.bins[chosen], values=values)


def measured(rows: pa.Table, kind: Kind, for_language: pa.BooleanArray) -> pa.Table:
    """What the axes need of a part of a table, a row each; a double column is numeric, a text column categorical.

    Languages are identified where `for_language` says so, as that takes longest.
    """
    messages = last_messages(rows["prompt"].combine_chunks())
    answer = ANSWERS[kind]
    texts = messages if answer is None else _texts(rows[answer])
    found: dict[str, pa.Array | pa.ChunkedArray] = {"source": rows["source_file"], "length": word_counts(texts)}
    if answer is not None:
        found["prompt length"] = word_counts(messages)
    found |= {"question type": question_types(messages), "opening verb": opening_verbs(messages)}
    found |= {"code share": code_shares(texts), **fluency(texts), "variety": varieties(texts)}
    found["language"] = pc.replace_with_mask(
        pa.nulls(len(rows), pa.large_string()), for_language, languages(texts.filter(for_language))
    )
    given = {"model": "model", "tags": "tags", "rule_dup_5gram": "repetition"}
    given |= {name: name for name in rows.column_names if name.startswith(PREFIXES)}
    found |= {axis: rows[name] for name, axis in given.items() if name in rows.column_names}
    return pa.table(
        {name: pa.array(v, mask=np.isnan(v)) if isinstance(v, np.ndarray) else v for name, v in found.items()}
    )


def _texts(column: pa.ChunkedArray) -> pa.LargeStringArray:
    return pc.fill_null(column.combine_chunks().cast(pa.large_string()), "")


def axes(measured_: pa.Table) -> list[Axis]:
    """The axes of what `measured` found; one on which all rows are alike is left out."""
    found = []
    for name in measured_.column_names:
        column = measured_[name].combine_chunks()
        if name == "tags":
            found += _tags(column)
        elif pa.types.is_floating(column.type):
            found.append(_numeric(name, column.to_numpy(zero_copy_only=False)))
        else:
            found.append(_categorical(name, column.to_pylist()))
    return [axis for axis in found if len(axis.edges or axis.labels) > 1]


def _numeric(name: str, values: Floats) -> Axis:
    rows = np.flatnonzero(np.isfinite(values))
    values = values[rows].astype(np.float64)
    if not len(rows):
        return Axis(name, rows, rows, values, [], [])
    ends = np.unique(values)
    few = len(ends) <= VALUES
    if not few:
        ends = np.unique(np.quantile(values, np.arange(1, BINS + 1) / BINS, method="inverted_cdf"))
    starts = ends if few else np.concatenate([[values.min()], ends[:-1]])
    edges = list(zip(starts.tolist(), ends.tolist(), strict=True))
    return Axis(name, rows, np.searchsorted(ends, values, "left"), values, edges, [])


def _categorical(name: str, values: list[str | None]) -> Axis:
    counts = Counter(value for value in values if value is not None)
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:VALUES]
    labels = list(dict.fromkeys(frequent + ["other"] * (len(counts) > len(frequent))))
    number = {label: n for n, label in enumerate(labels)}
    rest = number.get("other", -1)
    bins = np.array([-1 if value is None else number.get(value, rest) for value in values], np.int64)
    rows = np.flatnonzero(bins >= 0)
    return Axis(name, rows, bins[rows], np.empty(0), [], labels)


def _tags(column: pa.LargeListArray) -> list[Axis]:
    rows = [frozenset(tags or ()) for tags in column.to_pylist()]
    counts = Counter(tag for tags in rows for tag in tags if tag is not None)
    frequent = sorted((tag for tag in counts if counts[tag] >= RAREST_TAG * len(rows)), key=lambda t: (-counts[t], t))
    return [_categorical(f"tag:{tag}", ["yes" if tag in tags else "no" for tags in rows]) for tag in frequent[:VALUES]]
