"""`gristmill filter` as a process of its own, which waits at a moment of the test's choice.

The rules file of the filter names a function of `gate.py`, which the process imports. That module makes it wait at a
moment for as long as a file `hold-MOMENT` is there, and tells that it does by a file `at-MOMENT`.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

ROWS = 1_500
FILTER = ["filter", "data.jsonl", "--rules", "rules.yaml", "--against", "eval.jsonl", "--min", "quality=2"]
FILTER += ["--prefer", "quality", "--collapse", "mark", "--stratify", "source"]
STAGES = {"read + rules", "scores", "contamination", "exact", "near", "openings", "stratify"}

GATE = '''
"""Stops the filter at a moment while hold-MOMENT is there."""
import time
from pathlib import Path

import gristmill.filter.output as output
import gristmill.filter.stages as stages
import gristmill.run as runs

HOME = Path(__file__).parent

def wait(moment):
    while (HOME / f"hold-{moment}").exists():
        (HOME / f"at-{moment}").touch()
        time.sleep(0.01)

def shouting(rows):
    wait("read")
    return [str(text).isupper() for text in rows["response"].to_pylist()]

def waiting(moment, function):
    def waited(*given, **named):
        wait(moment)
        return function(*given, **named)
    return waited

stages.near_findings = waiting("near", stages.near_findings)
output.training_row = waiting("write", output.training_row)
runs.move = waiting("commit", runs.move)
rename = Path.rename

def renamed(path, target):
    done = rename(path, target)
    if str(target).endswith(".before"):
        wait("aside")
    return done

Path.rename = renamed
'''


def home(place: Path) -> Path:
    """`place` with data that every stage finds something in, the rules, the evaluation and the gate."""
    place.mkdir(exist_ok=True)
    (place / "gate.py").write_text(GATE)
    (place / "rules.yaml").write_text('rules:\n  - {name: shouting, function: "gate:shouting"}\n')
    draw = random.Random(5)
    words = [
        f"{a}{b}" for a in ("mill", "grain", "stone", "river", "wheel", "flour") for b in ("s", "y", "er", "", "ing")
    ]
    question = " ".join(draw.choices(words, k=30))
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        text = " ".join(draw.choices(words, k=60))
        row = {"prompt": f"Tell story {number}.", "response": text, "source": f"s{number % 3}", "quality": number % 10}
        if number % 7 == 1:
            row["response"] = rows[draw.randrange(number)]["response"] + " end."
        elif number % 11 == 1:
            row |= {key: rows[number - 5][key] for key in ("prompt", "response")}
        elif number % 13 == 1:
            row["response"] = " ".join(["alike"] * 2 + words * 2) + text
        elif number % 100 == 50:
            row["prompt"] = question
        elif number % 100 == 60:
            row["response"] = text.upper()
        rows.append(row)
    (place / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "eval.jsonl").write_text(json.dumps({"question": question, "answer": "18"}) + "\n")
    return place


def command(*arguments: object) -> list[str]:
    """The filter on the data of a home, with more arguments."""
    return [sys.executable, "-m", "gristmill", *FILTER, *map(str, arguments)]


def environment(place: Path) -> dict[str, str]:
    """In which the processes run: the package, and the gate, can be imported."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(place), *sys.path]))}


def start(place: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the filter in a home, in a process group of its own."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command(*arguments), cwd=place, env=environment(place), start_new_session=True, **pipes)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process, and what it printed."""
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def reached(place: Path, process: subprocess.Popen[str], *moments: str) -> None:
    """Wait until the process stands at a moment, or files of these patterns are there."""
    while not all(any(place.glob(moment)) for moment in moments):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)


def killed_at(place: Path, moment: str, *arguments: object) -> None:
    """Start the filter and kill its process group at a moment."""
    (place / f"hold-{moment}").touch()
    process = start(place, *arguments)
    reached(place, process, f"at-{moment}")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for left in (f"hold-{moment}", f"at-{moment}"):
        (place / left).unlink()


def left_behind(place: Path) -> list[str]:
    """What was written beside and never put in its place."""
    found = [path for kind in ("partial", "before", "tmp") for path in place.rglob(f".*.{kind}")]
    return sorted(path.name for path in found)


def told(out: Path) -> tuple[Any, ...]:
    """What an output says: its tables, and its summary but for times, memory, sizes, and what was remembered."""
    tables = [pq.read_table(out / name) for name in ("rows.parquet", "kept.parquet", "pairs.parquet")]
    chats = [orjson.loads(line) for line in (out / "kept.jsonl").read_bytes().splitlines()]
    assert (out / "report.html").stat().st_size > 1_000
    return *tables, chats, _lasting(orjson.loads((out / "summary.json").read_bytes()))


PASSING = {"seconds", "peak_rss_mb", "reused", "bytes", "run"}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in PASSING}
    return [_lasting(each) for each in value] if isinstance(value, list) else value
