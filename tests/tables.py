"""Small tables for tests."""

from collections.abc import Iterable
from typing import Any

import daft
import pyarrow as pa

from gristmill.records import CARRIED, SCHEMAS, Kind, row_id


def table(kind: Kind, rows: Iterable[dict[str, Any]]) -> daft.DataFrame:
    """A table of `kind` from rows by column name; a text `prompt` is one user message; ids and copies are filled in."""
    seen: dict[str, int] = {}
    complete = []
    for number, given in enumerate(rows):
        row = dict.fromkeys(SCHEMAS[kind].names) | {"source_file": "test.jsonl", "source_row": number} | given
        if isinstance(row["prompt"], str):
            row["prompt"] = [{"role": "user", "content": row["prompt"], "extra": None}]
        row["id"] = row_id(kind, row)
        row["copy"] = seen.get(row["id"], 0)
        seen[row["id"]] = row["copy"] + 1
        complete.append(row)
    schema = SCHEMAS[kind]
    for name in dict.fromkeys(name for row in complete for name in row if name not in schema.names):
        schema = schema.append(pa.field(name, next(t for prefix, t in CARRIED.items() if name.startswith(prefix))))
    return daft.from_arrow(pa.Table.from_pylist(complete, schema=schema))


def samples(pairs: Iterable[tuple[str, str | None]]) -> daft.DataFrame:
    """A table of samples from (prompt, response) pairs."""
    return table("sample", [{"prompt": prompt, "response": response} for prompt, response in pairs])


def by_row(table: daft.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The named columns of a table, one tuple a row, in source order."""
    rows = sorted(table.select("source_row", *columns).to_pylist(), key=lambda row: row["source_row"])
    return [tuple(row[name] for name in columns) for row in rows]
