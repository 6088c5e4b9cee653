"""A row's whole history, from a filter's output directory: where it came from, what was measured, what became of it.

Pure functions that return plain data (JSON types); `cli/why.py` and the report put it into words. Not covered: run
directories with a ledger (`lineage.py`).
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from gristmill.errors import UsageError
from gristmill.lookup import Key, Row, fetch, matching
from gristmill.records import kind_of
from gristmill.wording import answers, evidence_of, in_context, key_text, prompt_text, told, verdict, whole_text
from gristmill.wording import word_diff as diff

CANDIDATES = 8
RELATED = 20
_BRIEF = ["id", "copy", "source_file", "source_row", "drop_rule", "drop_value", "drop_limit", "drop_evidence"]


def summary_of(directory: Path) -> Row:
    """`summary.json` of a filter's output directory.

    Raises UsageError if the directory is not one.
    """
    if not (directory / "rows.parquet").is_file():
        raise UsageError(
            f"{directory}: no rows.parquet there; expected the output directory of gristmill filter: "
            "name it, as in --run DIR"
        )
    try:
        summary = orjson.loads((directory / "summary.json").read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{directory / 'summary.json'}: not JSON ({error}); run the filter again") from error
    if not isinstance(summary, dict):
        raise UsageError(f"{directory / 'summary.json'}: not a JSON object; run the filter again")
    return summary


def history(directory: Path, row: str) -> Row:
    """Everything known of one row.

    `row` is an id or a unique beginning of one, with #COPY for another copy than the first, or FILE:N (`source_row`
    N of a source named by its path or a unique end of it). A row that could not be read has only `bad`.

    Raises UsageError where no row or more than one answers to `row`.
    """
    summary = summary_of(directory)
    path = directory / "rows.parquet"
    place = re.fullmatch(r"(.+):(\d+)", row)
    if place and not re.fullmatch(r"g1:[0-9a-f]*", row):
        found = _by_place(directory, place[1], min(int(place[2]), 2**63 - 1))
        if "bad" in found:
            return found
        chosen = found["copy"]
        copies = _with_id(path, found["id"])
    else:
        copies, chosen = _by_id(path, row)
    this = next(each for each in copies if each["copy"] == chosen)
    return _told(directory, this, copies, summary)


def _with_id(path: Path, id: str) -> list[Row]:
    rows = matching(path, ["id"], lambda table: pc.equal(table["id"], id))
    return sorted(rows, key=lambda row: row["copy"])


def _by_id(path: Path, row: str) -> tuple[list[Row], int]:
    """The copies of the one row whose id begins so, and the number of the copy asked for."""
    start, _, copy = row.partition("#")
    start = start if start.startswith("g1:") else f"g1:{start}"
    if copy and not copy.isdecimal():
        raise UsageError(f"{row}: the copy {copy!r} is not a number; write ID#COPY, as in {start}#1")

    def match(table: pa.Table) -> pa.Array:
        return pc.starts_with(table["id"], start)

    ids = sorted({each["id"] for each in matching(path, ["id"], match, wanted=["id"])})
    if not ids:
        raise UsageError(f"{row}: no row of {path} has an id that begins so; give an id, or FILE:N")
    if len(ids) > 1:
        listed = ", ".join(ids[:CANDIDATES]) + (", …" if len(ids) > CANDIDATES else "")
        raise UsageError(f"{row}: {len(ids)} rows begin so: {listed}; give more of the id")
    copies = _with_id(path, ids[0])
    number = int(copy) if copy else copies[0]["copy"]
    if number not in {each["copy"] for each in copies}:
        allowed = ", ".join(str(each["copy"]) for each in copies)
        raise UsageError(f"{row}: {ids[0]} has no copy {number}; its copies are {allowed}")
    return copies, number


def _by_place(directory: Path, file: str, number: int) -> Row:
    """The key of row `number` of the source file that ends so, or {"bad": …}."""
    narrow = ["id", "copy", "source_file", "source_row"]

    def match(table: pa.Table) -> pa.Array:
        return pc.and_(pc.equal(table["source_row"], number), pc.ends_with(table["source_file"], file))

    rows = list(matching(directory / "rows.parquet", narrow[2:], match, wanted=narrow))
    bad = [{"source_file": line.get("file"), "bad": line} for line in bad_rows(directory) if line.get("line") == number]
    found = [each for each in rows + bad if is_end(str(each["source_file"]), file)]
    found = [each for each in found if each["source_file"] == file] or found
    if not found:
        raise UsageError(f"{file}:{number}: no row {number} of such a file in {directory}; rows count from 0")
    if len(found) > 1:
        listed = ", ".join(sorted(f"{each['source_file']}:{number}" for each in found)[:CANDIDATES])
        raise UsageError(f"{file}:{number}: {len(found)} files end so: {listed}; give more of the path")
    return found[0]


def is_end(path: str, end: str) -> bool:
    """Whether `end` is a path or the whole last parts of it."""
    return path == end or path.endswith("/" + end.removeprefix("./").removeprefix("/"))


def bad_rows(directory: Path) -> Iterator[Row]:
    """The lines of `bad_rows.jsonl`, none if there is no such file."""
    if (directory / "bad_rows.jsonl").is_file():
        with (directory / "bad_rows.jsonl").open("rb") as file:
            yield from (orjson.loads(line) for line in file if line.strip())


def _told(directory: Path, row: Row, copies: list[Row], summary: Row) -> Row:
    path = directory / "rows.parquet"
    key = (row["id"], row["copy"])
    pairs = _pairs(directory, key)
    facts = evidence_of(row)
    lost_to = (facts["id"], facts.get("copy") or 0) if isinstance(facts.get("id"), str) else None
    near = [(pair["id"], pair["copy"]) for pair in pairs]
    others = fetch(path, [*near, *([lost_to] if lost_to else [])])
    for pair in pairs:
        pair |= _brief(others.get((pair["id"], pair["copy"]), {}))
    kind = kind_of(row)
    return {
        **_brief(row),
        "key": key_text(*key),
        "kind": kind,
        "kept": row.get("drop_rule") is None,
        "rule": row.get("drop_rule"),
        "value": row.get("drop_value"),
        "limit": row.get("drop_limit"),
        "evidence": facts,
        "evidence_told": told(row),
        "prompt": prompt_text(row),
        "answers": answers(row),
        "reference": row.get("reference"),
        "readings": readings(row, summary),
        "flags": {name: value for name, value in row.items() if name.startswith("flag_") and value is not None},
        "why": {name: value for name, value in row.items() if name.startswith(("why_", "verdict_")) and value},
        "duplicate_of": _duplicate(row, lost_to, others) if lost_to else None,
        "contamination": _contamination(row, facts) if row.get("drop_rule") == "contaminated" else None,
        "copies": [_brief(each) for each in copies if each["copy"] != row["copy"]],
        "beat": _beaten(path, key),
        "pairs": pairs,
    }


def _brief(row: Row) -> Row:
    if not row:
        return {}
    return {name: row.get(name) for name in _BRIEF[:4]} | {"verdict": verdict(row)}


def _pairs(directory: Path, key: Key) -> list[Row]:
    """The near pairs of a row, most similar first, told from its side."""
    path = directory / "pairs.parquet"
    if not path.is_file():
        return []
    id, copy = key
    sides = [(ds.field(f"id_{side}") == id) & (ds.field(f"copy_{side}") == copy) for side in "ab"]
    found = ds.dataset(path, format="parquet").to_table(filter=sides[0] | sides[1]).to_pylist()
    pairs = []
    for pair in found:
        other = "b" if (pair["id_a"], pair["copy_a"]) == key else "a"
        told_ = {"id": pair[f"id_{other}"], "copy": pair[f"copy_{other}"], "jaccard": pair["jaccard"]}
        pairs.append(told_ | {"same_but_numbers": bool(pair.get("same_but_numbers"))})
    return sorted(pairs, key=lambda pair: (-pair["jaccard"], pair["id"], pair["copy"]))[:RELATED]


def _beaten(path: Path, key: Key) -> list[Row]:
    """The first rows that were dropped in favour of this one."""

    def match(table: pa.Table) -> pa.Array:
        return pc.match_substring(table["drop_evidence"].cast(pa.large_string()), key[0])

    rows = matching(path, ["drop_evidence"], match, wanted=_BRIEF)
    mine = ((row, evidence_of(row)) for row in rows)
    return list(
        islice((_brief(row) for row, facts in mine if (facts.get("id"), facts.get("copy") or 0) == key), RELATED)
    )


def _duplicate(row: Row, key: Key, others: dict[Key, Row]) -> Row:
    """The row this one lost to; `diff` leads from the kept text to this row's."""
    other = others.get(key)
    if other is None:
        return {"id": key[0], "copy": key[1], "missing": True}
    return {
        **_brief(other),
        "jaccard": evidence_of(row).get("jaccard", row.get("drop_value")),
        "prompt": prompt_text(other),
        "answers": answers(other),
        "diff": diff(whole_text(other), whole_text(row)),
    }


