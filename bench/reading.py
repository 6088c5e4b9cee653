"""Reading JSONL: rows a second into a table with ids, and memory against the size of the file.

A file of 300,000 and one of 1,200,000 rows made of LLaMA-Factory's Alpaca demo (Apache-2.0) are scanned to Parquet as
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
start = time.monotonic()
with daft.execution_config_ctx(parquet_target_filesize=WORK_FILE):
    scan(sys.argv[1]).write_parquet(sys.argv[2])
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    base = rows("llamafactory_demos/alpaca_en_demo")
    lines, peaks = [], []
    with TemporaryDirectory(dir=ROOT / ".bench") as folder:
        for count in (300_000, 1_200_000):
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
            seconds, peak = map(float, done.stdout.split())
            peaks.append(peak)
            lines.append(
                [f"{count:,}", f"{path.stat().st_size / 2**20:,.0f}", f"{count / seconds:,.0f}", f"{peak:,.0f}"]
            )
    table(["rows", "file MiB", "rows/s", "peak MiB"], lines)
    sys.exit(peaks[1] > 1.5 * peaks[0])


if __name__ == "__main__":
    main()
