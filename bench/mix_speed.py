"""Ten sources to one mix, beside datasets.interleave_datasets: `python bench/mix_speed.py [ROWS [PEER_ROWS]]`.

Both read Parquet files of the same kind (real sentences, 330 characters a row) and write one Parquet file in the same
shares; whole processes. The sources are as large as their shares and a little more, so that nothing is repeated and the
peer stops at about its rows. ROWS is 10,000,000 and PEER_ROWS as many; with fewer, rates are compared. The peer is
map-style, which is its quicker way (streaming took twice the CPU time); its conversion of Parquet to Arrow (`load`) is
shown, and left out of the ratio. At the end the same mix of ROWS / 10 on the native runner and on Ray is compared row
by row. `datasets` is installed into `.bench/`.
"""

import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from data import ROOT, table
from grown import PLACE, texts

from gristmill.records import MESSAGES, SCHEMAS

SHARES = dict(zip("abcdefghij", (0.2, 0.18, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02), strict=True))
TARGET, MEMORY = 5.0, 2_048
FILE_ROWS, GROUP_ROWS = 200_000, 10_000


def sources(rows: int) -> Path:
    """A folder a source, each of a hundredth more rows than its share of `rows` (and 2,000 more)."""
    place = PLACE / f"mix_{rows}"
    if place.exists():
        return place
    partial = place.with_suffix(".partial")
    rng = np.random.default_rng(2026)
    pool = pa.array([s for pair in texts(20_000) for s in pair], pa.large_string())
    pool = pool.filter(pc.less(pc.utf8_length(pool), 500))
    for name, share in SHARES.items():
        (partial / name).mkdir(parents=True, exist_ok=True)
        left, number = int(rows * share * 1.01) + 2_000, 0
        while left:
            count = min(left, FILE_ROWS)
            pq.write_table(_rows(count, pool, rng, name, number), partial / name / f"{number:03}.parquet",
                           compression="zstd", row_group_size=GROUP_ROWS)  # fmt: skip
            left, number = left - count, number + 1
    partial.rename(place)
    return place


def _rows(count: int, pool: pa.Array, rng: np.random.Generator, name: str, number: int) -> pa.Table:
    raw = rng.bytes(16 * count).hex()  # ids of no content, but as many different ones
    ids = pa.array([f"g1:{raw[n : n + 32]}" for n in range(0, len(raw), 32)])
    prompts = pool.take(pa.array(rng.integers(0, len(pool), count)))
    role = pa.array(["user"] * count, pa.large_string())
    turn = pa.StructArray.from_arrays(
        [role, prompts, pa.nulls(count, pa.large_string())], fields=list(MESSAGES.value_type)
    )
    known = {
        "id": ids.cast(pa.large_string()),
        "copy": pa.array(np.zeros(count, np.int64)),
        "source_file": pa.array([f"{name}.jsonl"] * count, pa.large_string()),
        "source_row": pa.array(np.arange(count) + number * FILE_ROWS),
        "prompt": pa.LargeListArray.from_arrays(pa.array(np.arange(count + 1)), turn).cast(MESSAGES),
        "response": pool.take(pa.array(rng.integers(0, len(pool), count))),
    }
    schema = SCHEMAS["sample"]
    return pa.table([known.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def mix_file(place: Path, rows: int) -> Path:
    lines = [f"rows: {rows}", "by: rows", "seed: 7", "floors: {general: 0}", "sources:"]
    lines += [f"  - {{name: {n}, files: '{place}/{n}/*.parquet', share: {s}}}" for n, s in SHARES.items()]
    file = PLACE / f"mix_{rows}.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def run(command: list[str]) -> tuple[float, float, float, str]:
    """Wall and CPU seconds, the most memory in MiB, and what was printed last."""
    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=PLACE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed.splitlines()[-1]


def ours(place: Path, rows: int, out: str, *more: str) -> tuple[float, float, float, str]:
    command = [sys.executable, "-m", "gristmill", "mix", str(mix_file(place, rows)), "-o", out, "--run", "run_mix"]
    return run([*command, "--json", "--force", *more])


def peer() -> str:
    """The interpreter of the peer's own environment, made on first use; GRISTMILL_DATASETS names another."""
    if named := os.environ.get("GRISTMILL_DATASETS"):
        return named
    folder = PLACE / "datasets"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "datasets"], check=True)
        (folder / "installed").touch()
    return str(folder / "bin" / "python")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    peer_rows = int(sys.argv[2]) if len(sys.argv) > 2 else rows
    PLACE.mkdir(exist_ok=True)
    place = sources(rows)
    wall, cpu, peak, told = ours(place, rows, "mix.parquet")
    made = json.loads(told)
    command = [
        peer(),
        str(ROOT / "bench" / "peers" / "mix_datasets.py"),
        str(sources(peer_rows)),
        "mix_datasets.parquet",
    ]
    their_wall, their_cpu, their_peak, said = run([*command, json.dumps(SHARES)])
    parts = json.loads(said)
    work = parts["interleave"] + parts["write"]
    exact = max(abs(each["rows"] - SHARES[each["name"]] * rows) for each in made["sources"])
    header = ["tool", "rows", "wall s", "CPU s", "peak MiB", "rows/s"]
    lines = [
        ["gristmill", f"{made['rows']:,}", f"{wall:.1f}", f"{cpu:.1f}", f"{peak:,.0f}", f"{made['rows'] / wall:,.0f}"],
        ["datasets, without its load", f"{parts['rows']:,}", f"{work:.1f}", "-", "-", f"{parts['rows'] / work:,.0f}"],
        ["datasets, whole", f"{parts['rows']:,}", f"{their_wall:.1f}", f"{their_cpu:.1f}", f"{their_peak:,.0f}",
         f"{parts['rows'] / their_wall:,.0f}"],
    ]  # fmt: skip
    print(f"{rows:,} rows of {len(SHARES)} sources, {os.cpu_count()} cores\n")
    table(header, lines)
    ratio = (made["rows"] / wall) / (parts["rows"] / work)
    print(f"{ratio:.1f} times its rows a second (target {TARGET:g}); shares off by {exact:g} rows at most; {parts}")
    ours(place, rows // 10, "mix_native.parquet")
    ours(place, rows // 10, "mix_ray.parquet", "--runner", "ray")
    native, ray = (pq.ParquetFile(PLACE / f"mix_{name}.parquet").iter_batches(50_000) for name in ("native", "ray"))
    same = all(one.equals(other) for one, other in zip(native, ray, strict=True))
    print(f"the same {rows // 10:,} rows in the same order on Ray: {same}")
    sys.exit(not (ratio >= TARGET and peak <= MEMORY and exact < 1 and same))


if __name__ == "__main__":
    main()
