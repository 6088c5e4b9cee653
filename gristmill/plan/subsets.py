"""Subsets of a set of rows, for trials: nested, random, stratified, longest; each the same for the same seed.

Rows without a response, which a filter drops as `empty`, are in none: no trainer can learn one.

Not covered: sets larger than memory; nobody trains hundreds of trials on those.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.loop.evals import slices_of
from gristmill.score.pipeline import BadRows

Row = Mapping[str, Any]


def rows_of(path: str) -> list[Row]:
    """The kept SAMPLE rows of a file that have a response. Raises BadInput, UsageError for other kinds of rows, and
    where none has one."""
    kind, _, read = batches(path)
    if kind != "sample":
        raise UsageError(f"{path}: {kind} rows; trials train on samples (a prompt and a response)")
    bad, rows = BadRows(), list[Row]()
    for batch in read:
        rows += bad.set_aside(batch).drop_columns([ORDER, BAD]).to_pylist()
    check_bad(bad.count, len(rows) + bad.count, 0.01, first=bad.first[0] if bad.first else None)
    return _answered(rows, path)


def milled(path: str) -> list[Row]:
    """All rows with a response of a filter's output (its directory or `rows.parquet`), the dropped ones with their
    `drop_rule`; of any other file what `rows_of` reads, which is all kept.

    Raises BadInput, UsageError for what holds no samples.
    """
    file = Path(path) / "rows.parquet" if (Path(path) / "rows.parquet").is_file() else Path(path)
    try:
        names = pq.read_schema(file).names
    except (OSError, pa.ArrowInvalid):
        names = []
    if not {"id", "prompt", "response", "drop_rule"} <= set(names):
        return rows_of(path)
    return _answered(pq.read_table(file).to_pylist(), path)


def _answered(rows: Sequence[Row], path: str) -> list[Row]:
    if not (answered := [row for row in rows if (row["response"] or "").strip()]):
        raise UsageError(f"{path}: no row has a response; trials train on samples (a prompt and a response)")
    return answered


def source_of(row: Row) -> str:
    """The source of a row: what a mix tagged it with, or `meta` names so, else its file."""
    if tag := next((tag for tag in row.get("tags") or () if tag.startswith("source:")), None):
        return str(tag.removeprefix("source:"))
    meta = row.get("meta") or ""
    if '"source"' in meta:
        return str(orjson.loads(meta).get("source"))
    return str(row.get("source_file"))


def values_of(row: Row, column: str) -> list[str]:
    """What a row has in a column, in `tags` or under a key of `meta`, or its `source`: as `COLUMN=VALUE`."""
    return [f"source={source_of(row)}"] if column == "source" else list(slices_of(row, [column]))


def nested(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows in an order that depends on seed and content alone: its first n are a random subset, and part of the
    first m for every m > n."""
    copies: dict[str, int] = defaultdict(int)
    keyed = []
    for row in rows:
        keyed.append((_draw(seed, row["id"], copies[row["id"]]), row))
        copies[row["id"]] += 1
    return [row for _, row in sorted(keyed, key=lambda each: each[0])]


def _draw(seed: int, id: str, copy: int) -> bytes:
    return blake2b(f"{seed}:{id}:{copy}".encode(), digest_size=16).digest()


def stratified(rows: Sequence[Row], size: int, seed: int, strata: Sequence[Hashable]) -> list[Row]:
    """A random subset in which every stratum has the share it has in the rows, by largest remainders."""
    members: dict[Hashable, list[Row]] = defaultdict(list)
    for row, stratum in zip(rows, strata, strict=True):
        members[stratum].append(row)
    exact = {stratum: size * len(some) / len(rows) for stratum, some in members.items()}
    counts = {stratum: int(each) for stratum, each in exact.items()}
    left = sorted(exact, key=lambda stratum: (counts[stratum] - exact[stratum], str(stratum)))
    for stratum in left[: size - sum(counts.values())]:
        counts[stratum] += 1
    chosen = {id(row) for stratum, some in members.items() for row in nested(some, seed)[: counts[stratum]]}
    return [row for row in nested(rows, seed) if id(row) in chosen]


def longest(rows: Sequence[Row], size: int) -> list[Row]:
    """The rows with the longest responses, which many quality scores come down to."""
    return sorted(rows, key=lambda row: (-len(row["response"] or ""), row["id"]))[:size]
