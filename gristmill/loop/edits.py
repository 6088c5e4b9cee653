"""What people say about clusters: names, severity, effort, headroom, merges and splits, kept in a YAML file.

    clusters:
      slice-1f0c2b9a:
        name: borrowing over a zero
        severity: 5          # 1 to 5
        effort: 2            # of one counterexample, against others
      text-77ab12e0:
        split: ["cube", "sphere|ball"]   # regular expressions on the prompt; what fits none stays
    merge:
      - [text-0a1b2c3d, text-4e5f6a7b]   # into the first

A cluster is called by its id, or by its name. Splits come first (`ID.1`, `ID.2`), then merges, then the rest. Mining
again applies the file again; what finds no cluster is told, and stays in the file.

Not covered: clusters made by hand from nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gristmill.loop.found import Cluster
from gristmill.wording import prompt_text
from gristmill.yaml_file import read_as

Row = dict[str, Any]


class ClusterEdits(BaseModel):
    """What is said of one cluster; left out is as it was found."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    severity: float | None = Field(None, ge=1, le=5)
    effort: float | None = Field(None, gt=0)
    headroom: float | None = Field(None, ge=0, le=1)
    split: list[str] = []

    @field_validator("split")
    @classmethod
    def _patterns(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return values


class Edits(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid")

    clusters: dict[str, ClusterEdits] | None = None
    merge: list[list[str]] | None = None


def read_edits(path: str | Path) -> Edits:
    """The edits of a file; raises UsageError naming file, field and value."""
    return read_as(Edits, path, "edits of clusters: clusters, merge")


def edited(clusters: Sequence[Cluster], edits: Edits, items: Sequence[Row]) -> tuple[list[Cluster], list[str]]:
    """The clusters after the edits, and the names in the file that no cluster has."""
    found, unknown = list(clusters), []
    for called, said in (edits.clusters or {}).items():
        place = _place(found, called)
        if place is not None and said.split:
            found[place : place + 1] = _split(found[place], said.split, items)
    for group in edits.merge or []:
        places = [_place(found, called) for called in group]
        unknown += [called for called, place in zip(group, places, strict=True) if place is None]
        merged = list(dict.fromkeys(place for place in places if place is not None))
        if len(merged) > 1:
            first = found[merged[0]]
            members = np.unique(np.concatenate([found[place].members for place in merged]))
            others = ", ".join(found[place].id for place in merged[1:])
            found[merged[0]] = replace(first, members=members, edited=(*first.edited, f"merged with {others}"))
            found = [each for place, each in enumerate(found) if place not in merged[1:]]
    for called, said in (edits.clusters or {}).items():
        place = _place(found, called)
        if place is None:
            unknown += [] if said.split else [called]
            continue
        changes = said.model_dump(exclude={"split"}, exclude_none=True)
        if changes:
            each = found[place]
            told = {name: value for name, value in changes.items() if name != "name"}
            found[place] = replace(
                each, set_by_hand=told, name=changes.get("name", each.name), edited=(*each.edited, *changes)
            )
    return found, unknown


def _place(clusters: Sequence[Cluster], called: str) -> int | None:
    return next((place for place, each in enumerate(clusters) if called in (each.id, each.name)), None)


def _split(cluster: Cluster, patterns: Sequence[str], items: Sequence[Row]) -> list[Cluster]:
    """The parts by the first pattern that a prompt fits, and the rest, under ids of their own."""
    parts: list[list[int]] = [[] for _ in range(len(patterns) + 1)]
    for place in cluster.members.tolist():
        text = prompt_text(items[place])
        fits = (number for number, pattern in enumerate(patterns) if re.search(pattern, text, re.IGNORECASE))
        parts[next(fits, len(patterns))].append(place)
    names = [*patterns, "the rest"]
    return [
        replace(
            cluster,
            id=f"{cluster.id}.{number}",
            name=f"{cluster.name}: {name}",
            members=np.array(part, np.int64),
            edited=(*cluster.edited, f"split: {name}"),
        )
        for number, (name, part) in enumerate(zip(names, parts, strict=True), 1)
        if part
    ]


def template(clusters: Sequence[Cluster]) -> str:
    """A file of edits that changes nothing, with every cluster in a comment."""
    lines = ["# Edits of clusters; mining again applies them. Take the # away from what you want to say.", "clusters:"]
    for each in clusters:
        lines += [f"#  {each.id}:    # {each.name}", f"#    {{name: {each.id}, severity: 3, effort: 1}}"]
    return "\n".join([*lines, "merge:", "#  - [ID, ID]", ""])
