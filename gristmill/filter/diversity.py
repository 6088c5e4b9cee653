"""Whether a generator has fallen into a repetitive mode: metrics of all rows, each source, model and template.

Every group is measured on at most `SAMPLE` of its rows, those with the smallest ids: ids are hashes of the content, so
that is a uniform sample, and the same one in any order, window and engine. `diversity_metrics.py` has the metrics,
docs/diversity.md what they mean and where the limits come from.

Not covered: collapse in meaning (without embeddings), and labels: answers of fewer than `LEAST_WORDS` words on average
raise no alarm, because a set of labels repeats itself by intent.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.errors import UsageError
from gristmill.filter.diversity_metrics import Ints, metrics, vendi
from gristmill.filter.limits import Limit
from gristmill.filter.marks import Table, kept
from gristmill.filter.row_measures import last_messages
from gristmill.records import Kind, kind_of

SAMPLE = 1_000
"""Rows a group is measured on, at most."""

CHARACTERS = 2_000
"""Characters of a text that are looked at."""

GROUPS = 50
"""Groups reported of one axis, the largest."""

HELD = GROUPS * SAMPLE
"""Rows held for one axis, at most. Where more and smaller groups would need more, the ids below a ceiling are held:
large groups keep their sample, small ones have less."""

LEAST_SAMPLED = 100
LEAST_WORDS = 5
"""Sampled rows and mean words below which a group raises no alarm."""

AXES = {"all": None, "source": "source_file", "model": "model", "template": "template"}
"""What rows are grouped by, and the column."""


class Threshold(NamedTuple):
    """A limit on a metric and where its figure comes from."""

    limit: Limit
    source: str


_MEASURED = "measured (docs/diversity.md): good {} {}, {}"

ANSWERS = tuple(
    Threshold(limit, _MEASURED.format("answers", good, bad))
    for limit, good, bad in (
        (Limit("distinct_2", least=0.35), "0.47 and above", "planted collapse to 5 modes 0.23"),
        (Limit("distinct_3", least=0.5), "0.65 and above", "planted collapse to 20 modes 0.45"),
        (Limit("compression_ratio", most=6.5), "up to 4.6", "planted collapse to 5 modes 9.2, loops 15.5"),
        (Limit("top_opening_share", most=0.5), "up to 0.31", "planted openings 0.61"),
        (Limit("self_similarity", most=0.02), "up to 0.008", "planted collapse to 5 modes 0.045"),
    )
)
PROMPTS = tuple(
    Threshold(limit, _MEASURED.format("prompts", good, bad))
    for limit, good, bad in (
        (Limit("distinct_2", least=0.25), "0.31 and above", "prompts of a template 0.13"),
        (Limit("distinct_3", least=0.4), "0.48 and above", "prompts of a template 0.16"),
        (Limit("compression_ratio", most=7.5), "up to 6.1", "prompts of a template 14.5"),
        (Limit("self_similarity", most=0.03), "up to 0.013", "prompts of a template 0.10"),
    )
)
"""What raises the alarm for answers and for prompts, which are more alike by nature and may well open alike (`write a
function to`). No paper gives limits for these metrics; the figures are our own measurements, each at least 15 % away
from the worst good set."""


class Diversity:
    """Samples rows window by window and measures the samples, against the limits of the kind if no others are given."""

    def __init__(self, kind: Kind, thresholds: Sequence[Threshold] | None = None):
        self.kind = kind
        fitting = PROMPTS if kind == "prompt" else ANSWERS
        self.limits = {t.limit.measure: t for t in (fitting if thresholds is None else thresholds)}
        self.counts: dict[str, Counter[str]] = {axis: Counter() for axis in AXES}
        self.last: dict[str, dict[str, str]] = {axis: {} for axis in AXES}  # the greatest id a full sample holds
        self.halvings = dict.fromkeys(AXES, 0)
        self.held: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        """Take in a window: a table with `id`, `copy`, the text of its kind, and the columns to group by it has.

        The text is `response`, of a preference `chosen`, of a prompt its last message. `embedding`, a list of numbers,
        is optional.
        """
        groups = {axis: _names(rows, axis) for axis in AXES}
        wanted = np.zeros(len(rows), dtype=bool)
        for axis, names in groups.items():
            encoded = names.combine_chunks().dictionary_encode()
            seen = encoded.dictionary.to_pylist()
            counts = pc.value_counts(encoded.indices.drop_null()).to_pylist()
            self.counts[axis].update({seen[entry["values"]]: entry["counts"] for entry in counts})
            last = pa.array([self.last[axis].get(name, self._ceiling(axis)) for name in seen], pa.large_string())
            wanted |= _true(pc.less_equal(rows["id"], last.take(encoded.indices)))
        few = pa.array(wanted)
        columns = {"id": rows["id"], "copy": rows["copy"], **groups}
        if "embedding" in rows.column_names:
            columns["embedding"] = rows["embedding"]
        texts = pc.utf8_slice_codeunits(_texts(rows, few, self.kind), 0, CHARACTERS)
        fresh = pa.table(columns).filter(few).append_column("text", texts)
        fresh = fresh.filter(pc.match_substring_regex(texts, r"\S"))
        both = fresh if self.held is None else pa.concat_tables([self.held, fresh])
        self.held = self._cut(both.sort_by([("id", "ascending"), ("copy", "ascending")]).combine_chunks())

    def _cut(self, rows: pa.Table) -> pa.Table:
        """Of rows sorted by key those in the sample of some group."""
        inside = np.zeros(len(rows), dtype=bool)
        for axis in AXES:
            encoded = rows[axis].combine_chunks().dictionary_encode()
            group = pc.fill_null(encoded.indices, -1).to_numpy()
            rank = _ranks(group)
            sampled = (group >= 0) & (rank < SAMPLE) & _true(pc.less_equal(rows["id"], self._ceiling(axis)))
            while sampled.sum() > HELD and self.halvings[axis] < 32:
                self.halvings[axis] += 1
                sampled &= _true(pc.less_equal(rows["id"], self._ceiling(axis)))
            inside |= sampled
            full = np.flatnonzero(sampled & (rank == SAMPLE - 1))
            names = encoded.dictionary.take(pa.array(group[full])).to_pylist()
            self.last[axis] = dict(zip(names, rows["id"].take(pa.array(full)).to_pylist(), strict=True))
        return rows.filter(pa.array(inside))

    def _ceiling(self, axis: str) -> str:
        """The greatest id that is held where no sample is full: each halving leaves half of all ids below it."""
        return f"g1:{1 << (32 - self.halvings[axis]):08x}" if self.halvings[axis] else "\U0010ffff"

    def summary(self) -> dict[str, Any]:
        """`{"sampled", "groups": [...], "left_out": {axis: groups}, "limits": {metric: ...}, "alarms": [...]}`.

        A group is `{"by", "name", "rows", "sampled", "words", <metrics>, "vendi", "alarms": [metric, ...]}`. A metric
        that could not be measured is None. Raises UsageError for embeddings of several lengths.
        """
        groups = [self._group(axis, name) for axis in AXES for name in self._largest(axis)]
        rows = self.counts["all"].total()
        told = [group for group in groups if group["by"] == "all" or group["rows"] < rows]  # not the same rows twice
        return {
            "sampled": SAMPLE,
            "groups": groups,
            "left_out": {axis: max(0, len(names) - GROUPS) for axis, names in self.counts.items()},
            "limits": {name: _bound(t.limit) | {"source": t.source} for name, t in self.limits.items()},
            "alarms": [_alarm(group, self.limits[name].limit) for group in told for name in group["alarms"]],
        }

    def _largest(self, axis: str) -> list[str]:
        return sorted(self.counts[axis], key=lambda name: (-self.counts[axis][name], name))[:GROUPS]

    def _group(self, axis: str, name: str) -> dict[str, Any]:
        assert self.held is not None  # a group has been counted, so a window was added
        mine = pc.and_(pc.equal(self.held[axis], name), pc.less_equal(self.held["id"], self._ceiling(axis)))
        rows = self.held.filter(mine).slice(0, SAMPLE)
        group: dict[str, Any] = {"by": axis, "name": name, "rows": self.counts[axis][name], "sampled": len(rows)}
        group |= metrics(rows["text"].to_pylist()) | {"vendi": _vendi(rows)}
        judged = group["sampled"] >= LEAST_SAMPLED and group["words"] >= LEAST_WORDS
        broken = [name for name, t in self.limits.items() if t.limit.broken(group[name])]
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in group.items()} | {
            "alarms": broken if judged else []
        }


def diversity(table: Table, thresholds: Sequence[Threshold] | None = None) -> dict[str, Any]:
    """The summary of `Diversity` over the kept rows of a table, read batch by batch."""
    sample = Diversity(kind_of(table.column_names), thresholds)
    wanted = {"id", "copy", "source_file", "model", "meta", "prompt", "response", "chosen", "embedding"}
    columns = [name for name in table.column_names if name in wanted]
    for batch in kept(table).select(*columns).to_arrow_iter():
        sample.add(pa.table(batch))
    return sample.summary()


def _names(rows: pa.Table, axis: str) -> pa.ChunkedArray:
    """The group of each row on an axis; null is none."""
    if axis == "all":
        return pa.chunked_array([pa.repeat(pa.scalar("all", pa.large_string()), len(rows))])
    if axis == "template":
        return _templates(rows)
    column = AXES[axis]
    if column not in rows.column_names:
        return pa.chunked_array([pa.nulls(len(rows), pa.large_string())])
    names = rows[column].cast(pa.large_string())
    return pc.fill_null(names, "") if axis == "source" else names


def _templates(rows: pa.Table) -> pa.ChunkedArray:
    """The text `template` of the JSON objects in `meta`."""
    names = np.full(len(rows), None, dtype=object)
    if "meta" in rows.column_names:
        holds = np.flatnonzero(_true(pc.match_substring(rows["meta"], '"template"')))
        for row, meta in zip(holds.tolist(), rows["meta"].take(pa.array(holds)).to_pylist(), strict=True):
            name = orjson.loads(meta).get("template")
            names[row] = name if isinstance(name, str) else None
    return pa.chunked_array([pa.array(names, pa.large_string())])


def _texts(rows: pa.Table, few: pa.Array, kind: Kind) -> pa.LargeStringArray:
    """The measured text of the chosen few rows."""
    column = {"prompt": "prompt", "preference": "chosen"}.get(kind, "response")
    chosen = rows[column].filter(few).combine_chunks()
    return last_messages(chosen) if kind == "prompt" else pc.fill_null(chosen.cast(pa.large_string()), "")


def _true(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """The truth of each value, null taken for false."""
    truth: npt.NDArray[np.bool_] = pc.fill_null(values, False).to_numpy()
    return truth


def _ranks(group: Ints) -> Ints:
    """The number of each row among those of its group, 0-based."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group + 1)
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def _vendi(rows: pa.Table) -> float | None:
    """The Vendi score of the rows that have an embedding."""
    if "embedding" not in rows.column_names:
        return None
    lists = rows["embedding"].combine_chunks().drop_null()
    sizes = pc.list_value_length(lists).unique().to_pylist()
    if len(sizes) > 1:
        raise UsageError(f"embeddings have {' and '.join(map(str, sorted(sizes)[:2]))} numbers; all must have as many")
    if not sizes or not sizes[0]:
        return None
    return vendi(lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(lists), sizes[0]))


def _bound(limit: Limit) -> dict[str, float]:
    return {side: bound for side in ("least", "most") if (bound := getattr(limit, side)) is not None}


def _alarm(group: dict[str, Any], limit: Limit) -> dict[str, Any]:
    """The alarm about one metric of a group."""
    name, value = limit.measure, group[limit.measure]
    which = "all rows" if group["by"] == "all" else f"{group['by']} {group['name'] or '(none)'}"
    shown = f" ({group['top_opening']!r})" if name == "top_opening_share" else ""
    side = "under" if limit.least is not None else "over"
    message = f"{which}: {name} is {value:.3g}{shown}, {side} {limit.bound:g}; the texts repeat each other"
    return {"name": "collapse", "message": message, "value": value, "limit": limit.bound}
