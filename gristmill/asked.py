"""Prompts that no table holds, told from the rows that answer them.

`generate` writes answers, not prompts; but an answer names its prompt (`parents`) and holds it whole, with where it
came from, its template and its slots. That it is the same is certain: the id is the hash of the content.

Not covered: prompts whose answers were all deleted.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.lookup import Row
from gristmill.records import row_id
from gristmill.wording import key_text, prompt_text, verdict

SHOWN = 100
"""Answers that are listed."""


def names_parent(table: pa.Table, start: str) -> pa.Array:
    """Which rows have a parent whose id begins so."""
    parents = table["parents"].combine_chunks()
    if not (pa.types.is_list(parents.type) or pa.types.is_large_list(parents.type)):
        return pa.array(np.zeros(len(parents), bool))  # a step that left it all null
    hits = pc.starts_with(parents.flatten().cast(pa.large_string()), start)
    found = np.zeros(len(parents), bool)
    found[pc.list_parent_indices(parents).filter(hits).to_numpy()] = True
    return pa.array(found)


def prompt_of(id: str, rows: Iterable[Mapping[str, Any]]) -> Row | None:
    """What the first of `rows` that answers the prompt `id` says of it: where it stands, template, slots, text."""
    row = next((row for row in rows if row.get("prompt") and _prompt_id(row) == id), None)
    if row is None:
        return None
    meta = orjson.loads(row.get("meta") or "{}")
    return {
        "id": id,
        "copy": 0,
        "key": key_text(id, 0),
        "kept": None,
        "verdict": "a prompt",
        "source_file": row.get("source_file"),
        "source_row": row.get("source_row"),
        "template": meta.get("template"),
        "template_hash": meta.get("template_hash"),
        "slots": {name.removeprefix("slot_"): text for name, text in row.items() if name.startswith("slot_") and text},
        "text": prompt_text(dict(row)),
        "parents": [],
        "stages": [],
    }


def answers_told(rows: Iterable[Row]) -> list[Row]:
    """Each answer among rows, oldest table first, with its latest verdict: {key, verdict}, at most `SHOWN`."""
    latest = {(row["id"], row["copy"]): verdict(row) for row in rows if row.get("copy") is not None}
    return [{"key": key_text(*key), "verdict": said} for key, said in list(latest.items())[:SHOWN]]


def _prompt_id(row: Mapping[str, Any]) -> str:
    return row_id("prompt", {"prompt": row["prompt"], "tools": row.get("tools")})
