"""The demo's claims: sentences follow from the figures, stand in the report, and the trials are what they say."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.demo.claims import claims
from gristmill.demo.trial import check_out
from gristmill.errors import UsageError
from gristmill.filter.pipeline import filter_files
from gristmill.report.html import write_report
from gristmill.run import Run

needs_torch = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="needs torch: make test-train"
)


def told(accuracy: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "interval": [accuracy - 0.02, accuracy + 0.02]}


def filtering(kept: float, every: float, random: float) -> dict[str, Any]:
    found = {"candidates": 6_000, "rows_kept": 1_500, "yield": 0.25, "right": 0.6, "dropped": {"below_tiny": 4_500}}
    found |= {"base": told(0.6), "kept": told(kept), "all": told(every), "random": told(random)}
    return found | {"per_example_ratio": 4 * kept / every}


def countering(counter: float, random: float, *, elsewhere: float = 0.97, alone: str = "reject") -> dict[str, Any]:
    return {
        "mined": "borrow = yes",
        "definition": "borrow = yes",
        "base": {"in_cluster": 0.0, "elsewhere": 0.98},
        "counter": {"in_cluster": counter, "elsewhere": elsewhere, "verdict": "promote"},
        "random": {"in_cluster": random, "elsewhere": 0.98, "verdict": "reject"},
        "no_replay": {"in_cluster": 0.5, "elsewhere": 0.1, "verdict": alone},
    }


def said(filtered: dict[str, Any], countered: dict[str, Any]) -> list[str]:
    return [sentence for claim in claims(filtered, countered) for sentence in claim.sentences]


def test_what_holds_is_said() -> None:
    sentences = "\n".join(said(filtering(0.8, 0.6, 0.58), countering(0.7, 0.1)))
    assert "kept beats all at equal steps by 20.0 points\n" in sentences
    assert "kept beats as many at random at equal steps by 22.0 points\n" in sentences
    assert "gives 5.3 times" in sentences and "+60.0 points in the cluster" in sentences
    assert "changed by -88.0 points: forgetting, caught by the gate" in sentences
    assert "NOT" not in sentences


def test_what_does_not_hold_is_said() -> None:
    sentences = said(filtering(0.6, 0.62, 0.59), countering(0.1, 0.3, elsewhere=0.8, alone="inconclusive"))
    assert "the claim does NOT hold: kept does not beat all at equal steps (-2.0 points)" in sentences
    assert "kept beats as many at random at equal steps by 1.0 points; the intervals overlap" in sentences
    assert any(each.startswith("the claim does NOT hold: 100 counterexamples") for each in sentences)
    assert any("more than 5, and replay was not enough" in each for each in sentences)
    assert any("NOT caught by the gate (inconclusive)" in each for each in sentences)


def test_no_cluster_is_said() -> None:
    assert said(filtering(0.8, 0.6, 0.58), {"mined": None})[-1] == "there is nothing to counter"
    nowhere = countering(0.7, 0.1)
    for name in ("base", "counter", "random", "no_replay"):
        nowhere[name] = {**nowhere[name], "in_cluster": None}
    assert "nothing can be said" in said(filtering(0.8, 0.6, 0.58), nowhere)[-1]


def test_the_claims_are_in_the_report(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "What is 2 + 3?", "response": "2 + 3 = 5, so there are five of them."}\n')
    filter_files([str(rows)], tmp_path / "out")
    told = [claim._asdict() for claim in claims(filtering(0.8, 0.6, 0.58), countering(0.7, 0.1))]
    told[0]["title"] = "<script>alert(1)</script>"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary | {"claims": told}))
    page = write_report(tmp_path / "out").read_text()
    assert 'id="claims"' in page and "kept beats all at equal steps by 20.0 points" in page
    assert "<script>alert" not in page


def test_what_lies_beside_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.cli.demo.find_spec", lambda name: name)
    (tmp_path / "mine-loop").mkdir()
    (tmp_path / "mine-loop" / "notes.txt").write_text("mine")
    (tmp_path / "file-loop").write_text("mine")
    for name, said in {"mine": "holds files that the demo did not write", "file": "a file"}.items():
        with pytest.raises(UsageError, match=said):
            app(["demo", "-o", str(tmp_path / name)], standalone_mode=False)
    assert (tmp_path / "mine-loop" / "notes.txt").read_text() == "mine" and not (tmp_path / "mine").exists()
    Run(tmp_path / "ours-loop" / "run")
    (tmp_path / "none-loop").mkdir()
    for place in ("ours-loop", "none-loop", "new-loop"):
        check_out(tmp_path / place)
    check_out(tmp_path / "mine-loop", force=True)


@needs_torch
@pytest.mark.xdist_group("trl")
@pytest.mark.filterwarnings("ignore")
def test_every_candidate_that_is_not_trained_on_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gristmill.demo.filtering as trial

    monkeypatch.setattr(trial, "PROMPTS", 60)
    monkeypatch.setattr(trial, "STEPS", 3)
    monkeypatch.setattr("gristmill.demo.arms.ITEMS", 40)
    monkeypatch.setattr(trial, "Recipe", lambda **given: recipe(**given, steps=420, rows=4_000))
    recipe = importlib.import_module("gristmill.train.tiny.make").Recipe
    found = trial.filtering(tmp_path, run=Run(tmp_path / "run"), seed=0, say=lambda _: None)
    assert found["candidates"] == 120 == found["rows_kept"] + sum(found["dropped"].values())
    rows = pq.read_table(tmp_path / "filtered" / "rows.parquet").to_pylist()
    kept = [row for row in rows if row["drop_rule"] is None]
    assert kept and all(row["score_tiny"] == 1 for row in kept)
    assert all(row["drop_rule"] == "below_tiny" for row in rows if row["score_tiny"] == 0)
    assert all(0 <= found[arm]["accuracy"] <= 1 for arm in ("base", "kept", "all", "random"))
    some = next(row for row in rows if row["drop_rule"] == "below_tiny")
    why = CliRunner().invoke(app, ["why", some["id"], "--run", str(tmp_path / "filtered")])
    assert why.exit_code == 0 and "below_tiny" in why.output
