"""A row's history across the steps of a run: its ancestors back to lines of files, and what each step made of it.

A row is found in the stored tables of the steps and in the registered outputs. Where a filter's output holds it, what
that filter knows of it (`explain.history`) is part of the answer.

Not covered: steps whose tables were pruned, and tables without ids.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gristmill.asked import answers_told, names_parent, prompt_of
from gristmill.errors import UsageError
from gristmill.explain import CANDIDATES, history, is_end
from gristmill.ledger import Ledger, ledger_of
from gristmill.lookup import Row, matching
from gristmill.stored import ALONE
from gristmill.upkeep import newest
from gristmill.wording import evidence_of, key_text, prompt_text, told, verdict

MEASURED = ("rule_", "score_", "verdict_", "why_", "flag_")
"""Prefixes of the columns a step may add to a row."""

MADE = ("model", "sampling", "finish_reason", "tokens_in", "tokens_out", "error")
"""Columns that tell how a row was made."""


AGAIN = "again:"
"""Begins the tag of a row that a mix holds under another copy than the one that follows."""


class Place(NamedTuple):
    """A stored table: one step's (`STEP.FIELD` where it has several), or a registered output's."""

    name: str
    key: str
    created: str
    files: list[Path]
    """Its Parquet files that hold rows or verdicts on rows."""


Found = tuple[Place, Row]


def across(directory: Path, row: str) -> Row:
    """Everything a run knows of one row, as JSON values.

    `row` is an id or a unique beginning of one, with #COPY for another copy than the first, or FILE:N. `stages` tells
    of each table that holds it, oldest first: verdict, drop and what is newly measured; `ancestors` of the rows it was
    made from, the oldest generation first; `output` is its history in the newest filter output that holds it. A prompt
    that no table holds is told from the rows that answer it (`asked.py`), with these as `answers`. A row that could not
    be read has only `bad`.

    Raises UsageError where no row or more than one answers to `row`.
    """
    ledger = ledger_of(directory)
    places = _places(directory, ledger)
    filtered = [Path(each.path) for each in newest(ledger.outputs()) if (Path(each.path) / "rows.parquet").is_file()]
    place = re.fullmatch(r"(.+):(\d+)", row)
    if place and not re.fullmatch(r"g1:[0-9a-f]*", row):
        keys = _by_place(places, place[1], min(int(place[2]), 2**63 - 1))
        if not keys and (bad := _bad(filtered, row)):
            return bad
    else:
        keys = _by_id(places, row)
        if not keys and (asked := _asked(places, row)):
            return asked
    if not keys:
        raise UsageError(f"{row}: no such row in the tables of {directory}; give an id, a beginning of one, or FILE:N")
    if len(keys) > 1:
        listed = ", ".join(key_text(*key) for key in keys[:CANDIDATES]) + (", …" if len(keys) > CANDIDATES else "")
        raise UsageError(f"{row}: {len(keys)} rows answer to it: {listed}; give more of the id or the path")
    id, copy = keys[0]
    holding = _holding(places, {id})
    this = _told(id, copy, holding.get(id, []))
    held = _newest_output(filtered, id, copy)
    return this | {
        "ancestors": _ancestors(places, id, this.pop("parents"), holding),
        "output": history(held, key_text(id, copy)) if held else None,
        "output_path": str(held) if held else None,
    }


def _places(directory: Path, ledger: Ledger) -> list[Place]:
    """Every table of the run that has ids, oldest first."""
    places = []
    for step in ledger.steps():
        if step.pruned is None:
            fields: dict[str, list[Path]] = {}
            for path, _, _ in ledger.files(step.key):
                field = path.partition("/")[0].removesuffix(".parquet")
                fields.setdefault(field, []).append(directory / step.path / path)
            for field, files in fields.items():
                name = step.name if field == ALONE else f"{step.name}.{field}"
                places.append(Place(name, step.key, step.created, _telling(files)))
    for output in newest(ledger.outputs()):
        names = [path for path, _, _ in output.files]
        # A filter's other tables hold the same rows again.
        files = [Path(output.path) / path for path in (["rows.parquet"] if "rows.parquet" in names else names)]
        places.append(Place(output.name, output.path, output.created, _telling(files)))
    return sorted((place for place in places if place.files), key=lambda place: place.created)


def _telling(files: Iterable[Path]) -> list[Path]:
    """The Parquet files that hold rows or verdicts on rows."""
    parquet = [path for path in files if path.suffix == ".parquet" and path.is_file()]
    names = {path: set(pq.read_schema(path).names) for path in parquet}
    return [path for path in parquet if "id" in names[path] and {"prompt", "drop_rule"} & names[path]]


def _narrow(places: Sequence[Place], columns: list[str], match: Any) -> list[Row]:
    wanted = ["id", "copy", "source_file", "source_row", "parents"]
    found = []
    for path in (path for place in places for path in place.files):
        there = [name for name in wanted if name in pq.read_schema(path).names]
        if set(columns) <= set(there):
            found += list(matching(path, columns, match, wanted=there))
    return found


def _by_id(places: Sequence[Place], row: str) -> list[tuple[str, int]]:
    """The key of the row whose id begins so, or one key of each of several."""
    start, _, copy = row.partition("#")
    start = start if start.startswith("g1:") else f"g1:{start}"
    if copy and not copy.isdecimal():
        raise UsageError(f"{row}: the copy {copy!r} is not a number; write ID#COPY, as in {start}#1")
    found = _narrow(places, ["id"], lambda table: pc.starts_with(table["id"].cast(pa.large_string()), start))
    copies: dict[str, set[int]] = {}
    for each in found:
        copies.setdefault(each["id"], set()).add(each.get("copy") or 0)
    if copy and len(copies) == 1 and int(copy) not in (there := next(iter(copies.values()))):
        allowed = ", ".join(map(str, sorted(there)))
        raise UsageError(f"{row}: {next(iter(copies))} has no copy {copy}; its copies are {allowed}")
    return [(id, int(copy) if copy else min(numbers)) for id, numbers in sorted(copies.items())]


def _asked(places: Sequence[Place], row: str) -> Row | None:
    """The prompt whose id begins so, by the rows that answer it; None if there are none, or of several prompts."""
    start = row if row.startswith("g1:") else f"g1:{row}"
    found = []
    for path in (path for place in places for path in place.files):
        if "parents" in pq.read_schema(path).names:
            found += list(matching(path, ["parents"], lambda table: names_parent(table, start)))
    ids = {parent for each in found for parent in each["parents"] if parent and parent.startswith(start)}
    prompt = prompt_of(ids.pop(), found) if len(ids) == 1 else None
    if prompt is None:
        return None
    return prompt | {"answers": answers_told(found), "ancestors": [], "output": None, "output_path": None}


def _by_place(places: Sequence[Place], file: str, number: int) -> list[tuple[str, int]]:
    """The keys of row `number` of the source files that end so; not of what was made from that row."""

    def match(table: pa.Table) -> pa.Array:
        ends = pc.ends_with(table["source_file"].cast(pa.large_string()), file)
        return pc.and_(pc.equal(table["source_row"], number), ends)

    found = [each for each in _narrow(places, ["source_row", "source_file"], match) if each.get("id")]
    found = [each for each in found if is_end(str(each["source_file"]), file)]
    found = [each for each in found if each["source_file"] == file] or found
    ids = {each["id"] for each in found}
    found = [each for each in found if not ids & set(each.get("parents") or ())] or found
    exact = {(each["id"], each["copy"]) for each in found if each.get("copy") is not None}
    # A table that is not numbered yet has no `copy`: it adds a key only for a row that no numbered table has.
    numbered = {id for id, _ in exact}
    return sorted(exact | {(each["id"], 0) for each in found if each["id"] not in numbered})


def _bad(filtered: Sequence[Path], row: str) -> Row | None:
    """What the newest filter output says of a row that could not be read."""
    for directory in reversed(filtered):
        try:
            found = history(directory, row)
        except UsageError:
            continue
        if "bad" in found:
            return found
    return None


def _newest_output(filtered: Sequence[Path], id: str, copy: int) -> Path | None:
    for directory in reversed(filtered):
        rows = matching(
            directory / "rows.parquet",
            ["id", "copy"],
            lambda table: pc.and_(pc.equal(table["id"], id), pc.equal(table["copy"], copy)),
            wanted=["id"],
        )
        if next(rows, None):
            return directory
    return None


def _holding(places: Sequence[Place], ids: set[str]) -> dict[str, list[Found]]:
    """By id the tables that hold it, oldest first, with the row as it is there."""
    wanted = pa.array(sorted(ids), pa.large_string())
    found: dict[str, list[Found]] = {}
    for place in places:
        for path in place.files:
            for row in matching(path, ["id"], lambda table: pc.is_in(table["id"].cast(pa.large_string()), wanted)):
                found.setdefault(row["id"], []).append((place, row))
    return found


def _told(id: str, copy: int | None, found: Sequence[Found]) -> Row:
    """One row through its tables; `copy` None: the first copy there is."""
    if copy is None:
        copy = min((row.get("copy") or 0 for _, row in found), default=0)
    mine = [(place, row) for place, row in found if row.get("copy", copy) in (copy, None)]
    first = {int(tag[len(AGAIN) :]) for _, row in mine for tag in row.get("tags") or () if tag.startswith(AGAIN)}
    if first:  # a mix repeats a row under another copy: what was before is that of the copy it repeats
        here = {place.key for place, _ in mine}
        mine = [each for each in found if each[0].key not in here and each[1].get("copy", 0) in first] + mine
    known: Row = {}
    stages: list[Row] = []
    for place, row in mine:
        if stages and (stages[-1]["step"], stages[-1]["key"]) == (place.name, place.key):
            continue  # another copy of it, in a table that does not number copies
        new = {
            name: value
            for name, value in row.items()
            if (name.startswith(MEASURED) or name in MADE) and value is not None and known.get(name) != value
        }
        if tags := [tag for tag in row.get("tags") or () if tag not in (known.get("tags") or ())]:
            new["tags"] = ", ".join(tags)
        stages.append(_stage(place, row) | {"new": new})
        known |= {name: value for name, value in row.items() if value is not None}
    last = stages[-1] if stages else {"kept": None, "verdict": "in no table of this run"}
    return {
        "id": id,
        "copy": copy,
        "key": key_text(id, copy),
        "kept": last["kept"],
        "verdict": last["verdict"],
        "source_file": known.get("source_file"),
        "source_row": known.get("source_row"),
        "text": prompt_text(known) if known.get("prompt") else "",
        "parents": known.get("parents") or [],
        "stages": stages,
    }


def _stage(place: Place, row: Mapping[str, Any]) -> Row:
    row = dict(row)
    return {
        "step": place.name,
        "key": place.key,
        "created": place.created,
        "kept": row.get("drop_rule") is None,
        "verdict": verdict(row),
        "rule": row.get("drop_rule"),
        "value": row.get("drop_value"),
        "limit": row.get("drop_limit"),
        "evidence": evidence_of(row),
        "evidence_told": told(row),
    }


def _ancestors(
    places: Sequence[Place], id: str, parents: Sequence[str], holding: Mapping[str, Sequence[Found]]
) -> list[Row]:
    """The rows a row was made from, theirs, and so on, each once; a generation is looked up at a time.

    `holding` is what `_holding` found of the row.
    """
    found: list[Row] = []
    seen = {id}
    generation = {parent: [id] for parent in parents}
    while generation:
        generation = {parent: children for parent, children in generation.items() if parent not in seen}
        seen |= generation.keys()
        rows = _holding(places, set(generation)) if generation else {}
        further: dict[str, list[str]] = {}
        for parent, children in generation.items():
            each = _told(parent, None, rows.get(parent, []))
            if not each["stages"]:
                made = [row for child in children for _, row in holding.get(child, [])]
                each = prompt_of(parent, made) or each
            for above in each.pop("parents"):
                further.setdefault(above, []).append(parent)
            found.append(each | {"children": children})
        generation, holding = further, rows
    return found[::-1]
