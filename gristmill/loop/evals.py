"""Evaluated rows in memory: what each item's answers were worth, and which slices it lies in.

A slice is `NAME=VALUE`: a tag (`tags=carry`), a template's slot (`slot_operation=minus`), the suite, or a field of the
item's `meta`. An item lies in every slice that one of its values names.

Not covered: rows larger than memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq

from gristmill.errors import UsageError
from gristmill.loop.logs.read import Unread, read_logs
from gristmill.loop.logs.rows import Log, Row
from gristmill.rollout.groups import Solved

SUITE = b"gristmill.suite"
"""The key of a Parquet file's metadata that holds what its suite says: its slices, its scores and its least."""

Key = tuple[str, str]
"""An item: the name of its suite, and its own."""


class Evals(NamedTuple):
    """Rows of one evaluation, what its suite names (nothing where there is no suite), and the files they come from."""

    rows: list[Row]
    slices: tuple[str, ...]
    scores: tuple[str, ...]
    least: float = 1.0
    """The value of the first score from which on an answer is right."""
    logs: Sequence[Log] = ()
    unread: Sequence[Unread] = ()


class Outcome(NamedTuple):
    """What became of an item."""

    values: list[float | None]
    """Its score for each sample; None where it could not be judged."""
    slices: frozenset[str]

    def right(self, least: float) -> bool | None:
        """Whether more than half of the judged samples reach `least`; None where none was judged."""
        judged = [value >= least for value in self.values if value is not None]
        return 2 * sum(judged) > len(judged) if judged else None


def read_evals(paths: str | Sequence[str]) -> Evals:
    """The rows of files, in any format of `logs/read.py`. Raises BadInput where none can be read."""
    logs, unread = read_logs([paths] if isinstance(paths, str) else paths)
    told = [_told(log.file) for log in logs]
    slices, scores = (tuple(dict.fromkeys(name for each in told for name in each.get(k, ()))) for k in _NAMED)
    least = next((each["least"] for each in told if "least" in each), 1.0)
    return Evals([row for log in logs for row in log.rows], slices, scores, least, logs, unread)


_NAMED = ("slices", "scores")


def _told(file: str) -> dict[str, Any]:
    if not file.endswith(".parquet") or "://" in file:
        return {}
    found: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {}).get(SUITE, b"{}"))
    return found


def solved_of(evals: Evals, solved: Solved | None) -> Solved:
    """The score that says what is right: the one named, or the only one (of a suite: its first).

    Raises UsageError where that is none.
    """
    there = sorted({name.removeprefix("score_") for row in evals.rows for name in row if name.startswith("score_")})
    if solved is None:
        names = evals.scores or tuple(name for name in there if name != "confidence")
        if not names or (len(names) > 1 and not evals.scores):
            raise UsageError(f"which score? name one with --score: {', '.join(there) or 'the rows have none'}")
        solved = Solved(names[0], evals.least)
    if solved.score not in there:
        raise UsageError(f"--score {solved.score}: the rows have no such score; allowed: {', '.join(there) or 'none'}")
    return solved


def default_slices(evals: Evals) -> tuple[str, ...]:
    """The names by which these rows are sliced if nobody says otherwise: those of the suite, or tags and slots."""
    if evals.slices:
        return evals.slices
    slots = sorted({name for row in evals.rows for name in row if name.startswith("slot_")})
    suites = ["suite"] if len({row["suite"] for row in evals.rows}) > 1 else []
    tags = ["tags"] if any(row.get("tags") for row in evals.rows) else []
    return (*suites, *tags, *slots)


def outcomes(rows: Iterable[Row], score: str, slices: Sequence[str]) -> dict[Key, Outcome]:
    """Every item's outcome, in the order of the rows."""
    values: dict[Key, list[float | None]] = {}
    found: dict[Key, set[str]] = {}
    for row in rows:
        key = (row["suite"], row["item"])
        values.setdefault(key, []).append(row.get(f"score_{score}"))
        found.setdefault(key, set()).update(slices_of(row, slices))
    return {key: Outcome(values[key], frozenset(found[key])) for key in values}


def slices_of(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """The slices a row lies in, as `NAME=VALUE`."""
    meta = orjson.loads(row["meta"]) if row.get("meta") else {}
    for name in names:
        value = row[name] if name in row else meta.get(name)
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is not None:
                yield f"{name}={each if isinstance(each, str) else orjson.dumps(each).decode()}"
