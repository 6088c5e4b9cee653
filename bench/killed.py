"""The filter killed at 20 random moments: the same rows, and no finished step computed again.

100,000 grown rows are filtered undisturbed, which gives the rows and how long it takes. Then the filter is started on
one run and its process group is killed (SIGKILL) at a moment drawn uniformly over that time, again and again until 20
kills have hit. After each, a copy of the run as the kill left it is finished, timed and compared, and the next start
goes on with the run itself. A start that ends before its moment has finished the run: it is compared too, and the next
begins a new one. Exits 1 on a difference. `killed.py ROWS KILLS SEED` for others.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
from data import DATA, table
from grown import files

from gristmill.ledger import FILE, Ledger

ROWS, KILLS, SEED = 100_000, 20, 7
LIMIT = 1_200.0
"""Seconds after which a filter that nobody killed counts as hung."""


def started(inputs: list[str], home: Path) -> subprocess.Popen[bytes]:
    """A filter with every stage on but scores, which the rows lack, in a process group of its own."""
    against = str(DATA / "gsm8k" / "test.jsonl.gz")  # unlike the training set, not in the rows: no stage takes most
    flags = ["--against", against, "--collapse", "mark", "--stratify", "source"]
    command = [sys.executable, "-m", "gristmill", "filter", *inputs, *flags]
    command += ["-o", str(home / "out"), "--run", str(home / "run")]
    with (home / "said.txt").open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)


def finished(inputs: list[str], home: Path) -> float:
    """Run a filter to its end; returns the seconds it took."""
    begin = time.monotonic()
    if started(inputs, home).wait(LIMIT):
        sys.exit(f"the filter failed: {(home / 'said.txt').read_text()}")
    return time.monotonic() - begin


def steps(home: Path) -> dict[str, tuple[str, str]]:
    """Name and time of every finished step, by key."""
    if not (home / "run" / FILE).exists():
        return {}
    return {step.key: (step.name, step.created) for step in Ledger(home / "run").steps()}


def under_way(home: Path, begin: float) -> str:
    """What a filter started at `begin` was at when it was killed, from what it left (not what one before it left)."""
    patterns = ("run/steps/.*.partial", ".out.*.partial", "out")
    made = [path for pattern in patterns for path in home.glob(pattern) if path.stat().st_ctime > begin]
    if not made:
        return "start"
    if made[0].parent.name == "steps":
        return made[0].name[1:].partition("-")[0]
    if made[0].name == "out":
        return "exit"
    written = {path.name for path in made[0].iterdir()}
    return "report" if "summary.json" in written else "output" if "rows.parquet" in written else "between steps"


def same(home: Path, other: Path) -> bool:
    """Whether two outputs hold the same rows, pairs and chats, and nothing half-written lies beside the first."""
    one, two = home / "out", other / "out"
    tables = ("rows.parquet", "kept.parquet", "pairs.parquet")
    alike = all(pq.read_table(one / name).equals(pq.read_table(two / name)) for name in tables)
    left = [*home.glob(".*.partial"), *home.glob(".*.before"), *home.glob("run/steps/.*.partial")]
    return alike and (one / "kept.jsonl").read_bytes() == (two / "kept.jsonl").read_bytes() and not left


def main(rows: int = ROWS, kills: int = KILLS, seed: int = SEED) -> None:
    inputs, draw = files(rows), random.Random(seed)
    with TemporaryDirectory(prefix="killed-") as folder:
        whole, home, copy = (Path(folder) / name for name in ("whole", "home", "copy"))
        whole.mkdir()
        seconds = finished(inputs, whole)
        print(f"{rows:,} rows, undisturbed in {seconds:.1f} s; killed at random moments (seed {seed})\n")
        lines, wrong, before = [], 0, steps(home)
        home.mkdir()
        while len(lines) < kills:
            moment = draw.uniform(0, seconds)
            while True:
                process, begin = started(inputs, home), time.time()
                try:
                    if process.wait(moment):
                        sys.exit(f"the filter failed: {(home / 'said.txt').read_text()}")
                except subprocess.TimeoutExpired:
                    break
                wrong += not (before.items() <= steps(home).items() and same(home, whole))
                shutil.rmtree(home)
                home.mkdir()
                before = {}
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            at, after = under_way(home, begin), steps(home)
            shutil.copytree(home, copy)
            rest = finished(inputs, copy)
            right = before.items() <= after.items() <= steps(copy).items() and same(copy, whole)
            shutil.rmtree(copy)
            wrong, before = wrong + (not right), after
            lines.append((f"{moment:.1f}", at, len(after), f"{rest:.1f}", "yes" if right else "NO"))
        finished(inputs, home)
        wrong += not (before.items() <= steps(home).items() and same(home, whole))
    table(["killed after (s)", "under way", "steps finished", "then finished in (s)", "same rows, none again"], lines)
    print("every row the same, no finished step computed again" if not wrong else f"{wrong} runs differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