def _contamination(row: Row, facts: Row) -> Row:
    """File, item and span of the evaluation, and the span where it stands in the row."""
    span = str(facts.get("span") or facts.get("text") or "")
    context = in_context(whole_text(row), span)
    return {
        "evaluation": facts.get("evaluation") or facts.get("file"),
        "item": facts.get("item"),
        "span": span,
        "context": list(context) if context else None,
    }


def limits_of(summary: Row) -> dict[str, list[list[Row]]]:
    """Per rule its cases, each a list of {measure, least, most}; a row fails a case by breaking all of it.

    `rules` of `summary.json` says either `measures` ({column: {min, max}}, each its own case) or `cases`.
    """
    rules = summary.get("rules") or {}
    named = {rule.get("name"): rule for rule in rules} if isinstance(rules, list) else rules
    found = {}
    for name, rule in named.items():
        cases = []
        for column, ends in (rule.get("measures") or {}).items():
            cases += [[{"measure": column, "least": ends.get("min"), "most": ends.get("max")}]]
        for case in rule.get("cases") or []:
            limits = [{"measure": f"rule_{each['measure']}"} | _ends(each) for each in case]
            cases.append(limits)
        if cases:
            found[str(name)] = cases
    return found


def _ends(limit: Row) -> Row:
    return {"least": limit.get("least"), "most": limit.get("most")}


