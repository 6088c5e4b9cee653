"""A loop killed at 10 random moments: the same rows, the same evaluations, no call and no training again.

The embedded model, which saw few carries and borrows, is improved in two rounds, undisturbed. Then the same loop is
started on another directory and its process group is killed (SIGKILL) after a random time, again and again; a start
that ends before its moment has finished a loop, which is compared, and the next start begins another. When 10 kills
have hit, the last loop is finished and compared. Compared are all tables row by row, verdicts, accuracies and what the
steps took but for seconds; counted are the calls that were sent against the answers in the ledger, and the trainings.
Exits 1 on a difference. `loop_killed.py SEED` draws other moments. Needs the extra `train`; 5 minutes on one core.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from data import table

from gristmill.models.calls import FILE, Calls
from gristmill.run import Run

KILLS, SEED = 10, 7
LIMIT = 1_200.0
"""Seconds after which a loop that nobody killed counts as hung."""

LACKING = ["--lacking", "borrow=98%", "--lacking", "carry=98%", "--seed", "1", "--forms", "hash"]
MADE = (
    ["-o", "base", *LACKING],
    ["--data", "8000", "--answers", *LACKING, "-o", "base.parquet"],
    ["--data", "400", "--test", "--seed", "11", "--forms", "hash", "-o", "mined.parquet"],
    ["--data", "1200", "--test", "--seed", "12", "--forms", "hash", "-o", "gate.parquet"],
)
SUITE = "{name: %s, items: %s.parquet, scores: [tiny], slices: [slot_operation], sampling: {max_tokens: 48}}"
LOOP = """
base: hf:base
data: base.parquet
suite: mined.yaml
gate_suite: gate.yaml
rounds: 2
counter: {with: tiny, rows: 100, repeat: 5, replay: 2000, verify: tiny}
train: {method: fit, steps: 80}
gate: {slices: [slot_operation]}
"""

STEPS = {
    "mined items": "mined.json",
    "mine": "clusters.json",
    "counter": "counters.json",
    "mix": "train.json",
    "train": "model/gristmill.json",
    "gate items": "gate-after.json",
    "gate": "gate.json",
}
"""What a step of a round has written when it is finished, in their order."""


def started(home: Path, name: str) -> subprocess.Popen[bytes]:
    """A loop in a process group of its own."""
    command = [sys.executable, "-m", "gristmill", "loop", "loop.yaml", "-o", name, "--run", f"run-{name}"]
    with (home / "said.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=home, stdout=said, stderr=said, start_new_session=True)


def finished(home: Path, name: str) -> float:
    """Run a loop to its end; returns the seconds it took."""
    begin = time.monotonic()
    if started(home, name).wait(LIMIT):
        sys.exit(f"the loop failed: {(home / 'said.txt').read_text()}")
    return time.monotonic() - begin


def killed(home: Path, name: str, moment: float) -> bool:
    """Kill a loop after so many seconds; False if it ended before."""
    process = started(home, name)
    try:
        if process.wait(moment):
            sys.exit(f"the loop failed: {(home / 'said.txt').read_text()}")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def under_way(loop: Path) -> str:
    """The step after the last one that is finished (a round may do without new answers to the mined items)."""
    places = [("gate items of the base", loop / "gate-0.json")]
    places += [(f"round {n}: {step}", loop / f"round-{n}" / name) for n in (1, 2) for step, name in STEPS.items()]
    last = max((number for number, (_, path) in enumerate(places) if path.exists()), default=-1)
    return [*(name for name, _ in places), "the end"][last + 1]


def state(home: Path, name: str) -> tuple[int, int, int]:
    """Answers in the ledger, calls that were sent, trainings that finished."""
    run = home / f"run-{name}"
    if not (run / FILE).exists():
        return 0, 0, 0
    used = Calls(run).used()
    trained = sum(each.name == "train" for each in Run(run).outputs())
    return sum(each.answers for each in used), sum(each.sent for each in used), trained


def differences(home: Path, name: str) -> list[str]:
    """What is not as it is in the loop that was left alone."""
    found = []
    answers, sent, trained = state(home, name)
    told, whole = (json.loads((home / each / "loop.json").read_text()) for each in (name, "whole"))
    if sent != answers:
        found.append(f"{sent - answers} calls again")
    if trained != len(whole["rounds"]):
        found.append(f"{trained} trainings, not {len(whole['rounds'])}")
    if outcome(told, name) != outcome(whole, "whole"):
        found.append("another outcome")
    tables = sorted(path.relative_to(home / "whole") for path in (home / "whole").rglob("*.parquet"))
    found += [f"{path} differs" for path in tables if rows(home / name / path, name) != rows(home / "whole" / path)]
    return found + [f"{path.name} is left" for path in (home / name).rglob(".*.partial")]


def outcome(told: dict[str, Any], name: str) -> str:
    """What a loop came to, without its times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if key != "seconds"}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    return json.dumps(timeless(told)).replace(name, "whole")


def rows(path: Path, name: str = "whole") -> str:
    """The rows of a table, with the names of the whole loop's directories."""
    return repr(pq.read_table(path).to_pylist()).replace(name, "whole")


def main(seed: int = SEED) -> None:
    draw = random.Random(seed)
    with TemporaryDirectory(prefix="loops-") as folder:
        home = Path(folder)
        for arguments in MADE:
            subprocess.run([sys.executable, "-m", "gristmill", "tiny", *arguments], cwd=home, check=True)
        for name in ("mined", "gate"):
            (home / f"{name}.yaml").write_text(SUITE % (name, name))
        (home / "loop.yaml").write_text(LOOP)
        seconds = finished(home, "whole")
        again = finished(home, "whole")  # nothing is left to do: what a start takes
        whole = json.loads((home / "whole" / "loop.json").read_text())
        verdicts = ", ".join(each["verdict"] for each in whole["rounds"])
        print(f"undisturbed: {seconds:.1f} s, a start with nothing left to do {again:.1f} s; rounds: {verdicts}\n")
        lines: list[tuple[str, ...]] = []
        wrong: list[str] = []
        loops = 0
        while len(lines) < KILLS:
            moment = draw.uniform(0, seconds)
            if killed(home, "killed", moment):
                answers, _, trained = state(home, "killed")
                lines.append((f"{moment:.1f}", under_way(home / "killed"), f"{answers:,}", str(trained)))
                continue
            loops, wrong = loops + 1, wrong + differences(home, "killed")
            for left in ("killed", "run-killed"):
                shutil.rmtree(home / left)
        finished(home, "killed")
        wrong += differences(home, "killed")
    table(["killed after (s)", "under way", "answers so far", "trainings finished"], lines)
    print(f"{loops + 1} loops, {KILLS} kills (seed {seed}): ", end="")
    print("; ".join(wrong) if wrong else "rows, evaluations and figures the same; no call and no training again")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
