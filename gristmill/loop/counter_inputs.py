"""What counterexamples are checked against and mixed with: evaluations, rows of a user's function, replay of old data.

Not covered: paraphrases of evaluation items (the rules are those of `filter/contamination.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa

from gristmill.errors import BadRow, UsageError
from gristmill.files import BAD, ORDER, batches, warn_of_bad
from gristmill.filter.contamination import items_of_record, mark_contaminated
from gristmill.filter.ngrams import Index, Item, build
from gristmill.formats import Bad, expand, raw_records
from gristmill.loop.suite import registered
from gristmill.records import DROPS, SCHEMAS
from gristmill.run import Run
from gristmill.shapes import row_of
from gristmill.user_code import raised, user_function
from gristmill.wording import prompt_text

Row = dict[str, Any]
Maker = Callable[[Row, int, int], Sequence[Mapping[str, Any]]]


def suites(against: Sequence[str], run: Run) -> list[str]:
    """The files that counterexamples must not hold: those given, and every suite evaluated in the run that is there."""
    given: list[str] = list(expand(list(against))) if against else []
    return list(dict.fromkeys([*given, *(path for path in registered(run) if Path(path).is_file())]))


def mined_from(clusters: Path, run: Run) -> list[str]:
    """The evaluations that a table of clusters was mined from, as far as the run knows and they are there."""
    made = [each for each in run.outputs() if each.name == "mine" and Path(each.path) == clusters.resolve()]
    return [path for path in (made[-1].params.get("files", ()) if made else ()) if Path(path).is_file()]


def index_of(paths: Sequence[str], evals: Sequence[str], clusters: Sequence[Row]) -> Index:
    """The index of suites, of the prompts and references of evaluations (what a model said there is no item: answers
    that are reasoned alike would all be leaks), and of the clusters' own items, both halves."""
    items = [
        each
        for number, member in enumerate(member for cluster in clusters for member in cluster["members"])
        for each in _asked("clusters", number, member)
    ]
    for path in paths:
        for number, record, _ in raw_records(path):
            if isinstance(record, Bad):
                raise UsageError(f"--against {path}: record {number} cannot be read: {record.reason}")
            items += items_of_record(dict(record), path, number)
    for path in evals:
        for batch in batches(path, answer="reference")[2]:
            good = batch.filter(batch[BAD].is_null()).select(["prompt", "reference", "source_row"])
            items += [each for row in good.to_pylist() for each in _asked(path, row["source_row"], row)]
    return build(items)


def _asked(file: str, number: int, row: Row) -> list[Item]:
    """The prompt and the reference of an item."""
    texts = {"prompt": prompt_text(row), "reference": row["reference"] or ""}
    return [Item(file, number, name, text) for name, text in texts.items() if text.strip()]


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


def maker_of(spec: str | None) -> str:
    """The FILE.py:FUNCTION that the name of a maker means: `tiny` is that of the embedded model's world; nothing where
    there is no name."""
    if spec != "tiny":
        return spec or ""
    from gristmill.train.tiny import counters

    return f"{counters.__file__}:counter"


def maker(spec: str) -> Maker:
    """The function of `FILE.py:FUNCTION`; raises UsageError where there is none."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py"):
        raise UsageError(
            f"--with {spec}: write FILE.py:FUNCTION, a function of (cluster, n, seed) that returns rows, or tiny"
        )
    return user_function(Path(file), name, f"--with {spec}")


def rows_made(make: Maker, cluster: Row, n: int, seed: int, spec: str) -> list[Row]:
    """`n` rows of a function, in our columns. `cluster` is what the function may know: `id`, `name`, `words`,
    `definition`, `kind`, and `items`, the members of the training half ({id, prompt, reference, response, tags, facts,
    failed}). Raises UsageError for what is no row."""
    try:
        returned = make(cluster, n, seed)
        made = list(returned) if isinstance(returned, Iterable) else None
    except Exception as error:  # of the user's function, which may raise anything
        raise UsageError(f"--with {spec}: {raised(error)}") from error
    if made is None:
        raise UsageError(
            f"--with {spec}: gave {type(returned).__name__}; a function of (cluster, n, seed) returns rows"
        )
    found = []
    for number, record in enumerate(made[:n]):
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
        row |= {"flag_counter": str(kind), "parents": list(parents or ()), "sample": number}
        found.append({**row, "source_file": spec.rpartition(":")[0], "source_row": number})
    return found


def replayed(
    paths: Sequence[str], count: int, index: Index, *, seed: int, columns: Mapping[str, str] | None = None
) -> list[Row]:
    """Rows of old data until `count` of them hold no evaluation's item (fewer where there are not as many), drawn by a
    hash of (seed, id), in that order; those that do are among them, dropped as `contaminated`.

    Bad rows are left out, with a warning in the log. Raises UsageError for rows that are no prompts with responses,
    BadInput where too many are bad.
    """
    kind, _, read = batches(list(paths), columns=columns)
    if kind not in ("sample", "label"):
        raise UsageError(f"--replay {paths[0]}: these are {kind} rows; replay takes prompts with responses")
    rows: dict[str, Row] = {}
    total, bad = 0, list[Row]()
    for batch in read:
        total += len(batch)
        bad += batch.filter(batch[BAD].is_valid()).select(["source_file", "source_row", BAD]).to_pylist()
        for row in batch.filter(batch[BAD].is_null()).drop_columns([ORDER, BAD]).to_pylist():
            if row["response"] is not None:
                rows.setdefault(row["id"], row)
    warn_of_bad(bad, total, flag="")
    order = sorted(rows, key=lambda id: blake2b(f"{seed}:replay:{id}".encode()).digest())
    drawn: list[Row] = []
    while (short := count - sum(row.get("drop_rule") is None for row in drawn)) > 0 and len(drawn) < len(order):
        more = [{**rows[id], "flag_counter": "replay"} for id in order[len(drawn) : len(drawn) + short]]
        mark_leaks(more, index)
        drawn += more
    return drawn
