"""Near duplicates: MinHash-LSH over word 5-grams, every candidate verified, every removed row tied to a kept one.

1. One pass over the texts writes a signature of each row (`signatures.py`).
2. Band by band, rows that share a bucket become candidates (`lsh.py`). Rows of equal text are one node; in a bucket
   each node meets the `CENTRES` best, and pairs whose signatures disagree too much are left out.
3. A second pass over the texts of the candidates alone: exact Jaccard similarity of their sets of 5-grams, which lie in
   a file while they are compared.
4. In survivor order (score, then id and copy) a row falls to the most similar *kept* row at or above the threshold.
   There is no transitive closure, which ties rows together that have nothing in common.

The method is that of Broder 1997 (https://doi.org/10.1109/SEQUEN.1997.666900) with the banding of `bands.py`; step 4
departs from the connected components most tools take. Memory: some 40 bytes a row, and 300 bytes a row that shares a
band with another. Not covered: similarity of meaning.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import daft
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from daft import col

from gristmill import progress
from gristmill.errors import UsageError
from gristmill.filter.bands import bands_for
from gristmill.filter.boilerplate import Common, masked_sets, measure_boilerplate
from gristmill.filter.lsh import REPORTED, Nodes, candidates, nodes_of
from gristmill.filter.marks import KEY, Table, evidence, findings_schema, kept, mark
from gristmill.filter.row_keys import Floats, Ints, keyed
from gristmill.filter.shingles import jaccards, shingle_column
from gristmill.filter.signatures import Signed, signed
from gristmill.filter.text import TextOf, normalized, normalized_text, raw_text
from gristmill.records import kind_of
from gristmill.runner import BATCH_ROWS, bounded

PAIRS_PER_ROW = 8
"""Pairs reported of a row with better ones, the most similar."""
SOURCE_LOSS, SOURCE_ROWS = 0.5, 100
"""A source of at least so many rows that loses more than this share raises the alarm `source_loss`."""
LARGE_CLUSTER = 1_000
"""A cluster of more rows than this, the kept one among them, raises the alarm `large_cluster`."""

Numbers = Literal["guard", "merge"]


class NearFindings(NamedTuple):
    """Findings by row number, verified pairs, and what there is to report."""

    findings: pa.Table
    pairs: pa.Table
    report: dict[str, Any]


class Near(NamedTuple):
    """The marked table, verified pairs, and what there is to report."""

    table: Table
    pairs: pa.Table
    report: dict[str, Any]


def near(
    table: Table,
    threshold: float = 0.8,
    *,
    recall: float = 0.99,
    numbers: Numbers = "guard",
    boilerplate: float | None = None,
    text: TextOf = "both",
    prefer: str | None = None,
) -> Near:
    """Mark rows that are near duplicates of a kept row: drop_rule `near_duplicate`, drop_value the Jaccard similarity.

    `threshold`: Jaccard similarity of word 5-grams (0..1) from which a row is a duplicate. `recall`: share of the pairs
    at the threshold that the banding must catch. `numbers`: rows that differ only in numeric tokens are kept and
    flagged (`guard`) or judged like others (`merge`). `boilerplate`: 5-grams that more than this share of the rows of a
    source have are not compared; a row that has no others is compared whole. `prefer` names the score that chooses
    survivors. Rows of equal text are duplicates in any case; rows without text are not compared.

    Measures `rule_near_duplicate`, the highest similarity to another row where one was found, and `flag_number_twin`,
    JSON naming a row that differs in numbers only. Raises UsageError for a threshold, recall or share out of range, and
    for an unknown score.
    """
    bands = bands_for(threshold, recall)
    rows = kept(table)
    common = boilerplate_of(rows, boilerplate, text)
    clock = time.monotonic()
    signatures, keys = signed(table, text=text, prefer=prefer, bands=bands, common=common)
    seconds = round(time.monotonic() - clock, 3)
    compared = Compared(signatures, rows, keys.select(KEY), keys["source_file"], text, common)
    found = near_findings(compared, threshold, recall=recall, numbers=numbers)
    report = found.report | {"seconds": {"signatures": seconds} | found.report["seconds"]}
    return Near(mark(table, keyed(found.findings, signatures.keys)), found.pairs, report)


def boilerplate_of(rows: Table, share: float | None, text: TextOf) -> Common | None:
    """The boilerplate of a table's rows, None without a share; raises UsageError for a share out of range."""
    if share is None:
        return None
    if not 0 < share < 1:
        raise UsageError(f"--boilerplate {share:g}: allowed is above 0 and below 1")
    normal = normalized_text(kind_of(rows.column_names), text)
    return measure_boilerplate(rows.select("id", "source_file", normal.alias("_text")), share)


class Compared(NamedTuple):
    """What near duplicates are found among: the signatures, and the rows whose texts are read again.

    `on` are the columns that name a row in `table` and `sources` its source, both by row number.
    """

    signed: Signed
    table: Table
    on: pa.Table
    sources: pa.ChunkedArray
    text: TextOf
    common: Common | None


