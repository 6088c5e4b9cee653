"""`loop.html`: one file that tells what a loop did, round by round, without network or other files.

Of each round: what was wrong (clusters and failing items), what was added, what moved (every check of the gate, items
that flipped), what it took. Rows are named by the command that tells their history. It is read from `loop.json` and
the tables of the rounds, so it can be written anew at any time.

Not covered: what the rows of earlier directories were; a report in Markdown.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.compare import matched
from gristmill.loop.evals import Evals, Key, read_evals
from gristmill.loop.targets import TARGET
from gristmill.report.page import folded, template_of
from gristmill.wording import prompt_text

Row = dict[str, Any]

RANKED = 8
"""Clusters of a round's ranking that are listed."""
ITEMS = 5
"""Failing items, counterexamples and flipped items that are shown."""


def write_loop_report(directory: Path) -> Path:
    """Write `loop.html` into the directory of a loop, from `loop.json` there, and return its path."""
    told = orjson.loads((directory / "loop.json").read_bytes())
    names = dict.fromkeys(each["step"] for each in told["steps"])
    page = template_of("loop.html.j2").render(
        accuracy=told["accuracy"],
        base=told["base"],
        best=told["best"],
        stopped=told["stopped"],
        run=shlex.quote(told["run"]),
        rounds=[each | _tables(directory, each) for each in told["rounds"]],
        promoted=sum(each["verdict"] == "promote" for each in told["rounds"]),
        total=told["took"],
        by_step=[_summed(name, told["steps"]) for name in names],
    )
    path = directory / "loop.html"
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(path)


def _summed(name: str, steps: Sequence[Row]) -> Row:
    mine = [each for each in steps if each["step"] == name]
    numbers = [key for key, value in mine[0].items() if isinstance(value, int | float) and key != "round"]
    return {"step": name} | {key: sum(each[key] for each in mine) for key in numbers}


def _tables(directory: Path, told: Row) -> Row:
    """What the page shows from the tables of a round."""
    files = {name: directory / path for name, path in told["files"].items()}
    found: Row = {"ranked": _ranked(files["clusters"], {each["cluster"] for each in told["clusters"]})}
    found["added"] = _added(files["counters"])
    names = {f"{TARGET}={each['cluster']}": each["name"] for each in told["clusters"]}
    found["checks"] = [{"cluster": names.get(each["name"]), **each} for each in told["checks"]]
    found["directory"] = shlex.quote((told["candidate"] or "").removeprefix("hf:"))
    found["flips"] = _flips(read_evals(str(files["before"])), read_evals(str(files["after"]))) if told["all"] else []
    return found


def _ranked(path: Path, chosen: set[str]) -> list[Row]:
    rows = [each for each in read_clusters(path) if each["cluster"] != UNCLUSTERED]
    listed = [each for place, each in enumerate(rows) if place < RANKED or each["cluster"] in chosen]
    return [each | {"chosen": each["cluster"] in chosen, "failing": _failing(each, chosen)} for each in listed]


def _failing(cluster: Row, chosen: set[str]) -> list[Row]:
    """The most typical failing items of a cluster that was countered."""
    if cluster["cluster"] not in chosen:
        return []
    failed = [each for each in cluster["members"] if each["inside"] and each["failed"] > 0]
    failed.sort(key=lambda each: each["shown"] != "central")
    return [
        {"id": each["row"] or each["id"], "said": each["key"], "texts": _texts(each, response="answer")}
        for each in failed[:ITEMS]
    ]


def _added(path: Path) -> list[Row]:
    """Counterexamples, of each kind in turn."""
    if not path.is_file():
        return []
    table = pq.read_table(path)
    kept = [row for row in table.to_pylist() if row["drop_rule"] is None]
    seen: dict[str, int] = {}
    places = {}
    for number, row in enumerate(kept):
        seen[row["flag_counter"]] = turn = seen.get(row["flag_counter"], -1) + 1
        places[turn, number] = row
    shown = [places[place] for place in sorted(places)[:ITEMS]]
    return [
        {"id": row["id"], "said": row["flag_counter"].replace("_", " "), "texts": _texts(row, response="answer")}
        for row in shown
    ]


def _flips(before: Evals, after: Evals) -> list[tuple[str, list[Row], int]]:
    """What was gained and lost: the first items, and how many there are."""
    found = matched(before, after)
    ours, theirs = ({(row["suite"], row["item"]): row for row in reversed(each.rows)} for each in (before, after))
    gained = [item.key for item in found.items if item.base is False and item.candidate]
    lost = [item.key for item in found.items if item.base and item.candidate is False]
    return [
        (side, [_flipped(key, ours, theirs) for key in keys[:ITEMS]], len(keys))
        for side, keys in (("lost", lost), ("gained", gained))
    ]


def _flipped(key: Key, before: Mapping[Key, Row], after: Mapping[Key, Row]) -> Row:
    texts = [*_texts(before[key], response="before"), folded("after", after[key]["response"] or "")]
    return {"id": after[key]["id"], "said": " ".join(key), "texts": texts}


def _texts(row: Row, *, response: str) -> list[Row]:
    """The texts of a row: what was asked, the right answer and the one that was given, called `response`."""
    named = {"prompt": prompt_text(row), "reference": row["reference"], response: row["response"]}
    return [folded(name, text) for name, text in named.items() if text]
