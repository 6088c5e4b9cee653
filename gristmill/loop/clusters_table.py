"""The table of clusters: one row each, ranked, with its factors, members and examples; the unclustered bin last.

`members` is a list of structs: the item (`id`, `key`, `row`, `lineage`, `prompt`, `reference`, `response`, `tags`,
`facts` as JSON, and where it came from), its `failed` share of `samples`, its `half` (`train` or `held_out`, by
lineage), and `shown`: `central` and `borderline` for three failing members each, `neighbour` for the three passing
items next to the cluster, which belong to it or not (`inside`).

Not covered: what to do about a cluster (`counter.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.errors import UsageError
from gristmill.loop.clusters import Space
from gristmill.loop.failures import Failures
from gristmill.loop.found import Cluster
from gristmill.loop.mine import half_of
from gristmill.loop.rank import factors
from gristmill.loop.scan import Ints
from gristmill.parquet import marked
from gristmill.records import MESSAGES, STRINGS

Row = dict[str, Any]

SHOWN = 3
"""Examples of each sort."""

_OF_ITEM = ("id", "key", "row", "lineage", "prompt", "reference", "response", "tags", "source_file", "source_row")

UNCLUSTERED = "unclustered"
"""The id of the last row: what fails and is in no cluster."""

_TEXT, _NUMBER = pa.large_string(), pa.float64()

MEMBER = pa.struct(
    [
        *((name, _TEXT) for name in ("id", "key", "row", "lineage", "half", "shown")),
        ("inside", pa.bool_()),
        ("failed", _NUMBER),
        ("samples", pa.int64()),
        ("prompt", MESSAGES),
        *((name, _TEXT) for name in ("reference", "response")),
        ("tags", STRINGS),
        ("facts", _TEXT),
        ("source_file", _TEXT),
        ("source_row", pa.int64()),
    ]
)

SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        *((name, _TEXT) for name in ("cluster", "name", "model_name", "kind", "definition")),
        ("words", STRINGS),
        ("items", pa.int64()),
        *((name, _NUMBER) for name in ("failures", "rate", "low", "high", "rest", "p_value", "stability")),
        *((name, _NUMBER) for name in ("frequency", "severity", "headroom", "effort", "priority")),
        ("edited", STRINGS),
        ("members", pa.large_list(MEMBER)),
    ]
)
"""Columns of the table; rates and factors as in `rank.Factors`."""


def rows_of(
    clusters: Sequence[Cluster],
    left: Ints,
    evals: Failures,
    spaces: Sequence[Space],
    *,
    teacher: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Row]:
    """The rows of the table, by falling priority (equal ones by id)."""
    found = []
    outside = np.ones(len(evals.items), bool)
    for each in clusters:
        outside[each.members] = False
    rest_rate = float(evals.failed[outside].mean()) if outside.any() else 0.0
    for each in clusters:
        known = factors(each, evals.items, evals.failed, rest=rest_rate, teacher=teacher)
        row = {name: getattr(each, name) for name in ("name", "model_name", "kind", "definition", "p_value")}
        row |= {"cluster": each.id, "words": list(each.words), "stability": each.stability, "edited": list(each.edited)}
        row |= known._asdict() | {"priority": known.priority}
        found.append({**row, "members": _members(each.members, evals, space_of(each, spaces), seed)})
    found.sort(key=lambda row: (-row["priority"], row["cluster"]))
    found = [{"rank": rank, **row} for rank, row in enumerate(found, 1)]
    rest: Row = {"rank": None, "cluster": UNCLUSTERED, "name": "fails, and is in no cluster", "kind": UNCLUSTERED}
    rest |= {"items": len(left), "failures": float(evals.failed[left].sum()), "words": [], "edited": []}
    members = [_member(place, evals, seed, shown=None, inside=True) for place in left.tolist()]
    return [*found, rest | {"members": members}]


def space_of(cluster: Cluster, spaces: Sequence[Space]) -> Space | None:
    """The space that a cluster was found in; of a slice the first there is."""
    return next((space for space in spaces if space.name == cluster.space), spaces[0] if spaces else None)


def examples(members: Ints, evals: Failures, space: Space | None) -> dict[str, list[int]]:
    """The places of the central, the borderline and the passing neighbours, at most `SHOWN` each."""
    failed = evals.failed
    if space is None:
        likeness = np.isin(np.arange(len(failed)), members).astype(float)
    else:
        likeness = space.points @ space.points[members[failed[members] > 0]].mean(axis=0)
    failing = members[failed[members] > 0]
    order = failing[np.argsort(-likeness[failing], kind="stable")].tolist()
    passing = np.flatnonzero(failed == 0)
    near = passing[np.argsort(-likeness[passing], kind="stable")].tolist()
    central = order[:SHOWN]
    borderline = [place for place in order[::-1][:SHOWN] if place not in central]
    return {"central": central, "borderline": borderline, "neighbour": near[:SHOWN]}


def _members(members: Ints, evals: Failures, space: Space | None, seed: int) -> list[Row]:
    chosen = examples(members, evals, space)
    shown = {place: sort for sort, places in chosen.items() for place in places}
    inside = set(members.tolist())
    listed = [*members.tolist(), *(place for place in chosen["neighbour"] if place not in inside)]
    return [_member(place, evals, seed, shown=shown.get(place), inside=place in inside) for place in listed]


def _member(place: int, evals: Failures, seed: int, *, shown: str | None, inside: bool) -> Row:
    item = evals.items[place]
    return {
        **{name: item.get(name) for name in _OF_ITEM},
        "half": half_of(item["lineage"], seed),
        "shown": shown,
        "inside": inside,
        "failed": float(evals.failed[place]),
        "samples": evals.samples[place],
        "facts": orjson.dumps(item["facts"], option=orjson.OPT_SERIALIZE_NUMPY).decode(),
    }


def write_clusters(rows: Sequence[Row], path: Path) -> None:
    """Write the table."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=marked(SCHEMA)), path, compression="zstd")


def read_clusters(path: str | Path) -> list[Row]:
    """The rows of a table of clusters; raises UsageError for what is none."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        raise UsageError(f"{path}: cannot be read as Parquet; name what gristmill mine wrote") from None
    if not {"cluster", "members", "priority"} <= set(schema.names):
        raise UsageError(f"{path}: no table of clusters; name what gristmill mine wrote")
    rows: list[Row] = pq.read_table(path, partitioning=None).to_pylist()
    return rows
