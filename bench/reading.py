"""Reading JSONL: rows a second into a table with ids, and memory against the size of the file.

A file of 600,000 and one of 1,800,000 rows made of LLaMA-Factory's Alpaca demo (Apache-2.0) are scanned to Parquet as
the filter does it, in a process each. The larger file may take no more than 1.5 times the memory of the smaller.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from data import ROOT, rows, table

CODE = """
import resource, sys, time
import daft
from gristmill.files import scan
from gristmill.filter.pipeline import WORK_FILE
from gristmill.formats import raw_records
start = time.monotonic()
for _ in raw_records(sys.argv[1]):
    pass
print(time.monotonic() - start)
start = time.monotonic()
with daft.execution_config_ctx(parquet_target_filesize=WORK_FILE):
    scan(sys.argv[1]).write_parquet(sys.argv[2])
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    base = rows("llamafactory_demos/alpaca_en_demo")
    lines, peaks = [], []
    with TemporaryDirectory(dir=ROOT / ".bench") as folder:
        for count in (600_000, 1_800_000):
            path = Path(folder) / "rows.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for n in range(count):
                    row = base[n % len(base)]
                    record = {
                        "instruction": f"{row['instruction']} {n}",
                        "input": row["input"],
                        "output": row["output"][:600],
                    }
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            command = [sys.executable, "-c", CODE, str(path), f"{folder}/out{count}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            parsing, seconds, peak = map(float, done.stdout.split())
            peaks.append(peak)
            rates = [f"{count / parsing:,.0f}", f"{count / seconds:,.0f}"]
            lines.append([f"{count:,}", f"{path.stat().st_size / 2**20:,.0f}", *rates, f"{peak:,.0f}"])
    table(["rows", "file MiB", "parsed rows/s", "table rows/s", "peak MiB"], lines)
    sys.exit(peaks[1] > 1.5 * peaks[0])


if __name__ == "__main__":
    main()
