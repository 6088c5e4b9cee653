"""Near duplicates: MinHash-LSH over word 5-grams, every candidate verified, every removed row tied to a kept one.

1. One pass over the texts: a signature of MinHashes (Daft's), of which 64 bits a band and one byte a hash are held.
2. Rows of equal text are one node. In every bucket of a band each node meets the `CENTRES` best of the bucket; the
   pairs whose signatures disagree too much are left out.
3. A second pass over the texts of the candidates alone: exact Jaccard similarity of their sets of 5-grams.
4. In survivor order (score, then id and copy) a row falls to the most similar *kept* row at or above the threshold.
   There is no transitive closure, which ties rows together that have nothing in common.

The method is that of Broder 1997 (https://doi.org/10.1109/SEQUEN.1997.666900) with the banding of `bands.py`; step 4
departs from the connected components most tools take. The driver holds about 8 bytes a band and one a hash for each
row, and the 5-grams of the candidates. Not covered: similarity of meaning.
"""

import time
from collections import Counter
from typing import Any, Literal, NamedTuple

import daft
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import Expression

from gristmill.errors import UsageError
from gristmill.filter.bands import bands_for
from gristmill.filter.boilerplate import Common, masked_sets, measure_boilerplate
from gristmill.filter.duplicates import preference
from gristmill.filter.lsh import REPORTED, Ints, Nodes, candidates, signatures
from gristmill.filter.marks import Table, evidence, findings_schema, kept, mark
from gristmill.filter.shingles import jaccards, shingle_column
from gristmill.filter.text import TextOf, normalized_text
from gristmill.records import kind_of

PAIRS_PER_ROW = 8
"""Pairs reported of a row with better ones, the most similar."""
SOURCE_LOSS, SOURCE_ROWS = 0.5, 100
"""A source of at least so many rows that loses more than this share raises the alarm `source_loss`."""
LARGE_CLUSTER = 1_000
"""A cluster of more rows than this, the kept one among them, raises the alarm `large_cluster`."""

Numbers = Literal["guard", "merge"]


class NearFindings(NamedTuple):
    """Findings keyed by (`id`, `copy`), verified pairs, and what there is to report."""

    findings: pa.Table
    pairs: pa.Table
    report: dict[str, Any]


class Near(NamedTuple):
    """The marked table, verified pairs, and what there is to report."""

    table: Table
    pairs: pa.Table
    report: dict[str, Any]


def near(table: Table, threshold: float = 0.8, **settings: Any) -> Near:
    """Mark rows that are near duplicates of a kept row: drop_rule `near_duplicate`, drop_value the Jaccard similarity.

    Takes the settings of `near_findings`. Measures `rule_near_duplicate`, the highest similarity to another row where
    one was found, and `flag_number_twin`, JSON naming a row that differs in numbers only.
    """
    found = near_findings(table, threshold, **settings)
    return Near(mark(table, found.findings), found.pairs, found.report)


def near_findings(
    table: Table,
    threshold: float = 0.8,
    *,
    recall: float = 0.99,
    numbers: Numbers = "guard",
    boilerplate: float | None = None,
    text: TextOf = "both",
    prefer: str | None = None,
) -> NearFindings:
    """Find the near duplicates among the rows that are still kept.

    `threshold`: Jaccard similarity of word 5-grams (0..1) from which a row is a duplicate. `recall`: share of the pairs
    at the threshold that the banding must catch. `numbers`: rows that differ only in numeric tokens are kept and
    flagged (`guard`) or judged like others (`merge`). `boilerplate`: 5-grams that more than this share of the rows of a
    source have are not compared; a row that has no others is compared whole. `prefer` names the score that chooses
    survivors. Rows of equal text are duplicates in any case; rows without text are not compared.

    Raises UsageError for a threshold, recall or share out of range, and for an unknown score.
    """
    if boilerplate is not None and not 0 < boilerplate < 1:
        raise UsageError(f"--boilerplate {boilerplate:g}: allowed is above 0 and below 1")
    bands = bands_for(threshold, recall)
    clock = _Clock()
    source = kept(table).with_columns({"_prefer": preference(table, prefer)})
    compared = normalized_text(kind_of(table.column_names), text)
    rows = source.with_column("_text", compared)
    rows = rows.select("id", "copy", "source_file", "_text", "_prefer")
    common = measure_boilerplate(rows, boilerplate) if boilerplate else None
    nodes = signatures(rows, bands, common)
    clock.end("signatures")
    left, right = candidates(nodes, bands, threshold)
    clock.end("pairing")
    similarity, twins = _verified(source, shingle_column(compared), nodes, left, right, common)
    clock.end("verifying")
    found = similarity >= REPORTED
    left, right, similarity, twins = left[found], right[found], similarity[found], twins[found]
    edges = (similarity >= threshold) & ~(twins if numbers == "guard" else np.zeros(len(twins), bool))
    tied = _star(left[edges], right[edges], similarity[edges])
    flagged = (similarity >= threshold) & twins if numbers == "guard" else np.zeros(len(twins), bool)
    findings = _findings(nodes, tied, threshold, (left, right, similarity, flagged))
    clock.end("choosing")
    few = _most_similar(left, right, similarity)
    report = {
        "threshold": threshold,
        "recall": recall,
        "bands": bands.bands,
        "rows_per_band": bands.rows,
        "s_curve": bands.s_curve(),
        "candidates": len(found),
        "pairs": len(few),
        "number_twins": pc.sum(pc.is_valid(findings["flag_number_twin"])).as_py() or 0,
        **_losses(findings, nodes),
        "seconds": clock.seconds,
    }
    return NearFindings(findings, _pairs(nodes, left[few], right[few], similarity[few], twins[few]), report)


