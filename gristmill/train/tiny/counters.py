"""Counterexamples from the world of the embedded model: tasks like those of a cluster, with right answers.

The template is matched to the cluster: what its definition says of slices (`borrow = yes`) is what the tasks have; for
a cluster that says nothing of slices, the slices that its failed items share.

Not covered: clusters of other worlds.
"""

import re
from collections.abc import Mapping
from typing import Any

from gristmill.train.tiny.world import Mix, Task, rows

SLICES = tuple(Task("add", 1, 1, "bare", "sign").slices)
TAGS = {
    "borrow": ("borrow", "yes"),
    "carry": ("carry", "yes"),
    "add": ("operation", "add"),
    "subtract": ("operation", "subtract"),
}


def counter(cluster: Mapping[str, Any], n: int, seed: int) -> list[dict[str, Any]]:
    """`n` samples of the training part of the world that are like a cluster."""
    only = _said(str(cluster["definition"])) or _shared(cluster["items"])
    found = []
    for row in rows(n, seed=1_000 + seed, mix=Mix(only=only), reasoning=1.0):
        slots = {name: value for name, value in row.items() if name.startswith("slot_")}
        prompt = [{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]]
        found.append(
            {"prompt": prompt, "response": row["response"], "reference": row["reference"], "tags": row["tags"]}
        )
        found[-1] |= slots
    return found


def _said(definition: str) -> dict[str, str]:
    """The slices that a definition names."""
    only = {}
    for predicate in re.split(r" and | & ", definition):
        name, equals, value = predicate.partition(" = ")
        if equals and name in SLICES:
            only[name] = value
        elif (tag := predicate.removeprefix("tag ")) != predicate and tag in TAGS:
            only.update([TAGS[tag]])
    return only


def _shared(items: Any) -> dict[str, str]:
    """The operation, and whether there is regrouping, where at least nine in ten failed items agree."""
    failed = [item["facts"] for item in items if item["failed"] > 0.5]
    only = {}
    for name in ("operation", "carry", "borrow"):
        values = [str(facts.get(name)) for facts in failed]
        common = max(set(values), key=values.count) if values else "None"
        if common != "None" and values.count(common) >= 0.9 * len(values):
            only[name] = common
    return only
