"""Model calls a second: `python bench/calls_speed.py [PROMPTS [IN_FLIGHT]]`.

`gristmill generate` on a table of prompts against the mock server with a fixed 200 ms, ledger, parsing and Parquet
output included; the limit is what so many calls in flight allow. The client is bound to one core and the server to
another, where the system can do that. Exits 1 if a target is missed.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data import table

from gristmill.models.mock import mock_server

LATENCY = 0.2
TARGETS = {1_000: 3_000, 256: 0.85 * 256 / LATENCY}
"""Calls a second, by calls in flight."""
MOST_CPU = 0.30
"""CPU-seconds of the client per 1,000 calls."""


def prompts(place: Path, count: int) -> Path:
    """A file of so many prompts."""
    path = place / f"prompts_{count}.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question number {n}: why?"}) + "\n" for n in range(count)))
    return path


def command(source: Path, url: str, place: Path, in_flight: int) -> list[str]:
    """`gristmill generate`, bound to a core where the system can do that."""
    asking = [sys.executable, "-m", "gristmill", "generate", str(source), "-m", f"{url}#mock", "--json"]
    asking += ["-o", f"{place}/out.parquet", "--run", f"{place}/run", "--concurrency", str(in_flight)]
    return ["taskset", "-c", "0", *asking] if hasattr(os, "sched_setaffinity") else asking


def main() -> None:
    given = [int(each) for each in sys.argv[1:3]]
    count, in_flight = [*given, *(20_000, 1_000)[len(given) :]]
    with tempfile.TemporaryDirectory() as place, mock_server("--latency", str(LATENCY)) as url:
        asking = command(prompts(Path(place), count), url, Path(place), in_flight)
        started = time.monotonic()
        done = subprocess.run(asking, check=True, stdout=subprocess.PIPE)
        wall = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)  # before the server is waited for
        summary = json.loads(done.stdout)
        size = (Path(place) / "run" / "calls.sqlite").stat().st_size
    assert summary["rows"] == count and not summary["failed"]
    rate, cpu = count / summary["seconds"], (used.ru_utime + used.ru_stime) / count * 1_000
    target = TARGETS.get(in_flight, 0)
    limit = in_flight / LATENCY
    shown = [f"{count:,}", f"{in_flight:,}", f"{rate:,.0f}", f"{target:,.0f}", f"{rate / limit:.0%}", f"{cpu:.2f}"]
    names = ["prompts", "in flight", "calls/s", "at least", "of the limit", "CPU s per 1,000"]
    table(
        [*names, "peak MiB", "ledger bytes a call", "whole command s"],
        [[*shown, f"{summary['peak_rss_mb']:,.0f}", f"{size / count:,.0f}", f"{wall:.1f}"]],
    )
    sys.exit(rate < target or cpu > MOST_CPU)


if __name__ == "__main__":
    main()
