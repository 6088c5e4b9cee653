"""Find rows in a Parquet file of ours without loading it.

Only the narrow columns are scanned, a row group at a time; whole rows are read in small batches where a wanted row
lies. Samples are the rows with the smallest (`id`, `copy`), so they are the same for any order of the file.

Not covered: other formats (`files.py`), and relational work on whole tables (Daft).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gristmill.errors import BadInput

Key = tuple[str, int]
Row = dict[str, Any]

BATCH = 4096


def columns_of(path: Path) -> list[str]:
    """The names of the columns of a Parquet file, in order; raises BadInput for a file that is none."""
    try:
        names: list[str] = pq.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise BadInput(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None
    return names


def scan(path: Path, columns: Iterable[str]) -> Iterator[pa.Table]:
    """The named columns, a row group at a time; a column that the file lacks comes as null."""
    wanted = list(dict.fromkeys(columns))
    with pq.ParquetFile(path) as file:
        there = [name for name in wanted if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=there)
            for name in wanted:
                if name not in there:
                    table = table.append_column(name, pa.nulls(len(table), pa.large_string()))
            yield table


def matching(
    path: Path, columns: Iterable[str], match: Callable[[pa.Table], pa.Array], *, wanted: list[str] | None = None
) -> Iterator[Row]:
    """The rows for which `match`, given a table of `columns`, is true; `wanted` names what is read of them (all)."""
    with pq.ParquetFile(path) as file:
        for group, narrow in enumerate(scan(path, columns)):
            mask = pc.fill_null(match(narrow), False)
            if not pc.any(mask, min_count=0).as_py():
                continue
            start = 0
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted):
                here = mask.slice(start, len(batch))
                start += len(batch)
                if pc.any(here).as_py():
                    yield from pa.Table.from_batches([batch]).filter(here).to_pylist()


def fetch(path: Path, keys: Iterable[Key]) -> dict[Key, Row]:
    """The whole rows with these keys; a key that the file lacks is left out."""
    wanted = set(keys)
    if not wanted:
        return {}
    ids = pa.array(sorted({id for id, _ in wanted}), pa.large_string())

    def match(table: pa.Table) -> pa.Array:
        return pc.is_in(table["id"].cast(pa.large_string()), ids)

    rows = {(row["id"], row["copy"]): row for row in matching(path, ["id"], match)}
    return {key: rows[key] for key in sorted(wanted) if key in rows}


def smallest(path: Path, most: int) -> dict[str | None, list[Key]]:
    """For the kept rows (None) and for each drop rule, the `most` smallest keys."""
    found: dict[str | None, list[Key]] = {}
    for table in scan(path, ["id", "copy", "drop_rule"]):
        rules = table["drop_rule"].cast(pa.large_string())
        for rule in sorted(rules.unique().to_pylist(), key=str):
            mask = pc.is_null(rules) if rule is None else pc.fill_null(pc.equal(rules, rule), False)
            group = table.select(["id", "copy"]).filter(mask)
            order = [("id", "ascending"), ("copy", "ascending")]
            first = group.take(pc.select_k_unstable(group, most, order)).to_pylist()
            keys = found.get(rule, []) + [(row["id"], row["copy"]) for row in first]
            found[rule] = sorted(keys)[:most]
    return found
