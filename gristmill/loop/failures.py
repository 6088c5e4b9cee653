"""Evaluations by item: how often each item fails, and everything about it that may say why.

An item is what the rows of one evaluation item (`suite`, `item`), or of one prompt where a table names no items, have
in common. Its *failure* is the share of its judged samples that miss the limit; samples without a score count neither
way.

Not covered: tables larger than memory.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.records import row_id
from gristmill.rollout.groups import GROUP_COLUMNS, Solved
from gristmill.score.pipeline import BadRows
from gristmill.wording import prompt_text

Row = dict[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]

OF_ROW = ("response", "source_file", "source_row")
"""What an item has of the sample that stands for it."""

OF_CALLS = ("cost", "logprobs", "tool_calls")
"""What `meta` tells of an answer rather than of its item."""

KEYS = ("suite", "item")
"""What names an item, in a column or in `meta`."""


class Failures(NamedTuple):
    """Items in input order."""

    items: list[Row]
    """Of each: `id` (of the prompt), `key` (suite and item, else the id), `prompt`, `reference`, `tags`, `facts` (slots
    and metadata by name), `lineage` (what it was made from, or its own id, or its key where it has no prompt: items of
    one lineage are never parted), and of its first failed sample, else of its first, `row` (its id), `response`,
    `source_file` and `source_row`."""
    failed: Floats
    """Shares of judged samples that failed, 0 to 1."""
    samples: Sequence[int]
    """Judged samples."""
    unjudged: int
    """Samples without a score."""
    score: str
    bad: int = 0
    """Rows that could not be read."""
    first_bad: str = ""
    """File, row and reason of the first of them."""


def read_failures(
    paths: str | Sequence[str],
    solved: Solved | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
) -> Failures:
    """The items of scored tables. `solved` may be left out where a table has one score.

    Raises BadInput for too many bad rows, UsageError for a table without scores, or none of which is judged.
    """
    kind, schema, read = batches(paths, columns=columns, answer="reference", limit=limit)
    there = [name.removeprefix("score_") for name in schema.names if name.startswith("score_")]
    solved = solved or _only(there)
    if solved.score not in there:
        raise UsageError(f"score {solved.score}: the {kind} rows have none; they have {', '.join(there) or 'no score'}")
    bad, rows, unjudged = BadRows(), 0, 0
    found: dict[str, Row] = {}
    counts: dict[str, list[int]] = {}
    for batch in read:
        good = bad.set_aside(batch).drop_columns([ORDER, BAD]).to_pylist()
        rows += len(good)
        for row in good:
            value = row[f"score_{solved.score}"]
            if value is None:
                unjudged += 1
                continue
            item = _item(row)
            wrong = int(value < solved.least)
            known = found.setdefault(item["key"], item)
            count = counts.setdefault(item["key"], [0, 0])
            if wrong and not count[0]:
                known |= {name: row.get(name) for name in OF_ROW} | {"row": row["id"]}
            count[0] += wrong
            count[1] += 1
    check_bad(bad.count, rows + bad.count, max_bad, first=bad.first[0] if bad.first else None)
    if not found:
        raise UsageError(f"score {solved.score}: none of the {rows:,} rows is judged; score them first")
    share = np.array([counts[key][0] / counts[key][1] for key in found])
    judged = [counts[key][1] for key in found]
    first = f"{bad.first[0]['source_file']}:{bad.first[0]['source_row']}: {bad.first[0][BAD]}" if bad.first else ""
    return Failures(list(found.values()), share, judged, unjudged, solved.score, bad.count, first)


def _only(there: Sequence[str]) -> Solved:
    """The one score of a table, leaving out what is computed from it."""
    derived = {name.removeprefix("score_") for name in GROUP_COLUMNS}
    named = [name for name in there if name not in derived]
    if not named:
        raise UsageError(
            "mine: the rows have no column score_…; gristmill score --with SCORE judges them, and gristmill eval LOGS "
            "-o EVALS.parquet reads others' logs"
        )
    if len(named) != 1:
        raise UsageError(f"--solved: name what counts as right, SCORE[>=X]; the scores are {', '.join(named)}")
    return Solved(named[0])


def _item(row: Row) -> Row:
    meta = orjson.loads(row.get("meta") or "{}")
    prompt_id = row_id("prompt", {"prompt": row["prompt"], "tools": row.get("tools")})
    named = [str(value) for name in KEYS if (value := row.get(name, meta.pop(name, None))) is not None]
    facts = {name.removeprefix("slot_"): text for name, text in row.items() if name.startswith("slot_") and text}
    facts |= {name: value for name, value in meta.items() if name not in facts and name not in OF_CALLS}
    if len(named) == len(KEYS):
        facts["suite"] = named[0]
    key = "/".join(named) if named else prompt_id
    own = prompt_id if any(turn["content"] for turn in row["prompt"]) else key  # a log may hold no prompt
    made_from = sorted(parent for parent in row.get("parents") or () if parent != prompt_id)
    return {
        "id": prompt_id,
        "lineage": made_from[0] if made_from else own,
        "key": key,
        "prompt": row["prompt"],
        "reference": row.get("reference"),
        **{name: row.get(name) for name in OF_ROW},
        "row": row["id"],
        "tags": list(dict.fromkeys(row.get("tags") or ())),
        "facts": facts,
    }


def texts_of(items: Iterable[Row], name: str) -> list[str]:
    """A text of every item: `prompt`, `response`, `reference`, `tags`, or a fact; empty where an item has none."""
    if name == "prompt":
        return [prompt_text(item) for item in items]
    if name == "tags":
        return [" ; ".join(item["tags"]) for item in items]
    if name in ("response", "reference"):
        return [item[name] or "" for item in items]
    return [str(value) if (value := item["facts"].get(name)) is not None else "" for item in items]


WORDS = (2, 40)
"""Mean words of a fact that is read as a text."""

VALUES = 50
"""Different values from which on a fact of text names no slices."""


def phrase_names(items: Sequence[Row]) -> list[str]:
    """The facts that are short texts rather than categories (a capability, a description), and `tags` where there are
    more than `VALUES` of them."""
    texts: dict[str, Counter[str]] = {}
    for item in items:
        for name, value in item["facts"].items():
            if isinstance(value, str):
                texts.setdefault(name, Counter())[value] += 1
    named = []
    for name, values in texts.items():
        words = sum(len(text.split()) * count for text, count in values.items()) / values.total()
        if len(values) > VALUES and WORDS[0] <= words <= WORDS[1] and values.total() > len(items) / 2:
            named.append(name)
    tags = {tag for item in items for tag in item["tags"]}
    return [*named, *(["tags"] if len(tags) > VALUES else [])]
