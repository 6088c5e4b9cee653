"""A small world for loops: a base that hardly ever saw a borrow, what it was trained on, and two suites (torch)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gristmill.cli.main import run as command

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

QUICK: dict[str, Any] = {
    **LOOP,
    "rounds": 2,
    "counter": {"with": "tiny", "rows": 20, "replay": 100, "verify": "tiny"},
    "train": {"method": "fit", "steps": 10},
}
"""A loop that takes seconds and teaches little."""

SUITE = "{name: %s, items: %s.parquet, scores: [tiny], slices: [slot_operation], sampling: {max_tokens: 48}}"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the base, the tables and the suites, made once for all modules."""
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    place = tmp_path_factory.getbasetemp() / "loop-world"
    if place.exists():
        return place
    place.mkdir()
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
    return place


def written(place: Path, name: str, loop: dict[str, Any]) -> str:
    """The name of a loop file, written in a directory."""
    (place / name).write_text(yaml.safe_dump(loop))
    return name


def looped(place: Path, capsys: pytest.CaptureFixture[str], *arguments: str, run: str = "run") -> dict[str, Any]:
    """What `gristmill loop` tells, in this process."""
    with pytest.raises(SystemExit) as end:
        command(["loop", *arguments, "--run", str(place / run), "--json"])
    told = capsys.readouterr()
    assert not end.value.code, told.err[-600:]
    found: dict[str, Any] = json.loads(told.out)
    return found
