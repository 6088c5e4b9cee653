"""What came from what: the steps of a run as a graph drawn in lanes beside a list, in the order in which they ran.

A lane runs from a step down to the last step that reads it. The drawing is SVG lines without text, one piece a step,
which stretches to the height of that step's words. Not covered: rows (`gristmill why`).
"""

from math import log
from typing import Any, NamedTuple

Row = dict[str, Any]
STEPS = 60


class Line(NamedTuple):
    """A line of a piece: `through` it, from its top to the node (`in`), or from the node to its bottom (`out`)."""

    start: int
    end: int
    part: str


def steps(summary: Row) -> list[Row]:
    """The steps of `lineage`, each with its lane, the lines of its piece of the drawing, and what it was made from."""
    listed = [step for step in summary.get("lineage") or [] if isinstance(step, dict)][:STEPS]
    last = {entry.get("key"): row for row, step in enumerate(listed) for entry in step.get("inputs") or []}
    lanes: list[str | None] = []
    drawn = []
    for row, step in enumerate(listed):
        read = {entry.get("key") for entry in step.get("inputs") or []} - {None}
        sources = [lane for lane, key in enumerate(lanes) if key is not None and key in read]
        through = [lane for lane, key in enumerate(lanes) if key is not None and last.get(key, -1) > row]
        own = next((lane for lane in (*sources, *range(len(lanes) + 1)) if lane not in through), len(lanes))
        lanes += [None] * (own + 1 - len(lanes))
        lines = [Line(lane, lane, "through") for lane in through] + [Line(lane, own, "in") for lane in sources]
        lanes = [key if lane in through else None for lane, key in enumerate(lanes)]
        if last.get(step.get("key"), -1) > row:
            lanes[own] = step["key"]
            lines.append(Line(own, own, "out"))
        drawn.append(_step(step) | {"lane": own, "lines": lines})
    return [step | {"width": len(lanes)} for step in drawn]


def _step(step: Row) -> Row:
    inputs = step.get("inputs") or []
    return {name: step.get(name) for name in ("name", "key", "rows", "seconds", "peak_rss_mb", "reused")} | {
        "size": _size(step.get("bytes")),
        "files": [entry["path"] for entry in inputs if entry.get("path") is not None],
        "from": [entry.get("name") for entry in inputs if entry.get("path") is None],
    }


def _size(size: float | None) -> str | None:
    """Bytes in the largest unit of which there is one at least."""
    if size is None:
        return None
    power = min(int(log(max(size, 1), 1000)), 4)
    return f"{size / 1000**power:.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def times(summary: Row) -> list[Row]:
    """The stages of the filter with their seconds and these as a share of the longest."""
    listed = [stage for stage in summary.get("stages") or [] if stage.get("seconds") is not None]
    longest = max((stage["seconds"] for stage in listed), default=0) or 1
    return [
        {
            "name": stage.get("name"),
            "seconds": stage["seconds"],
            "rows": stage.get("rows_in"),
            "share": stage["seconds"] / longest,
        }
        for stage in listed
    ]
