"""Near duplicates end to end against rensa, datasketch and datatrove: `python bench/near_speed.py [ROWS] [PEER ...]`.

Each tool is a whole process that reads the same Parquet file and writes its result; all use word 5-grams, 96 hashes in
16 bands of 6. The peers get the text already normalised and do not verify their candidates; Gristmill normalises the
text itself and verifies every pair. Peers are installed into `.bench/`. Prints wall and CPU seconds, peak memory (the
largest process), the ratios, and the share of planted copies that each removed. Rows are grown from GSM8K and MATH
(MIT), GPTeacher (MIT) and LLaMA-Factory's Alpaca demo (Apache-2.0): answers of two or three sentences' worth of
different rows, 15 % exact and 15 % edited copies (1 to 5 % of the words).
"""

import os
import random
import resource
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from data import ROOT, rows, table

from gristmill.records import SCHEMAS, row_id

PLACE = ROOT / ".bench"
PEERS = {"rensa": ["rensa"], "datasketch": ["datasketch"], "datatrove": ["datatrove[processing]", "spacy"]}
TARGETS = {"rensa": 1.0, "datasketch": 8.0, "datatrove": 30.0}


def grown(count: int) -> str:
    """A Parquet file of `count` samples with the column `text`, made once."""
    path = PLACE / f"near_{count}.parquet"
    if path.exists():
        return str(path)
    random_ = random.Random(2026)
    pieces = [f"{r['question']} {r['answer']}" for r in rows("gsm8k/train")]
    pieces += [f"{r['problem']} {r['solution']}" for r in rows("math_test/math_test")]
    pieces += [f"{r['instruction']} {r['output']}" for r in rows("llamafactory_demos/alpaca_en_demo")]
    pieces += [f"{r['instruction']} {r['output']}" for r in rows("gpteacher_toolformer/toolformer")[::4]]
    sentences = [s for piece in pieces for s in piece.replace("\n", " ").split(". ") if len(s.split()) >= 5]
    texts: list[tuple[str, str]] = []
    while len(texts) < count:
        draw = random_.random()
        if draw < 0.70 or len(texts) < 100:
            response = ". ".join(random_.sample(sentences, random_.randint(4, 9)))
            texts.append((random_.choice(sentences), response))
        elif draw < 0.85:
            texts.append(random_.choice(texts))
        else:
            prompt, response = random_.choice(texts)
            words = response.split(" ")
            for place in random_.sample(range(len(words)), max(1, round(random_.uniform(0.01, 0.05) * len(words)))):
                words[place] = random_.choice(words)
            texts.append((prompt, " ".join(words)))
    random_.shuffle(texts)
    PLACE.mkdir(exist_ok=True)
    pq.write_table(as_table(texts), path, row_group_size=20_000)
    return str(path)


def as_table(texts: list[tuple[str, str]]) -> pa.Table:
    seen: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    for number, (prompt, response) in enumerate(texts):
        row: dict[str, Any] = {"prompt": [{"role": "user", "content": prompt, "extra": None}], "response": response}
        row["id"] = row_id("sample", row)
        row |= {"copy": seen.get(row["id"], 0), "source_file": "grown", "source_row": number}
        seen[row["id"]] = row["copy"] + 1
        row["text"] = " ".join(f"{prompt} {response}".lower().split())
        records.append(row)
    return pa.Table.from_pylist(records, schema=SCHEMAS["sample"].append(pa.field("text", pa.large_string())))


def python_of(peer: str) -> str:
    """The interpreter of a peer's own environment, made on first use."""
    if peer == "gristmill":
        return sys.executable
    folder = PLACE / peer
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "pyarrow", *PEERS[peer]], check=True)
        (folder / "installed").touch()
    return str(folder / "bin" / "python")


def run(peer: str, source: str) -> dict[str, float]:
    """One whole process: wall and CPU seconds, peak memory in MiB, and the rows it removed."""
    out = PLACE / f"out_{peer}"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    command = [python_of(peer), str(ROOT / "bench" / "peers" / f"near_{peer}.py"), source, str(out)]
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
        return pq.read_metadata(source).num_rows - sum(pq.read_metadata(f).num_rows for f in files)
    return int(sum(pq.read_table(out, columns=["duplicate"])["duplicate"].to_numpy()))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    peers = ["gristmill", *(sys.argv[2:] or PEERS)]
    source = grown(count)
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
