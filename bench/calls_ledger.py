"""A large calls ledger: `python bench/calls_ledger.py [CALLS]`, by default 10,000,000 (4 GiB in .bench, some minutes).

The table is filled in the order of random keys, as calls come, in one transaction without a journal; answers are those
of the mock server, 20,000 different ones taken in turn. Then another process looks up 10,000 stored keys with nothing
of the file in the system's cache (cold), 10,000 that are not there, and the stored ones again (warm), with
`Calls.find`. Exits 1 if a target is missed.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import zstandard
from data import ROOT, table

from gristmill.models.calls import FILE, LEVEL, Calls
from gristmill.models.mock import _options, answer

KEYS = 10_000
MOST_SECONDS = 0.5
ANSWERS = 20_000


def stored(calls: int) -> Iterator[tuple[bytes, bytes, int, int, int]]:
    """Rows of the ledger."""
    options, compress = _options([]), zstandard.ZstdCompressor(LEVEL).compress
    answers = [compress(answer({"model": "m"}, b"%d" % number, options)) for number in range(ANSWERS)]
    draw = random.Random(1)
    for number in range(calls):
        yield draw.randbytes(16), answers[number % ANSWERS], 1, 9, 40


def fill(directory: Path, calls: int) -> None:
    Calls(directory).model("mock", "mock")
    with sqlite3.connect(directory / FILE) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA cache_size=-1500000")  # KiB: the index stays in memory
        db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?)", stored(calls))
    db.close()


def forget(path: Path) -> None:
    """Let the system drop what it holds of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def look_up(directory: Path, calls: int) -> None:
    """Print the seconds of lookups, in a process that never looked before: stored keys, absent keys, stored again."""
    draw, wanted = random.Random(1), set(random.Random(2).sample(range(calls), KEYS))
    keys = [key for number in range(calls) if (key := draw.randbytes(16)) and number in wanted]
    random.Random(3).shuffle(keys)
    absent = [draw.randbytes(16) for _ in range(KEYS)]
    forget(directory / FILE)
    ledger = Calls(directory)
    for asked, found in ((keys, KEYS), (absent, 0), (keys, KEYS)):
        started = time.perf_counter()
        assert len(ledger.find(asked)) == found
        print(time.perf_counter() - started)


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    directory = ROOT / ".bench" / "calls_ledger"
    if len(sys.argv) > 2:
        look_up(directory, calls)
        return
    shutil.rmtree(directory, ignore_errors=True)
    try:
        started = time.perf_counter()
        fill(directory, calls)
        filled = time.perf_counter() - started
        size = (directory / FILE).stat().st_size
        command = [sys.executable, __file__, str(calls), "look"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    cold, absent, warm = map(float, said.split())
    lines = [
        ("stored keys, warm", f"{warm:.2f} s", f"{MOST_SECONDS} s"),
        ("stored keys, cold", f"{cold:.2f} s", ""),
        ("absent keys, after the cold ones", f"{absent:.2f} s", ""),
        ("bytes a call", f"{size / calls:,.0f}", ""),
        ("file", f"{size / 2**30:.2f} GiB", ""),
        ("filled", f"{filled:.0f} s", ""),
    ]
    table([f"{calls:,} calls, {KEYS:,} keys", "measured", "target"], lines)
    sys.exit(warm > MOST_SECONDS)


if __name__ == "__main__":
    main()
