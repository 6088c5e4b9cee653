"""The whole filter natively and on two Ray nodes of one CPU each: `python bench/two_nodes.py [ROWS]`, 1,000,000.

Both are whole processes, one after the other, over the same JSONL files; the nodes are two raylets on this machine
(`tests/cluster.py`). Ray's start-up, which the ratio leaves out, is that of a third process that joins the nodes and
answers one trivial query. Peak memory is that of all processes together, the nodes' included, pages they share counted
once. Rows are identical if id, copy and the drop columns of `rows.parquet` are, in their order. Exits 1 if they are not
or if the ratio is above its target.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from data import ROOT, table
from grown import PLACE, files

from gristmill.records import DROPS
from tests.cluster import ENVIRONMENT, two_nodes

TARGET = 1.5
OBJECT_STORE = 1024
"""MiB of each node."""
TRIVIAL = """
import sys
from gristmill.runner import use_runner
use_runner(sys.argv[1])
import daft
daft.from_pydict({"a": [1, 2]}).where("a > 1").to_pydict()
"""


def run(*arguments: str) -> float:
    """Wall seconds of one whole process; ends the bench if it fails."""
    start = time.monotonic()
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - start


def filtered(runner: str, sources: list[str]) -> dict[str, Any]:
    """What a filter on a runner took and found: `seconds`, `mib`, the `stages` of its summary, and `rows`, a hash."""
    place = PLACE / f"two_nodes_{runner.split(':')[0]}"
    subprocess.run(["rm", "-rf", str(place)], check=True)
    out = place / "out"
    with Memory() as memory:
        seconds = run(
            *("-m", "gristmill", "filter", *sources, "-o", str(out), "--run", str(place / "run"), "--runner", runner)
        )
    summary = orjson.loads((out / "summary.json").read_bytes())
    stages = {stage["name"]: stage["seconds"] for stage in summary["stages"]}
    stages["signatures"] = next(step["seconds"] for step in summary["lineage"] if step["name"] == "signatures")
    return {"seconds": seconds, "mib": memory.peak, "stages": stages, "rows": digest(out / "rows.parquet")}


def digest(path: Path) -> str:
    """The hash of what became of every row, in order."""
    whole = hashlib.sha256()
    for batch in pq.ParquetFile(path).iter_batches(columns=["id", "copy", *DROPS.names]):
        whole.update(orjson.dumps(pa.Table.from_batches([batch]).to_pylist()))
    return whole.hexdigest()


class Memory:
    """The most MiB that this process and all below it held at once (Pss, sampled twice a second)."""

    def __init__(self) -> None:
        self.peak, self.ended = 0.0, Event()
        self.thread = Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.ended.wait(0.5):
            self.peak = max(self.peak, sum(map(_held, _below(os.getpid()))) / 1024)

    def __enter__(self) -> "Memory":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()


def _below(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines():
        pid, parent = map(int, line.split())
        children[parent].append(pid)
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _held(pid: int) -> int:
    """KiB of a process, its part of shared pages; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    sources = files(count)
    native = filtered("native", sources)
    with two_nodes(mib=OBJECT_STORE) as address:
        startup = run("-c", TRIVIAL, f"ray:{address}")
        ray = filtered(f"ray:{address}", sources)
    ratio, same = (ray["seconds"] - startup) / native["seconds"], native["rows"] == ray["rows"]
    print(f"{count:,} rows, {os.cpu_count()} cores\n")
    lines = [
        [
            name,
            f"{each['seconds']:.1f}",
            *(f"{seconds:.1f}" for seconds in each["stages"].values()),
            f"{each['mib']:,.0f}",
        ]
        for name, each in {"native": native, "two Ray nodes": ray}.items()
    ]
    table(["runner", "wall s", *native["stages"], "peak MiB"], lines)
    print(f"Ray's start-up {startup:.1f} s; rows {'identical' if same else 'DIFFER'}")
    print(f"(Ray - start-up) / native = {ratio:.2f}, target <= {TARGET:g}")
    sys.exit(not same or ratio > TARGET)


if __name__ == "__main__":
    main()
