"""Row schemas, ids and copies: what a Gristmill table holds.

A table is a `daft.DataFrame` of one kind of row. The kinds share their first columns and differ in what they add;
columns a kind does not know travel in `meta`, one JSON string. A row is identified by its content: `id` is
`g1:` + 32 hex digits of a 128-bit BLAKE2b over length-prefixed fields (https://www.rfc-editor.org/rfc/rfc7693),
so it does not depend on the file, the order or the engine, and ("ab", "c") and ("a", "bc") differ. Rows of equal
content share `id` and are told apart by `copy`, 0-based in input order: (`id`, `copy`) is the key.

Not covered: reading other people's column names (`shapes.py`) and file formats (`files.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import pyarrow as pa

Kind = Literal["prompt", "sample", "preference", "label"]

MESSAGE = pa.struct([("role", pa.large_string()), ("content", pa.large_string()), ("extra", pa.large_string())])
"""One chat message. `extra` is JSON (tool calls, names, …) or null."""

MESSAGES = pa.large_list(MESSAGE)
STRINGS = pa.large_list(pa.large_string())

_ALL = [
    ("id", pa.large_string()),
    ("copy", pa.int64()),
    ("parents", STRINGS),
    ("source_file", pa.large_string()),
    ("source_row", pa.int64()),
    ("tags", STRINGS),
    ("prompt", MESSAGES),
    ("tools", pa.large_string()),
    ("reference", pa.large_string()),
]
_META = [("meta", pa.large_string())]
_SAMPLE = [
    ("response", pa.large_string()),
    ("reasoning", pa.large_string()),
    ("model", pa.large_string()),
    ("sampling", pa.large_string()),
    ("sample", pa.int64()),
    ("finish_reason", pa.large_string()),
    ("tokens_in", pa.int64()),
    ("tokens_out", pa.int64()),
    ("error", pa.large_string()),
]
_PREFERENCE = [
    ("chosen", pa.large_string()),
    ("rejected", pa.large_string()),
    ("margin", pa.float64()),
    ("policy", pa.large_string()),
]
_LABEL = [("response", pa.large_string()), ("reasoning", pa.large_string()), ("label", pa.bool_())]

SCHEMAS: dict[Kind, pa.Schema] = {
    "prompt": pa.schema(_ALL + _META),
    "sample": pa.schema(_ALL + _SAMPLE + _META),
    "preference": pa.schema(_ALL + _PREFERENCE + _META),
    "label": pa.schema(_ALL + _LABEL + _META),
}
"""The columns of each kind of row, in order. Scores, rules, slots and drops follow them."""

EVAL = pa.schema([*SCHEMAS["sample"], ("suite", pa.large_string()), ("item", pa.large_string())])
"""A sample that answers an item of an evaluation; scores follow. (`suite`, `item`) pairs the rows of two models."""

DROPS = pa.schema(
    [
        ("drop_rule", pa.large_string()),
        ("drop_value", pa.float64()),
        ("drop_limit", pa.float64()),
        ("drop_evidence", pa.large_string()),
    ]
)
"""Why a row was dropped; all null on a kept row. `drop_evidence` is one JSON object."""

CARRIED: dict[str, pa.DataType] = {
    "score_": pa.float64(),
    "rule_": pa.float64(),
    "verdict_": pa.large_string(),
    "why_": pa.large_string(),
    "slot_": pa.large_string(),
    "flag_": pa.large_string(),
}
"""Prefixes of the columns any table may add, with their types."""


def row_id(kind: Kind, row: Mapping[str, Any]) -> str:
    """The id of one row from its content.

    `row["prompt"]` is a list of {role, content, extra}; the other fields are text or None. Hashed are, for a prompt,
    prompt and tools; for a sample or a label also response and reasoning; for a preference prompt, chosen and
    rejected. References, scores and provenance are not.
    """
    prompt: Sequence[Mapping[str, str | None]] = row["prompt"]
    fields: list[str | None] = [str(len(prompt))]
    for message in prompt:
        fields += (message["role"], message["content"], message["extra"])
    if kind == "preference":
        fields += (row["chosen"], row["rejected"])
    else:
        fields.append(row.get("tools"))
        if kind != "prompt":
            fields += (row["response"], row.get("reasoning"))
    domain = {"prompt": b"p", "sample": b"s", "label": b"s", "preference": b"f"}[kind]
    return "g1:" + blake2b(domain + prefixed(fields), digest_size=16).hexdigest()


def prefixed(fields: Iterable[str | None]) -> bytes:
    """Each field as its length in bytes, a colon and its UTF-8 bytes; None is a lone dash, so it differs from ""."""
    parts = []
    for field in fields:
        if field is None:
            parts.append(b"-")
        else:
            raw = field.encode()
            parts.append(b"%d:%b" % (len(raw), raw))
    return b"".join(parts)


def kind_of(columns: Iterable[str]) -> Kind:
    """The kind of row a table with these columns holds; raises ValueError where there is no `prompt`."""
    names = set(columns)
    if "prompt" not in names:
        raise ValueError(f"no column 'prompt' among {sorted(names)}: not a Gristmill table; read it with files.read")
    if "chosen" in names:
        return "preference"
    if "label" in names:
        return "label"
    return "sample" if "response" in names else "prompt"
