"""Which items of a gate belong to a cluster that was mined on others.

Not covered: clusters of text and of intervals, whose members are known on the mined items alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gristmill.loop.evals import Evals

Row = dict[str, Any]

TARGET = "mined"
"""The field that says which countered clusters an item of the gate belongs to."""


def targeted(evals: Evals, clusters: Sequence[Row]) -> Evals:
    """Evaluations whose rows say in the field `mined` which of the clusters they belong to."""
    rows = [{**row, TARGET: [each["cluster"] for each in clusters if belongs(each, row)]} for row in evals.rows]
    return evals._replace(rows=rows)


def targets(evals: Evals, clusters: Sequence[Row]) -> list[str]:
    """The slices that a gate of these `targeted` evaluations has for targets: the clusters that items belong to, or
    `all` where none belongs to any."""
    there = {name for row in evals.rows for name in row[TARGET]}
    return [f"{TARGET}={each['cluster']}" for each in clusters if each["cluster"] in there] or ["all"]


def belongs(cluster: Row, row: Mapping[str, Any]) -> bool:
    """Whether a row lies in a cluster that predicates define (`tag borrow and digits = 2`); False for one of text and
    for intervals."""
    if cluster["kind"] != "slice":
        return False
    meta = orjson.loads(row["meta"]) if row.get("meta") else {}
    return all(_holds(each.strip(), row, meta) for each in re.split(r" and | & ", cluster["definition"]))


def _holds(predicate: str, row: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    if predicate.startswith("tag "):
        return predicate[4:] in (row.get("tags") or ())
    name, equals, value = predicate.partition(" = ")
    found = row.get(f"slot_{name}", meta.get(name))
    return bool(equals) and found is not None and str(found) == value