def near_findings(
    compared: Compared, threshold: float, *, recall: float = 0.99, numbers: Numbers = "guard"
) -> NearFindings:
    """Find the near duplicates among signed rows; the parameters are those of `near`."""
    bands = bands_for(threshold, recall)
    clock = _Clock()
    nodes = nodes_of(compared.signed, bands)
    left, right = candidates(nodes, bands, threshold)
    clock.end("pairing")
    similarity, twins = _verified(compared, nodes, left, right)
    clock.end("verifying")
    found = similarity >= REPORTED
    left, right, similarity, twins = left[found], right[found], similarity[found], twins[found]
    guarded = twins if numbers == "guard" else np.zeros(len(twins), bool)
    edges = (similarity >= threshold) & ~guarded
    tied = _star(left[edges], right[edges], similarity[edges])
    flagged = (similarity >= threshold) & guarded
    findings = _findings(compared.signed, nodes, tied, threshold, (left, right, similarity, flagged))
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
        "number_twins": len(findings) - findings["flag_number_twin"].null_count,
        **_losses(findings, tied, nodes, compared),
        "seconds": clock.seconds,
    }
    return NearFindings(findings, _pairs(compared.signed, nodes, (left, right, similarity, twins), few), report)


class _Clock:
    """Seconds each phase took."""

    def __init__(self) -> None:
        self.since, self.seconds = time.monotonic(), dict[str, float]()

    def end(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase], self.since = round(now - self.since, 3), now


