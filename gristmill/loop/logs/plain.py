"""Evaluated rows in the shapes of the reader of tables: our own files, and JSONL, CSV or Parquet of anybody's.

Scores are the columns `score_*`, or those that people call theirs (`SCORED`). An item is known by `item` or one of
`ITEMS`, else by the content of its prompt. Rows that an earlier filter dropped are left out.

Not covered: results in which one record holds several models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gristmill.errors import BadRow
from gristmill.loop.logs.rows import Log, Row, number, plain_name, verdict_of
from gristmill.records import CARRIED, row_id
from gristmill.shapes import row_of

ITEMS = ("item", "item_id", "task_id", "question_id", "doc_id", "custom_id", "qid")
SCORED = ("correct", "is_correct", "passed", "score", "acc", "accuracy", "exact_match", "reward")


def read_plain(file: str, records: Sequence[Mapping[str, Any]]) -> Log:
    """The rows of a file's records. Raises BadRow, naming the row, for one that holds no item."""
    extra = frozenset(name for record in records for name in record if name.startswith(tuple(CARRIED)))
    rows = []
    for place, record in enumerate(records):
        if record.get("drop_rule") is None:
            try:
                rows.append(_row(record, extra))
            except BadRow as error:
                raise BadRow(f"{file}: row {place}: {error}") from error
    return Log(file, "rows", rows, [])


def _row(record: Mapping[str, Any], extra: frozenset[str]) -> Row:
    rest = {name: value for name, value in record.items() if name not in ("suite", "item", *extra)}
    inner = _meta(rest.get("meta"))
    scores = {} if any(name.startswith("score_") for name in extra) else _scores(rest)
    prompted = any(rest.get(name) for name in ("prompt", "messages", "conversations", "question", "problem", "query"))
    if not (prompted or "instruction" in rest or "text" in rest):
        rest["prompt"] = []
    row = row_of(rest, "sample", answer="reference", extra=frozenset())
    item = next((record[name] for name in ITEMS if record.get(name) is not None), inner.get("item"))
    if item is None:
        if not row["prompt"]:
            raise BadRow(f"neither a prompt nor an item; name the item in one of {', '.join(ITEMS)}")
        item = row_id("prompt", row)
    row |= {name: _carried(name, record.get(name)) for name in extra}
    row |= {"suite": record.get("suite") or inner.get("suite") or "rows", "item": str(item)}
    for name, value in scores.items():
        row |= {f"score_{plain_name(name)}": value, f"verdict_{plain_name(name)}": verdict_of(value)}
    return {"id": row_id("sample", row), **row}


def _scores(rest: dict[str, Any]) -> dict[str, float | None]:
    """Take the scores that go by a common name out of a record."""
    found: dict[str, float | None] = {}
    for name in SCORED:
        if name in rest and not isinstance(value := number(rest[name]), str):
            found[name] = value
            del rest[name]
    return found


def _carried(name: str, value: Any) -> Any:
    if name.startswith(("score_", "rule_")):
        found = number(value)
        return found if isinstance(found, float) else None
    return value if value is None else str(value)


def _meta(value: Any) -> Mapping[str, Any]:
    found = orjson.loads(value) if isinstance(value, str) and value.startswith("{") else value
    return found if isinstance(found, Mapping) else {}
