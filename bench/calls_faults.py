"""Calls to endpoints that fail, queue or lose their client: `python bench/calls_faults.py [KILLS]`.

1. 5 % 429, 3 % 500 and 1 % hangs (timeout 3 s), 20,000 prompts, 200 in flight: the rate against that without faults.
2. An endpoint that serves 64 calls at once and queues the rest, 12,000 prompts, adaptive: against 64 in flight.
3. `generate` killed at KILLS (20) random moments and started again until it ends: the rows must be those of an
   undisturbed run, and by the server's log no request may be sent again that was answered over a second before a kill.

Exits 1 if a target is missed.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from calls_speed import prompts
from data import table

from gristmill.models.mock import mock_server


def command(source: Path, url: str, place: Path, name: str, *flags: str) -> list[str]:
    out = ["-o", str(place / f"{name}.parquet"), "--run", str(place / f"run_{name}"), "--json"]
    return [sys.executable, "-m", "gristmill", "generate", str(source), "-m", f"{url}#mock", *out, *flags]


def summary(*arguments: str) -> dict[str, object]:
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def rate(count: int, place: Path, name: str, options: list[str], *flags: str) -> tuple[float, int]:
    """Calls a second, and how many ended without an answer."""
    with mock_server("--latency", "0.2", *options) as url:
        found = summary(*command(prompts(place, count), url, place, name, *flags))
    failed = found["failed"]
    assert isinstance(failed, dict) and found["rows"] == count
    return count / float(str(found["seconds"])), sum(failed.values())


def killed(place: Path, kills: int) -> tuple[bool, int, int]:
    """Whether the rows are those of an undisturbed run; kills; requests that were sent again too late."""
    source, draw, log, done = prompts(place, 30_000), random.Random(4), place / "log", 0
    with mock_server("--latency", "0.2", "--log", str(log)) as url:
        subprocess.run(command(source, url, place, "whole", "--concurrency", "200"), check=True, capture_output=True)
        before, moments = len(log.read_bytes().splitlines()), []
        again = command(source, url, place, "killed", "--concurrency", "200")
        while True:
            process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(draw.uniform(1.2, 2.6) if done < kills else None)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                moments.append(time.time())
                done += 1
    lines = [json.loads(line) for line in log.read_bytes().splitlines()[before:]]
    answered: dict[str, float] = {}
    late = 0
    for line in sorted(lines, key=lambda line: line["received"]):
        known = answered.get(line["request"])
        late += known is not None and any(known < at - 1 < at < line["received"] for at in moments)
        answered.setdefault(line["request"], line["answered"])
    same = pq.read_table(place / "whole.parquet").equals(pq.read_table(place / "killed.parquet"))
    return same, done, late


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        fixed = ("--concurrency", "200", "--timeout", "3")
        clean, _ = rate(20_000, place, "clean", [], *fixed)
        faults = ["--fault", "429=0.05", "--fault", "500=0.03", "--fault", "hang=0.01"]
        faulty, lost = rate(20_000, place, "faulty", faults, *fixed)
        best, _ = rate(12_000, place, "best", ["--slots", "64"], "--concurrency", "64")
        found, _ = rate(12_000, place, "found", ["--slots", "64"])
        same, done, late = killed(place, kills)
    lines = [
        ("faults: calls/s, against those without", f"{faulty:,.0f} of {clean:,.0f} ({faulty / clean:.0%})", "70 %"),
        ("faults: rows without an answer", f"{lost}", "0"),
        ("64 at once: calls/s, adaptive against 64 in flight", f"{found:,.0f} of {best:,.0f}", "80 %"),
        (f"{done} kills: same rows", str(same), "True"),
        (f"{done} kills: sent again, answered over 1 s before", f"{late}", "0"),
    ]
    table(["what", "measured", "target"], lines)
    sys.exit(not (faulty >= 0.7 * clean and not lost and found >= 0.8 * best and same and not late))


if __name__ == "__main__":
    main()
