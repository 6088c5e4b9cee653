"""What a filter did to the distribution: every axis before and after, how far it moved, and which moves are biases.

The axes are in `axes.py`, the statistics in `shift.py`, the verdict and its words in `bias.py`. All axes are measured
on one sample of about `SAMPLE` rows, chosen by id: the same rows for any order and runner. Languages are identified on
about `LANGUAGES` of them.

Not covered: anything the sample is too small for, such as a source of one row in ten thousand.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gristmill.filter.axes import ANSWERS, COLUMNS, PREFIXES, Axis, axes, measured
from gristmill.filter.bias import LEAST_DISTANCE, LEAST_EFFECT, Comparison, asked_for, message
from gristmill.filter.marks import Table
from gristmill.filter.shift import holm, stability_index
from gristmill.intervals import wilson
from gristmill.records import Kind, kind_of

SAMPLE = 20_000
LANGUAGES = 2_000


class Balance:
    """Collects the sample of a marked table of `rows` rows, window by window."""

    def __init__(self, kind: Kind, rows: int):
        self.kind, self.of = kind, max(rows, 1)
        self.rows = self.kept = 0
        self.parts: list[pa.Table] = []

    def add(self, window: pa.Table) -> None:
        """Take the sample's rows from a window of all rows, kept and dropped (`drop_rule`)."""
        self.rows += len(window)
        self.kept += window["drop_rule"].null_count
        wanted = window.filter(_chosen(window["id"], SAMPLE / self.of)) if self.of > SAMPLE else window
        if len(wanted):
            judged = _chosen(wanted["id"], LANGUAGES / self.of)
            found = measured(wanted, self.kind, judged)
            self.parts.append(found.append_column("drop_rule", wanted["drop_rule"].cast(pa.large_string())))

    def summary(self) -> dict[str, Any]:
        """`balance` of `summary.json`: rows, kept, sampled, axes, warnings, alarms; docs/balance.md shows one."""
        found: dict[str, Any] = {"rows": self.rows, "kept": self.kept, "sampled": sum(map(len, self.parts))}
        if not self.parts or not self.kept:
            return found | {"axes": [], "warnings": [], "alarms": []}
        sample = pa.concat_tables(self.parts)
        encoded = sample["drop_rule"].combine_chunks().dictionary_encode()
        rules = np.asarray(pc.add(pc.fill_null(encoded.indices, -1), 1), np.int64)
        names = ["", *encoded.dictionary.to_pylist()]
        texts = "prompts" if ANSWERS[self.kind] is None else "answers"
        of = "" if found["sampled"] == self.rows else f", in a sample of {found['sampled']:,}"
        return found | compare(axes(sample.drop_columns("drop_rule")), rules, names, of=of, texts=texts)


def balance(table: Table) -> dict[str, Any]:
    """What the filter that marked `table` did to it; see `Balance.summary`.

    The table is streamed twice, to count and to sample, so collect it first if it is costly to compute. Without a
    column `drop_rule` every row counts as kept. Raises ValueError for a table that is not Gristmill's.
    """
    kind = kind_of(table.column_names)
    wanted = {"id", "prompt", "drop_rule", ANSWERS[kind], *COLUMNS}
    names = [name for name in table.column_names if name in wanted or name.startswith(PREFIXES)]
    collected = Balance(kind, table.count_rows())
    for batch in table.select(*names).to_arrow_iter():
        window = pa.Table.from_batches([batch])
        if "drop_rule" not in names:
            window = window.append_column("drop_rule", pa.nulls(len(window), pa.large_string()))
        collected.add(window)
    return collected.summary()


def compare(
    found: list[Axis], rules: NDArray[np.int64], names: list[str], *, of: str = "", texts: str = "answers"
) -> dict[str, Any]:
    """Axes, warnings and alarms of a filter, of which `rules` holds for each row the number of its rule in `names`.

    Number 0 stands for kept; `of` and `texts` are words of the messages.
    """
    whole = [Comparison(axis, rules[axis.rows]) for axis in found]
    whole = [comparison for comparison in whole if comparison.kept.any()]
    judged, asked = [], []
    for comparison in whole:
        meant = [n for n, rule in enumerate(names) if rule in asked_for(comparison.axis.name)]
        others = ~np.isin(comparison.rules, meant)
        rest = comparison if others.all() else Comparison(comparison.axis.only(others), comparison.rules[others])
        judged.append(rest)
        asked.append([names[n] for n in meant])
    adjusted = iter(holm([p for comparison in judged for p in comparison.tests]))
    entries, alarms = [], []
    for comparison, rest, meant_rules in zip(whole, judged, asked, strict=True):
        p = [next(adjusted) for _ in rest.tests]
        bias = rest.found(p)
        said = message(rest, bias, names, of=of, texts=texts) if bias else None
        if said:
            value = abs(rest.dominance.effect) if bias == "location" and rest.dominance else rest.distance[0]
            limit = LEAST_EFFECT if bias == "location" else LEAST_DISTANCE
            alarms.append({"name": "bias", "message": said, "value": value, "limit": limit})
        verdict = {"p_value": min(p) if p else None, "biased": bias is not None, "message": said}
        entries.append(_entry(comparison) | verdict | {"asked_for": meant_rules})
    return {"axes": entries, "warnings": [alarm["message"] for alarm in alarms], "alarms": alarms}


def _entry(comparison: Comparison) -> dict[str, Any]:
    axis, kept, before = comparison.axis, comparison.kept, comparison.kept + comparison.dropped
    entry: dict[str, Any] = {"name": axis.name, "kind": "numeric" if axis.numeric else "categorical"}
    entry |= {"rows": int(before.sum()), "kept": int(kept.sum())}
    shares = zip((before / before.sum()).tolist(), (kept / kept.sum()).tolist(), strict=True)
    if axis.numeric:
        entry["before"], entry["after"] = _ends(axis.values), _ends(axis.values[comparison.rules == 0])
        entry["bins"] = [
            {"from": low, "to": high, "before": b, "after": a}
            for (low, high), (b, a) in zip(axis.edges, shares, strict=True)
        ]
    else:
        entry["values"] = [
            {"value": label, "before": b, "after": a, "interval": list(wilson(int(count), int(kept.sum())))}
            for label, (b, a), count in zip(axis.labels, shares, kept, strict=True)
        ]
    distance, *interval = comparison.distance
    entry |= {"js_distance": distance, "js_interval": interval}
    entry["psi"] = stability_index(kept, comparison.dropped)
    if axis.numeric:
        effect = comparison.dominance
        entry["effect_size"] = effect and effect.effect
        entry["effect_interval"] = effect and [effect.low, effect.high]
    return entry


def _ends(values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return {"p10": low, "p50": middle, "p90": high, "mean": float(values.mean())}


def _chosen(ids: pa.ChunkedArray, share: float) -> pa.Array:
    """Which rows are of a sample that holds this share of all: ids are hashes, so their first digits are random."""
    if share >= 1:
        return pa.array(np.ones(len(ids), bool))
    return pc.less(ids, pa.scalar(f"g1:{int(share * 2**32):08x}", ids.type)).combine_chunks()