def _verified(compared: Compared, nodes: Nodes, left: Ints, right: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Exact Jaccard similarity of each pair, and whether the two differ in numbers only."""
    needed = np.unique(np.concatenate([left, right]))
    if not len(needed):
        return np.empty(0), np.empty(0, bool)
    wanted = compared.on.take(pa.array(nodes.rows[nodes.first[needed]])).append_column("_node", pa.array(needed))
    texts = compared.table.join(daft.from_arrow(wanted), on=wanted.column_names[:-1]).select(
        "_node", "source_file", raw_text(kind_of(compared.table.column_names), compared.text).alias("_text")
    )
    # The join leaves batches of a few rows each, and each is a start for `shingle_column`.
    found = texts.into_batches(BATCH_ROWS).select(
        "_node", "source_file", shingle_column(normalized(col("_text"))).alias("_s")
    )
    skeletons = np.empty(len(needed), np.uint64)
    starts, ends = np.empty(len(needed), np.int64), np.empty(len(needed), np.int64)
    progress.phase("texts", len(needed))
    with TemporaryDirectory() as folder:
        path, end = Path(folder) / "shingles", 0
        with path.open("wb") as file, bounded():
            for batch in found.to_arrow_iter():  # the join gives the rows in any order
                place = np.searchsorted(needed, batch["_node"].to_numpy())
                lists = pc.struct_field(batch["_s"], "shingles")
                sets, edges = masked_sets(lists, pa.chunked_array([batch["source_file"]]), compared.common)
                skeletons[place] = pc.struct_field(batch["_s"], "skeleton").to_numpy()
                starts[place], ends[place] = end + edges[:-1], end + edges[1:]
                end += len(sets)
                file.write(np.ascontiguousarray(sets).data)
                progress.advance(len(batch))
        sets = np.memmap(path, np.uint64, "r") if end else np.empty(0, np.uint64)
        progress.phase("pairs", len(left))
        at_left, at_right = np.searchsorted(needed, left), np.searchsorted(needed, right)
        return jaccards(at_left, at_right, sets, starts, ends), skeletons[at_left] == skeletons[at_right]


def _star(left: Ints, right: Ints, similarity: Floats) -> dict[int, tuple[int, float]]:
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


def _findings(
    signed: Signed, nodes: Nodes, tied: dict[int, tuple[int, float]], threshold: float, pairs: tuple[Any, ...]
) -> pa.Table:
    """Findings of every row that is dropped, flagged, or was measured, by row number."""
    left, right, similarity, flagged = pairs
    count, sizes = len(nodes.first) - 1, np.diff(nodes.first)
    best = np.where(sizes > 1, 1.0, 0.0)
    np.maximum.at(best, left, similarity)
    np.maximum.at(best, right, similarity)
    centre, jaccard = np.arange(count), np.ones(count)
    if tied:
        fallen = np.fromiter(tied, np.int64, len(tied))
        centre[fallen], jaccard[fallen] = np.array(list(tied.values())).T
    touched = best > 0
    node = np.repeat(np.arange(count), sizes)
    member = touched[node]
    node, rows = node[member], nodes.rows[member]
    kept_row = nodes.rows[nodes.first[centre[node]]]
    lost = rows != kept_row
    why = np.full(len(rows), None, object)
    why[lost] = _named(signed, kept_row[lost], jaccard[node[lost]])
    flags = np.full(count, None, object)
    twin = _twins(left[flagged], right[flagged], similarity[flagged])
    twin = {one: other for one, other in twin.items() if one not in tied}
    if twin:
        partners, close = np.array(list(twin.values())).T
        partner_rows = nodes.rows[nodes.first[partners.astype(np.int64)]]
        flags[np.fromiter(twin, np.int64, len(twin))] = _named(signed, partner_rows, close)
    columns = [
        pa.array(rows),
        pc.if_else(pa.array(lost), "near_duplicate", pa.scalar(None, pa.large_string())),
        pa.array(jaccard[node], mask=~lost),
        pa.array(np.full(len(rows), threshold), mask=~lost),
        pa.array(why, pa.large_string()),
        pa.array(best[node]),
        pa.array(flags[node], pa.large_string()),
    ]
    return pa.table(columns, schema=_FOUND).sort_by("row")


def _named(signed: Signed, rows: Ints, jaccard: Floats) -> list[str]:
    """Evidence that names each row and the similarity to it."""
    named = zip(signed.keys.ids(rows).to_pylist(), signed.keys.copy[rows].tolist(), jaccard.tolist(), strict=True)
    return [evidence(id=id, copy=copy, jaccard=round(similarity, 4)) for id, copy, similarity in named]


def _twins(left: Ints, right: Ints, similarity: Floats) -> dict[int, tuple[int, float]]:
    """Of each node that has number twins the most similar."""
    twin: dict[int, tuple[int, float]] = {}
    for one, other, jaccard in zip(left.tolist(), right.tolist(), similarity.tolist(), strict=True):
        for node, partner in ((one, other), (other, one)):
            if jaccard > twin.get(node, (0, 0.0))[1]:
                twin[node] = (partner, jaccard)
    return twin


PAIRS = pa.schema(
    [
        *((f"{name}_a", kind) for name, kind in (("id", pa.large_string()), ("copy", pa.int64()))),
        *((f"{name}_b", kind) for name, kind in (("id", pa.large_string()), ("copy", pa.int64()))),
        ("jaccard", pa.float64()),
        ("same_but_numbers", pa.bool_()),
    ]
)
"""Verified pairs, the better row first."""


def _most_similar(left: Ints, right: Ints, similarity: Floats) -> Ints:
    """The pairs to report: of each worse row the `PAIRS_PER_ROW` most similar (a template has them by the million)."""
    order = np.lexsort((left, -similarity, right))
    begins = np.ones(len(order), bool)
    begins[1:] = right[order][1:] != right[order][:-1]
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    few: Ints = order[np.arange(len(order)) - start < PAIRS_PER_ROW]
    return few


def _pairs(signed: Signed, nodes: Nodes, pairs: tuple[Any, ...], few: Ints) -> pa.Table:
    """The verified pairs to report by key, the better row first, sorted."""
    left, right, similarity, twins = (values[few] for values in pairs)
    rows = [nodes.rows[nodes.first[side]] for side in (left, right)]
    order = np.lexsort([each[side] for side in reversed(rows) for each in reversed(_key(signed))])
    columns: list[Any] = []
    for side in rows:
        columns += [signed.keys.ids(side[order]), signed.keys.copy[side[order]]]
    return pa.table([*columns, similarity[order], twins[order]], schema=PAIRS)


def _key(signed: Signed) -> tuple[Any, ...]:
    return signed.keys.high, signed.keys.low, signed.keys.copy


def _losses(findings: pa.Table, tied: dict[int, tuple[int, float]], nodes: Nodes, compared: Compared) -> dict[str, Any]:
    """Clusters, what each source lost, and the alarms about both."""
    centre = np.arange(len(nodes.first) - 1)
    for node, (other, _) in tied.items():
        centre[node] = other
    members = np.bincount(centre, np.diff(nodes.first), minlength=len(centre))
    clusters = members[members > 1]
    largest = int(clusters.max(initial=0))
    sources = pc.fill_null(compared.sources.cast(pa.large_string()), "")
    dropped = findings.filter(pc.is_valid(findings["drop_rule"]))["row"]
    rows, lost = (
        {entry["values"]: entry["counts"] for entry in pc.value_counts(some).to_pylist()}
        for some in (sources.filter(pa.array(compared.signed.kept)), sources.take(dropped))
    )
    shares = {name: lost.get(name, 0) / count for name, count in sorted(rows.items())}
    alarms = [
        {
            "name": "source_loss",
            "message": f"{name or 'the table'} loses {share:.1%} to near duplicates (over {SOURCE_LOSS:.0%})",
            "value": share,
            "limit": SOURCE_LOSS,
        }
        for name, share in shares.items()
        if share > SOURCE_LOSS and rows[name] >= SOURCE_ROWS
    ]
    if largest > LARGE_CLUSTER:
        message = f"{largest:,} near duplicates are one cluster, of which one row is kept (over {LARGE_CLUSTER:,})"
        alarms.append({"name": "large_cluster", "message": message, "value": largest, "limit": LARGE_CLUSTER})
    return {"clusters": len(clusters), "largest_cluster": largest, "source_loss": shares, "alarms": alarms}
