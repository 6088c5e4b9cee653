"""The loop: its file, what belongs to a cluster, and, with torch, a round that mends a planted weakness."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.loop.loop_file import read_loop
from gristmill.loop.rounds import belongs
from gristmill.train.tiny.counters import counter
from gristmill.train.tiny.world import Mix, tasks

LOOP: dict[str, Any] = {
    "base": "hf:base",
    "data": "base.parquet",
    "suite": "mined.yaml",
    "gate_suite": "gate.yaml",
    "rounds": 1,
    "counter": {"with": "tiny", "rows": 100, "repeat": 5, "replay": 1_500, "verify": "tiny"},
    "train": {"method": "fit", "steps": 250},
    "gate": {"slices": ["slot_operation"]},
}


def test_paths_lead_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(LOOP))
    found = read_loop(tmp_path / "loop.yaml")
    assert found.base == f"hf:{tmp_path / 'base'}" and found.data == str(tmp_path / "base.parquet")
    assert found.counter.made_by == "tiny" and found.stop.rounds == 2
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**LOOP, "base": "tiny", "counter": {"with": "mine.py:more"}}))
    assert read_loop(tmp_path / "loop.yaml").counter.made_by == f"{tmp_path / 'mine.py'}:more"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counter": {"rows": 5}}, "either with or model"),
        ({"counter": {"with": "tiny", "model": "m"}}, "either with or model"),
        ({"rounds": 0}, "rounds"),
        ({"gate": {"margin": 2}}, "margin"),
        ({"trainer": {}}, "unknown key"),
        ({"train": {"method": "ppo"}}, "method"),
    ],
)
def test_a_loop_that_makes_no_sense_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**LOOP, **changes}))
    with pytest.raises(UsageError) as error:
        read_loop(tmp_path / "loop.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_belongs_to_a_cluster() -> None:
    row = {"tags": ["minus", "borrow"], "slot_digits": "2", "meta": '{"source": "a"}'}
    for definition, inside in {
        "tag borrow": True,
        "digits = 2": True,
        "digits = 2 and tag borrow": True,
        "digits = 1 and tag borrow": False,
        "source = a": True,
        "tag carry": False,
        "prompt words < 9": False,
    }.items():
        assert belongs({"kind": "slice", "definition": definition}, row) == inside, definition
    assert not belongs({"kind": "text", "definition": "tag borrow"}, row)


def test_counterexamples_are_of_the_cluster_and_true() -> None:
    made = counter({"definition": "borrow = yes and wording = bare", "items": []}, 30, 0)
    assert {(row["slot_borrow"], row["slot_wording"]) for row in made} == {("yes", "bare")} and len(made) == 30
    assert all(row["response"].rsplit(None, 1)[-1].strip("}") == row["reference"] for row in made)
    held_out = {task.prompt for task in tasks(300, part="test", mix=Mix(only={"borrow": "yes"}))}
    assert not held_out & {row["prompt"][0]["content"] for row in made}
    items = [{"failed": 1.0, "facts": {"operation": "add", "carry": "yes", "borrow": "no"}}] * 5
    shared = counter({"definition": "text: about sums", "items": items}, 5, 1)
    assert {(row["slot_operation"], row["slot_carry"]) for row in shared} == {("add", "yes")}


SUITE = "{name: %s, items: %s.parquet, scores: [tiny], slices: [slot_operation], sampling: {max_tokens: 48}}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that never saw a borrow, what it was trained on, and two suites."""
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    place = tmp_path_factory.mktemp("world")
    lacking = ["--lacking", "borrow=98%", "--seed", "1", "--forms", "hash"]
    for arguments in (
        ["-o", "base", *lacking, "--steps", "450"],
        ["--data", "4000", "--answers", *lacking, "-o", "base.parquet"],
        ["--data", "200", "--test", "--seed", "11", "--forms", "hash", "-o", "mined.parquet"],
        ["--data", "400", "--test", "--seed", "12", "--forms", "hash", "-o", "gate.parquet"],
    ):
        subprocess.run([sys.executable, "-m", "gristmill", "tiny", *arguments], cwd=place, check=True)
    for name in ("mined", "gate"):
        (place / f"{name}.yaml").write_text(SUITE % (name, name))
    (place / "loop.yaml").write_text(yaml.safe_dump(LOOP))
    return place


def looped(place: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as end:
        command(["loop", *arguments, "--run", str(place / "run"), "--json"])
    told = capsys.readouterr()
    assert not end.value.code, told.err[-600:]
    found: dict[str, Any] = json.loads(told.out)
    return found


def test_a_planted_weakness_is_mined_first_and_mended_and_nothing_is_done_twice(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    told = looped(world, capsys, "loop.yaml", "-o", "out")
    (round_,) = told["rounds"]
    assert "borrow" in round_["clusters"][0]["definition"] or "subtract" in round_["clusters"][0]["definition"]
    assert round_["trained_on"]["counterexamples"] > 80 and round_["trained_on"]["replay"] == 1_500
    target = next(check for check in round_["checks"] if check["check"] == "target")
    assert target["difference"] > 0.2
    before = (world / "out" / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns
    assert looped(world, capsys, "loop.yaml", "-o", "out") == told
    assert (world / "out" / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert pq.read_table(world / "out" / "round-1" / "train.parquet").num_rows == round_["trained_on"]["rows"]


def test_suite_and_gate_must_have_items_of_their_own(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    (world / "same.yaml").write_text(yaml.safe_dump({**LOOP, "gate_suite": "mined.yaml"}))
    with pytest.raises(SystemExit) as end:
        command(["loop", "same.yaml", "-o", "out2"])
    assert end.value.code == 2 and "items of its own" in capsys.readouterr().err
