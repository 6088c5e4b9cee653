"""A loop that is killed in the middle of its steps and started again comes to the same, and repeats nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gristmill.models.calls import Calls
from gristmill.run import Run
from tests.loop_world import QUICK, looped, written
from tests.loop_world import world as world

pytestmark = pytest.mark.xdist_group("loop")

MOMENTS = {
    "the base is put to the gate's items": "killed/.gate-0.parquet.*.partial/*",
    "a candidate is trained": "run-killed/train/fit-*/data.jsonl",
    "a candidate is put to the gate's items": "killed/round-*/.gate-after.parquet.*.partial/*",
}
"""What lies there while a step is under way."""


def test_the_same_rows_and_answers_and_no_call_and_no_training_again(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    loop = written(world, "quick.yaml", QUICK)
    whole = looped(world, capsys, loop, "-o", "whole", run="run-whole")
    for moment, pattern in MOMENTS.items():
        kill_at(world, loop, moment, pattern)
    told = looped(world, capsys, loop, "-o", "killed", run="run-killed")
    assert outcome(told) == outcome(whole) and told["rounds"]
    for name in tables(world / "whole"):
        assert rows(world / "killed" / name) == rows(world / "whole" / name), name
    assert tables(world / "killed") == tables(world / "whole")
    assert not list((world / "killed").rglob(".*.partial"))
    used = Calls(world / "run-killed").used()
    assert sum(each.answers for each in used) > 400
    assert all(each.sent == each.answers for each in used)  # nothing that had an answer was asked again
    trained = [each.path for each in Run(world / "run-killed").outputs() if each.name == "train"]
    assert len(trained) == len(set(trained)) == len(told["rounds"])


def kill_at(place: Path, loop: str, moment: str, pattern: str) -> None:
    """Start a loop and kill it when a path appears."""
    command = [sys.executable, "-m", "gristmill", "loop", loop, "-o", "killed", "--run", "run-killed"]
    with (place / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, cwd=place, stdout=said, stderr=said, start_new_session=True)
    while not any(place.glob(pattern)):
        assert process.poll() is None, f"{moment}: over before: {(place / 'said.txt').read_text()}"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outcome(told: dict[str, Any]) -> Any:
    """What a loop came to, without its times and the names of its directories."""
    kept = ("mined", "clusters", "counterexamples", "dropped", "trained_on", "verdict", "all", "checks", "accuracy")
    rounds = [{name: each[name] for name in kept} for each in told["rounds"]]
    counts = ("calls", "tokens_in", "tokens_out", "money")
    took = [[each["step"], *(each[name] for name in counts)] for each in told["steps"]]
    return rounds, took, told["accuracy"], told["stopped"]


def tables(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*.parquet"))


def rows(path: Path) -> str:
    """The rows of a table, with the names of the other loop's directories in the place of this one's."""
    return repr(pq.read_table(path).to_pylist()).replace("killed", "whole")
