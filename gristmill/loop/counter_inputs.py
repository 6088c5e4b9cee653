"""What counterexamples are checked against and mixed with: evaluations, rows of a user's function, replay of old data.

Not covered: paraphrases of evaluation items (the rules are those of `filter/contamination.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa

from gristmill.errors import BadRow, UsageError
from gristmill.files import BAD, ORDER, batches
from gristmill.filter.contamination import items_of_record, mark_contaminated
from gristmill.filter.ngrams import Index, Item, build
from gristmill.formats import Bad, expand, raw_records
from gristmill.records import DROPS, SCHEMAS
from gristmill.run import Run
from gristmill.shapes import row_of
from gristmill.user_code import user_module
from gristmill.wording import prompt_text

Row = dict[str, Any]
Maker = Callable[[Row, int, int], Sequence[Mapping[str, Any]]]


def suites(clusters: Path, against: Sequence[str], run: Run) -> list[str]:
    """The files that counterexamples must not hold: those given, what the clusters were mined from, and every output of
    `gristmill eval` in the run. Files that are not there any more are left out, unless they were given."""
    there: list[str] = list(expand(list(against))) if against else []
    for output in run.outputs():
        if output.name == "mine" and Path(output.path) == clusters.resolve():
            there += [path for path in output.params.get("files", ()) if Path(path).is_file()]
        if output.name == "eval" and Path(output.path).is_file():
            there.append(output.path)
    return list(dict.fromkeys(there))


def index_of(paths: Sequence[str], clusters: Sequence[Row]) -> Index:
    """The index of suites and of the clusters' own items, both halves."""
    items = [
        Item("clusters", number, name, text)
        for number, member in enumerate(member for cluster in clusters for member in cluster["members"])
        for name, text in (("prompt", prompt_text(member)), ("reference", member["reference"] or ""))
        if text.strip()
    ]
    for path in paths:
        for number, record, _ in raw_records(path):
            if isinstance(record, Bad):
                raise UsageError(f"--against {path}: record {number} cannot be read: {record.reason}")
            items += items_of_record(dict(record), path, number)
    return build(items)


_COMPARED = pa.schema([SCHEMAS["sample"].field(name) for name in ("id", "copy", "prompt", "response")] + list(DROPS))


def mark_leaks(rows: Sequence[Row], index: Index) -> None:
    """Drop the rows that hold an evaluation's item, as `contaminated`, with file, item and span."""
    kept = [row for row in rows if row.get("drop_rule") is None]
    if not kept or not len(index.numbers):
        return
    numbered = [
        {"id": f"g1:{place:032x}", "copy": 0, "prompt": row["prompt"], "response": row.get("response")}
        for place, row in enumerate(kept)
    ]
    marked = mark_contaminated(daft.from_arrow(pa.Table.from_pylist(numbered, schema=_COMPARED)), index)
    for found in marked.select("id", *DROPS.names).to_pylist():
        if found["drop_rule"]:
            kept[int(found["id"][3:], 16)].update({name: found[name] for name in DROPS.names})


def maker(spec: str) -> Maker:
    """The function of `FILE.py:FUNCTION`; raises UsageError where there is none."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise UsageError(f"--with {spec}: write FILE.py:FUNCTION, a function of (cluster, n, seed) that returns rows")
    found = getattr(user_module(Path(file), Path(file).stem), name, None)
    if not callable(found):
        raise UsageError(f"--with {spec}: {file} has no function {name!r}")
    return found  # type: ignore[no-any-return]


def rows_made(make: Maker, cluster: Row, n: int, seed: int, spec: str) -> list[Row]:
    """`n` rows of a function, in our columns. `cluster` is what the function may know: `id`, `name`, `words`,
    `definition`, `kind`, and `items`, the members of the training half ({id, prompt, reference, response, tags, facts,
    failed}). Raises UsageError for what is no row."""
    made = make(cluster, n, seed)
    found = []
    for number, record in enumerate(list(made)[:n]):
        if not isinstance(record, Mapping):
            raise UsageError(f"--with {spec}: row {number} is a {type(record).__name__}; a row is a dict")
        given = dict(record)
        kind = given.pop("kind", "look_alike")
        parents = given.pop("parents", None)
        slots = [name for name in given if name.startswith("slot_")]
        try:
            row = row_of(given, "sample", answer="reference", extra=frozenset(slots))
        except BadRow as error:
            raise UsageError(f"--with {spec}: row {number}: {error}") from None
        found.append({**row, "flag_counter": str(kind), "parents": list(parents or ()), "sample": number})
    return found


def replayed(paths: Sequence[str], count: int, *, seed: int, columns: Mapping[str, str] | None = None) -> list[Row]:
    """`count` rows of old data (fewer where there are not as many), drawn by a hash of (seed, id), in that order."""
    kind, _, read = batches(list(paths), columns=columns)
    if kind not in ("sample", "prompt"):
        raise UsageError(f"--replay {paths[0]}: these are {kind} rows; replay takes prompts with responses")
    rows: dict[str, Row] = {}
    for batch in read:
        good = batch.filter(batch[BAD].is_null()).drop_columns([ORDER, BAD])
        for row in good.to_pylist():
            if kind == "sample" and row["response"] is None:
                continue
            rows.setdefault(row["id"], row)
    drawn = sorted(rows, key=lambda id: blake2b(f"{seed}:replay:{id}".encode()).digest())[:count]
    return [{**rows[id], "flag_counter": "replay"} for id in drawn]
