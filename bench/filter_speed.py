"""The whole filter on grown rows: `python bench/filter_speed.py [ROWS]`; exits 1 if a target is missed.

All default rules, exact and near duplicates, contamination against two evaluations (GSM8K test and HumanEval), balance,
collapse metrics and the report, JSONL in, the output directory out, with a run. Prints where the time goes.
"""

import json
import shutil
import subprocess
import sys

from data import DATA, table
from grown import PLACE, files

TARGETS = {1_000_000: (300, 4 * 1024), 5_000_000: (float("inf"), 10 * 1024)}
"""Seconds and MiB by rows."""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    out, run = PLACE / "out_filter", PLACE / "run_filter"
    for left in (out, run):
        shutil.rmtree(left, ignore_errors=True)
    against = [str(DATA / "gsm8k" / "test.jsonl.gz"), str(DATA / "humaneval" / "HumanEval.jsonl.gz")]
    command = [sys.executable, "-m", "gristmill", "filter", *files(count), "--against", *against]
    subprocess.run([*command, "-o", str(out), "--run", str(run), "--json"], check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((out / "summary.json").read_bytes())
    lines = [(s["name"], f"{s['rows_in']:,}", f"{s['dropped']:,}", f"{s['seconds']:.1f}") for s in summary["stages"]]
    table(["stage", "rows in", "dropped", "seconds"], lines)
    steps = [(s["name"], f"{s['seconds']:.1f}", f"{s['bytes'] / 2**20:,.0f}") for s in summary["lineage"]]
    table(["step of the run", "seconds", "MiB stored"], steps)
    seconds, peak = summary["seconds"], summary["peak_rss_mb"]
    most_seconds, most_peak = TARGETS.get(count, (float("inf"), float("inf")))
    shown = [f"{count:,}", f"{seconds:.0f}", f"{most_seconds:g}", f"{peak:,.0f}", f"{most_peak:,g}"]
    table(["rows", "seconds", "at most", "peak MiB", "at most"], [shown])
    sys.exit(seconds > most_seconds or peak > most_peak)


if __name__ == "__main__":
    main()
