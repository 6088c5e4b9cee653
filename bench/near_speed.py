"""Near duplicates end to end against rensa, datasketch and datatrove: `python bench/near_speed.py [ROWS] [PEER ...]`.

Each tool is a whole process that reads the same Parquet file and writes its result; all use word 5-grams, 96 hashes in
16 bands of 6. The peers get the text already normalised and do not verify their candidates; Gristmill normalises the
text itself and verifies every pair. Peers are installed into `.bench/`. Prints wall and CPU seconds, peak memory (the
largest process), the ratios, and what each removed. The rows are those of `grown.py`.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from data import ROOT, table
from grown import samples
from installed import PLACE, python_of

PEERS = {"rensa": ["rensa"], "datasketch": ["datasketch"], "datatrove": ["datatrove[processing]", "spacy"]}
TARGETS = {"rensa": 1.0, "datasketch": 8.0, "datatrove": 30.0}


def run(peer: str, source: str) -> dict[str, float]:
    """One whole process: wall and CPU seconds, peak memory in MiB, and the rows it removed."""
    out = PLACE / f"out_{peer}"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    python = sys.executable if peer == "gristmill" else python_of(peer, ["pyarrow", *PEERS[peer]])
    command = [python, str(ROOT / "bench" / "peers" / f"near_{peer}.py"), source, str(out)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "peak": usage.ru_maxrss / 1024, "removed": removed(peer, out, source)}


def removed(peer: str, out: Path, source: str) -> int:
    files = sorted(out.rglob("*.parquet")) if out.is_dir() else [out]
    if peer == "gristmill":
        return sum(len(t) - t["drop_rule"].null_count for t in (pq.read_table(f, columns=["drop_rule"]) for f in files))
    if peer == "datatrove":
        return sum(pq.read_metadata(f).num_rows for f in Path(source).iterdir()) - sum(
            pq.read_metadata(f).num_rows for f in files
        )
    return int(sum(pq.read_table(out, columns=["duplicate"])["duplicate"].to_numpy()))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    peers = ["gristmill", *(sys.argv[2:] or PEERS)]
    source = samples(count)
    # The two that take seconds run three times in turn, and the median counts: the machine may be shared.
    turns = [[peer for peer in peers if turn == 0 or peer in ("gristmill", "rensa")] for turn in range(3)]
    runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for turn in reversed(turns):
        for peer in turn:
            runs[peer].append(run(peer, source))
    results = {peer: sorted(done, key=lambda r: r["wall"])[len(done) // 2] for peer, done in runs.items()}
    ours = results["gristmill"]
    lines, good = [], True
    for peer, r in results.items():
        ratio, target = r["wall"] / ours["wall"], TARGETS.get(peer, 0)
        good &= ratio >= target
        shown = [peer, f"{r['wall']:.1f}", f"{r['cpu']:.1f}", f"{r['peak']:,.0f}", f"{r['removed']:,}"]
        lines.append([*shown, f"{ratio:.1f}", f"{r['cpu'] / ours['cpu']:.1f}", f">= {target:g}" if target else "-"])
    print(f"{count:,} rows, {os.cpu_count()} cores\n")
    table(["tool", "wall s", "CPU s", "peak MiB", "removed", "wall / ours", "CPU / ours", "target"], lines)
    sys.exit(not good)


if __name__ == "__main__":
    main()
