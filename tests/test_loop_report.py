"""The page of a loop: what it shows of tables and counts, whatever the texts hold. Without a model."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gristmill.loop.clusters_table import SCHEMA, UNCLUSTERED
from gristmill.loop.evaluate import write_evals
from gristmill.loop.once import write_json
from gristmill.records import DROPS, SCHEMAS
from gristmill.report.loop import write_loop_report
from gristmill.run import Run

HOSTILE = "<script>alert('x')</script> \u202e & \x1b[31m"
PAIRS = {"n": 4, "gained": 2, "lost": 1, "difference": 0.25, "interval": [-0.1, 0.6]}
TOOK = {"calls": 12, "tokens_in": 340, "tokens_out": 56, "money": 0.0125, "seconds": 7.5}


def message(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, "extra": None}]


def item(number: int, score: float) -> dict[str, Any]:
    return {
        **{"id": f"g1:{number:032x}", "copy": 0, "parents": [], "suite": "gate", "item": f"i{number}"},
        **{"prompt": message(f"{HOSTILE} {number}"), "reference": "7", "response": f"{HOSTILE} {score}"},
        "score_math": score,
    }


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page of a loop of two rounds: one that lost and gained, and one that made nothing."""
    run, place = Run(tmp_path / "run dir"), tmp_path / "rounds"
    place.mkdir()
    for name, scores in {"before": [1, 1, 0, 0], "after": [1, 0, 1, 1]}.items():
        rows = [item(number, float(score)) for number, score in enumerate(scores)]
        write_evals(rows, rows[0], ["math"], [], place / f"{name}.parquet", run=run, params={})
    member = {"id": "g1:aa", "row": "g1:bb", "key": "gate i9", "inside": True, "failed": 1.0, "shown": "central"}
    member |= {"prompt": message("asked"), "reference": "1", "response": HOSTILE, "half": "train"}
    found = {"cluster": "slice-1", "name": HOSTILE, "kind": "slice", "items": 5, "failures": 4.0, "rate": 0.8}
    found |= {"frequency": 0.3, "severity": 3.0, "effort": 1.0, "priority": 0.9, "members": [member]}
    clusters = [found, {"cluster": UNCLUSTERED, "members": []}]
    pq.write_table(pa.Table.from_pylist(clusters, schema=SCHEMA), place / "clusters.parquet")
    counters = [
        {"id": "g1:cc", "prompt": message("new"), "response": "a", "flag_counter": kind, "drop_rule": rule}
        for kind, rule in (("look_alike", None), ("contrast", None), ("look_alike", "contaminated"))
    ]
    flagged = pa.schema([*SCHEMAS["sample"], ("flag_counter", pa.large_string()), *DROPS])
    pq.write_table(pa.Table.from_pylist(counters, schema=flagged), place / "counters.parquet")
    shown = {name: found[name] for name in ("cluster", "name", "items", "failures", "rate")}
    round_: dict[str, Any] = {
        **{"round": 1, "model": "hf:base", "candidate": "hf:rounds/model", "verdict": "reject", "why": ["rest: worse"]},
        "mined": {"items": 50, "failures": 4.0, "rate": 0.08, "unseen": 0.02},
        "clusters": [shown],
        "counterexamples": 2,
        "dropped": {"contaminated": 1},
        "trained_on": {"counterexamples": 2, "repeat": 5, "replay": 10, "rows": 20},
        "files": {name: f"{name}.parquet" for name in ("mined", "clusters", "counters", "train", "before", "after")},
        "all": PAIRS,
        "look": {"number": 1, "level": 0.025},
        "checks": [{"check": "target", "name": "mined=slice-1", "verdict": "pass", "why": "better", **PAIRS}],
        "steps": [{"round": 1, "step": "train", **TOOK}],
        "took": TOOK,
    }
    nothing = {"round": 2, "all": None, "candidate": None, "checks": [], "verdict": "nothing", "dropped": {}}
    nothing |= {"why": ["no counterexample was kept"], "trained_on": {"rows": 0}, "counterexamples": 0}
    told = {
        **{"base": "hf:base", "best": "hf:base", "run": str(run.path), "stopped": "rounds: 2 of 2 are done"},
        "accuracy": {"base": 0.5, "best": 0.5},
        "rounds": [round_, round_ | nothing],
        "steps": round_["steps"] * 2,
        "took": {name: 2 * value for name, value in TOOK.items()},
    }
    write_json(place / "loop.json", told)
    return write_loop_report(place).read_text("utf-8")


def test_nothing_of_the_data_is_markup(page: str) -> None:
    assert "<script" not in page and "\u202e" not in page and "\x1b" not in page
    assert page.count("&lt;script&gt;") > 5
    assert not re.search(r"(src|href)=\"(?!#|\w+\.parquet\")", page)


def test_each_round_has_its_clusters_rows_checks_and_figures(page: str) -> None:
    assert "4 of 50 items failed (8.0%)" in page and "about 2.0% (Good and Turing)" in page
    assert page.count("gristmill why g1:bb") == 2  # the sample that failed, not the item
    assert "2 counterexamples, each 5 times, beside 10 old rows" in page and "Dropped: 1 contaminated" in page
    assert "On 4 items of the gate: 2 gained, 1 lost, +25.0 points [-10.0, +60.0]" in page
    assert re.search(r"items that were lost</span><span class=\"n\">1 of 1<", page)
    assert re.search(r"items that were gained</span><span class=\"n\">2 of 2<", page)
    assert "0.0125" in page and "0.0250" in page and "no counterexample was kept" in page


def test_the_command_of_a_row_survives_a_directory_with_a_space(page: str) -> None:
    assert re.search(r"gristmill why g1:cc --run &#39;[^&]+/run dir&#39;", page)