class _Clock:
    """Seconds each phase took."""

    def __init__(self) -> None:
        self.since, self.seconds = time.monotonic(), dict[str, float]()

    def end(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase], self.since = round(now - self.since, 3), now


def _verified(
    source: Table, shingles: Expression, nodes: Nodes, left: Ints, right: Ints, common: Common | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Exact Jaccard similarity of each pair, and whether the two differ in numbers only."""
    needed = np.unique(np.concatenate([left, right]))
    if not len(needed):
        return np.empty(0), np.empty(0, bool)
    keys = nodes.keys.select(["id", "copy"]).take(pa.array(nodes.first[needed]))
    wanted = daft.from_arrow(keys.append_column("_node", pa.array(needed)))
    texts = source.join(wanted, on=["id", "copy"]).select("_node", "source_file", shingles.alias("_s"))
    found = texts.to_arrow().combine_chunks()
    lists, skeletons = pc.struct_field(found["_s"], "shingles"), pc.struct_field(found["_s"], "skeleton")
    sets, starts = masked_sets(lists.combine_chunks(), found["source_file"], common)
    place = np.argsort(found["_node"].to_numpy())  # the join gives the rows back in any order
    at_left, at_right = place[np.searchsorted(needed, left)], place[np.searchsorted(needed, right)]
    words = skeletons.to_numpy()
    return jaccards(at_left, at_right, sets, starts), words[at_left] == words[at_right]


def _star(left: Ints, right: Ints, similarity: npt.NDArray[np.float64]) -> dict[int, tuple[int, float]]:
    """For each removed node the kept one it is tied to: the most similar, of equals the best."""
    tied: dict[int, tuple[int, float]] = {}
    order = np.lexsort((left, -similarity, right))
    for better, worse, jaccard in zip(
        left[order].tolist(), right[order].tolist(), similarity[order].tolist(), strict=True
    ):
        if worse not in tied and better not in tied:  # better < worse: whether it is kept is settled
            tied[worse] = (better, jaccard)
    return tied


_FOUND = findings_schema(rule_near_duplicate=pa.float64(), flag_number_twin=pa.large_string())


def _findings(nodes: Nodes, tied: dict[int, tuple[int, float]], threshold: float, pairs: tuple[Any, ...]) -> pa.Table:
    """Findings of every row that is dropped, flagged, or was measured."""
    left, right, similarity, flagged = pairs
    best = np.zeros(len(nodes.first) - 1)
    np.maximum.at(best, left, similarity)
    np.maximum.at(best, right, similarity)
    twin: dict[int, tuple[int, float]] = {}
    for one, other, jaccard in zip(
        left[flagged].tolist(), right[flagged].tolist(), similarity[flagged].tolist(), strict=True
    ):
        for node, partner in ((one, other), (other, one)):
            if jaccard > twin.get(node, (0, 0.0))[1]:
                twin[node] = (partner, jaccard)
    sizes = np.diff(nodes.first)
    touched = np.flatnonzero((best > 0) | (sizes > 1))
    ids, copies = nodes.keys["id"].to_pylist(), nodes.keys["copy"].to_pylist()
    first = nodes.first.tolist()
    columns: list[list[Any]] = [[] for _ in _FOUND]
    for node in touched.tolist():
        flag = None
        if node in twin and node not in tied:
            at = first[twin[node][0]]
            flag = evidence(id=ids[at], copy=copies[at], jaccard=round(twin[node][1], 4))
        for row in range(first[node], first[node + 1]):
            kept_row, jaccard = first[node], 1.0
            if node in tied:
                kept_row, jaccard = first[tied[node][0]], tied[node][1]
            values: tuple[Any, ...] = (ids[row], copies[row], None, None, None, None)
            if kept_row != row:
                why = evidence(id=ids[kept_row], copy=copies[kept_row], jaccard=round(jaccard, 4))
                values = (ids[row], copies[row], "near_duplicate", jaccard, threshold, why)
            measured = 1.0 if sizes[node] > 1 else float(best[node])
            for column, value in zip(columns, (*values, measured, flag), strict=True):
                column.append(value)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, _FOUND, strict=True)], schema=_FOUND)


PAIRS = pa.schema(
    [
        *((f"{name}_a", kind) for name, kind in (("id", pa.large_string()), ("copy", pa.int64()))),
        *((f"{name}_b", kind) for name, kind in (("id", pa.large_string()), ("copy", pa.int64()))),
        ("jaccard", pa.float64()),
        ("same_but_numbers", pa.bool_()),
    ]
)
"""Verified pairs, the better row first."""


def _most_similar(left: Ints, right: Ints, similarity: npt.NDArray[np.float64]) -> Ints:
    """The pairs to report: of each worse row the `PAIRS_PER_ROW` most similar (a template has them by the million)."""
    order = np.lexsort((left, -similarity, right))
    begins = np.ones(len(order), bool)
    begins[1:] = right[order][1:] != right[order][:-1]
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    few: Ints = order[np.arange(len(order)) - start < PAIRS_PER_ROW]
    return few


def _pairs(nodes: Nodes, left: Ints, right: Ints, similarity: Any, twins: Any) -> pa.Table:
    """Verified pairs by key, the better row first, sorted."""
    columns: dict[str, Any] = {}
    for side, rows in (("a", left), ("b", right)):
        keys = nodes.keys.take(pa.array(nodes.first[rows]))
        columns |= {f"id_{side}": keys["id"], f"copy_{side}": keys["copy"]}
    table = pa.table(columns | {"jaccard": similarity, "same_but_numbers": twins}, schema=PAIRS)
    return table.sort_by(
        [("id_a", "ascending"), ("copy_a", "ascending"), ("id_b", "ascending"), ("copy_b", "ascending")]
    )


def _losses(findings: pa.Table, nodes: Nodes) -> dict[str, Any]:
    """Clusters, what each source lost, and the alarms about both."""
    dropped = findings.filter(pc.is_valid(findings["drop_rule"]))
    clusters = Counter(dropped["drop_evidence"].to_pylist())
    centres: Counter[str] = Counter()
    for why, count in clusters.items():
        centres[why.split('"jaccard"')[0]] += count
    largest = max(centres.values(), default=0) + bool(centres)
    keys = nodes.keys.select(["id", "copy", "source_file"])
    lost_rows = keys.join(dropped.select(["id", "copy"]), ["id", "copy"], join_type="inner")
    lost = {e["values"] or "": e["counts"] for e in pc.value_counts(lost_rows["source_file"]).to_pylist()}
    shares = {name: lost.get(name, 0) / count for name, count in sorted(nodes.by_source.items())}
    alarms = [
        {
            "name": "source_loss",
            "message": f"{name or 'the table'} loses {share:.1%} to near duplicates (over {SOURCE_LOSS:.0%})",
            "value": share,
            "limit": SOURCE_LOSS,
        }
        for name, share in shares.items()
        if share > SOURCE_LOSS and nodes.by_source[name] >= SOURCE_ROWS
    ]
    if largest > LARGE_CLUSTER:
        message = f"{largest:,} near duplicates are one cluster, of which one row is kept (over {LARGE_CLUSTER:,})"
        alarms.append({"name": "large_cluster", "message": message, "value": largest, "limit": LARGE_CLUSTER})
    return {"clusters": len(centres), "largest_cluster": largest, "source_loss": shares, "alarms": alarms}