def readings(row: Row, summary: Row) -> list[Row]:
    """Every measured value of a row against its limit: {rule, measure, value, side, limit, ok, fails}.

    `ok`: this value is within this limit, None if it was not measured; `fails`: the rule as a whole is broken. Values
    under no limit come last, with rule None.
    """
    found, named = [], set()
    for rule, cases in limits_of(summary).items():
        broken = [[_broken(row.get(limit["measure"]), limit) for limit in case] for case in cases]
        fails = any(all(case) for case in broken)
        for limit in {json.dumps(limit): limit for case in cases for limit in case}.values():
            value = row.get(limit["measure"])
            named.add(limit["measure"])
            for side in ("least", "most"):
                if limit[side] is not None:
                    within = None if value is None else not _broken(value, limit | {_OTHER[side]: None})
                    shown = {"rule": rule, "measure": limit["measure"], "value": value}
                    found.append(shown | {"side": side, "limit": limit[side], "ok": within, "fails": fails})
    for name, value in row.items():
        if name.startswith(("rule_", "score_")) and name not in named and value is not None:
            shown = {"rule": None, "measure": name, "value": value}
            found.append(shown | {"side": None, "limit": None, "ok": None, "fails": False})
    return found


_OTHER = {"least": "most", "most": "least"}


def _broken(value: float | None, limit: Row) -> bool:
    if value is None:
        return False
    low, high = limit["least"], limit["most"]
    return (low is not None and value < low) or (high is not None and value > high)
