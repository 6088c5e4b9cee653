"""What every reader of a log makes: EVAL rows, as dicts.

A value that a log does not have, or has as NaN, is None: not scored, which is never 0.

Not covered: parts of messages that are not text.
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import orjson

from gristmill.records import row_id
from gristmill.shapes import message, messages

Row = dict[str, Any]
Value = float | str | None
"""A score: a number, or None with a reason elsewhere; a text is the reason why it is no number."""


class Log(NamedTuple):
    """One file that was read."""

    file: str
    format: str
    rows: list[Row]
    notes: list[str]
    """What its reader has to tell of it: rows that repeat others, samples that are missing."""


def eval_row(
    prompt: Any, response: str | None, *, item: object, scores: Mapping[str, Value], meta: Any = None, **columns: Any
) -> Row:
    """An EVAL row. `prompt` is text, a list of messages or None; `item` becomes text; `scores` are by name; `columns`
    are others of EVAL. Raises BadRow for a prompt of another shape."""
    asked = [message("user", prompt)] if isinstance(prompt, str) else messages(prompt, "prompt") if prompt else []
    row: Row = {"prompt": asked, "response": response, "item": str(item), **columns}
    row["meta"] = orjson.dumps(meta, default=str).decode() if meta else None
    for name, value in scores.items():
        row[f"score_{plain_name(name)}"] = None if isinstance(value, str) else value
        row[f"verdict_{plain_name(name)}"] = verdict_of(value)
        if isinstance(value, str):
            row[f"why_{plain_name(name)}"] = value
    return {"id": row_id("sample", row), **row}


def verdict_of(value: Value) -> str:
    """One word for a value: `correct` (1), `wrong` (0), `partial`, or `unscored`."""
    if value is None or isinstance(value, str):
        return "unscored"
    return {1.0: "correct", 0.0: "wrong"}.get(value, "partial")


def plain_name(name: str) -> str:
    """A name as columns are called: small letters, digits and `_`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "score"


def number(value: Any) -> Value:
    """A score's value: numbers and booleans as they are, NaN and null None, text that is no number itself."""
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return float(value) if isfinite(value) else None
    try:
        found = float(str(value))
    except ValueError:
        return f"{str(value)[:80]!r} is no number"
    return found if isfinite(found) else None


def text_of(content: Any) -> str | None:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") or "" for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        return "\n".join(parts)
    return content if content is None or isinstance(content, str) else str(content)


def last_said(completion: Any) -> str | None:
    """A completion's text: itself, or the last assistant turn of its messages."""
    if not isinstance(completion, list):
        return text_of(completion)
    said = [turn for turn in completion if isinstance(turn, Mapping) and turn.get("role") == "assistant"]
    return text_of(said[-1].get("content")) if said else None
