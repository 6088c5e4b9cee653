"""Which items of a gate belong to a cluster that was mined on others.

Not covered: clusters of text and of intervals, whose members are known on the mined items alone.
"""

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
    slots = {name.removeprefix("slot_"): value for name, value in row.items() if name.startswith("slot_")}
    facts = {**meta, **{name: value for name, value in slots.items() if value is not None}}
    held = [f"tag {tag}" for tag in row.get("tags") or ()] + [f"{name} = {value}" for name, value in facts.items()]
    return _made_of(cluster["definition"], held)


def _made_of(definition: str, held: Sequence[str]) -> bool:
    """Whether a definition is nothing but predicates that hold, joined by `and`, which values may have in them too."""
    if definition in held:
        return True
    beginnings = [each + joint for each in held for joint in (" and ", " & ") if definition.startswith(each + joint)]
    return any(_made_of(definition.removeprefix(each), held) for each in beginnings)
