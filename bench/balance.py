"""Does a planted bias raise the alarm, and a filter that looks at nothing none? Exits 1 if a target is missed.

Rows: alpaca52k (CC BY-NC), dolly3k (CC BY-SA) and lima1k (CC BY-NC-SA) as three sources, with dolly's categories as
tags, a skewed score of five values and a reward that is correlated 0.6 with the logarithm of the answer's length. Each
trial draws rows, drops some, and looks at all axes together. Last come published subsets of the same alpaca rows.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from data import rows, table, write
from numpy.typing import NDArray

from gristmill.files import read
from gristmill.filter import shift
from gristmill.filter.axes import axes, measured
from gristmill.filter.balance import SAMPLE, compare

shift.BOOTSTRAPS = 10  # intervals take half the time and decide nothing here

TRIALS = 100
SIZES = (50, 300, 2_000, 100_000)
KEEP = (0.05, 0.3, 0.5, 0.8, 0.95)
MOST_FALSE, LEAST_FOUND = 5, 95
FLAGS = ("claude_t45", "helpfulness_t45", "cherry_ifd_top5pct", "alpagasus_random9k")
RULES = ["", "planted", "random"]

Generator = np.random.Generator
Kept = NDArray[np.bool_]


def records() -> list[dict[str, Any]]:
    random_ = random.Random(3)
    found = []
    for source, given in (("alpaca", rows("alpaca52k/alpaca52k")), ("dolly", rows("dolly3k/dolly_3k"))):
        for row in given:
            row_ = {name: row[name] for name in ("instruction", "input", "output")}
            found.append(row_ | {"source": source, "tags": [row["category"]] if "category" in row else []})
            found[-1] |= {name: row.get(name, False) for name in FLAGS}
    for row in rows("lima1k/lima_1k"):
        asked, answer = (turn["value"] for turn in row["conversations"][:2])
        row_ = {"instruction": asked.rpartition("### Instruction: ")[2], "input": "", "output": answer}
        found.append(row_ | {"source": "lima", "tags": []} | dict.fromkeys(FLAGS, False))
    logs = np.log1p([len(row["output"].split()) for row in found])
    for row, z in zip(found, (logs - logs.mean()) / logs.std(), strict=True):
        row["score_reward"] = 0.6 * z + 0.8 * random_.gauss(0, 1)
        row["score_quality"] = random_.choices([1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 7, 30, 60])[0]
    return found


def logistic(slope: float) -> Callable[[pa.Table, Generator], Kept]:
    """Keep with a probability that rises with the logarithm of length; half of the rows are kept."""

    def keep(drawn: pa.Table, random_: Generator) -> Kept:
        z = np.log1p(drawn["length"].to_numpy())
        z = (z - z.mean()) / z.std()
        return random_.random(len(z)) < 1 / (1 + np.exp(-slope * z))

    return keep


def above(column: str, share: float) -> Callable[[pa.Table, Generator], Kept]:
    """Keep the rows above a quantile."""

    def keep(drawn: pa.Table, _: Generator) -> Kept:
        values = drawn[column].to_numpy()
        return values > np.quantile(values, share)

    return keep


def middle(drawn: pa.Table, _: Generator) -> Kept:
    values = drawn["length"].to_numpy()
    low, high = np.quantile(values, [0.25, 0.75])
    return (values >= low) & (values <= high)


def half_of_alpaca(drawn: pa.Table, random_: Generator) -> Kept:
    """The other sources are kept whole."""
    lost = np.array(drawn["source"].to_pylist()) == "alpaca"
    return ~(lost & (random_.random(len(lost)) < 0.7))


PLANTED: dict[str, tuple[str, Callable[[pa.Table, Generator], Kept], int | None]] = {
    "keeps the longer ones, log-odds 0.5 a standard deviation": ("length", logistic(0.5), None),
    "keeps the longer ones, log-odds 1": ("length", logistic(1.0), 300),
    "keeps the longer ones, log-odds 2": ("length", logistic(2.0), 300),
    "drops the shortest 15 %": ("length", above("length", 0.15), 300),
    "drops the shortest 30 %": ("length", above("length", 0.3), 300),
    "keeps the longest 10 %": ("length", above("length", 0.9), 300),
    "keeps the middle half of the lengths": ("length", middle, 300),
    "keeps the upper half by a reward correlated 0.6 with length": ("length", above("score_reward", 0.5), 300),
    "drops 70 % of the largest source": ("source", half_of_alpaca, 2_000),
}
"""What is planted: the axis that must be named, how, and the rows from which it must be found in 95 of 100."""


def drawn(whole: pa.Table, size: int, random_: Generator) -> pa.Table:
    """Rows at random; of more than the filter samples, as many as it samples."""
    return whole.take(pa.array(random_.choice(len(whole), min(size, SAMPLE), replace=False)))


def unbiased(whole: pa.Table) -> bool:
    lines, good = [], True
    for size in SIZES:
        flagged = []
        for keep in KEEP:
            alarms = 0
            for trial in range(TRIALS):
                random_ = np.random.default_rng([size, int(100 * keep), trial])
                part = drawn(whole, size, random_)
                rules = np.where(random_.random(len(part)) < keep, 0, random_.integers(1, 3, len(part)))
                alarms += bool(compare(axes(part), rules, RULES)["warnings"])
            flagged.append(alarms)
            good &= alarms <= MOST_FALSE
        lines.append((f"{size:,}", *flagged))
    print(f"Random filters: trials of {TRIALS} with any warning on any axis; at most {MOST_FALSE} allowed.\n")
    table(["rows", *(f"{keep:.0%} kept" for keep in KEEP)], lines)
    return good


def planted(whole: pa.Table) -> bool:
    lines, good = [], True
    for name, (axis, keep, least) in PLANTED.items():
        shown = []
        for size in SIZES:
            found = right = 0
            for trial in range(TRIALS):
                random_ = np.random.default_rng([size, trial])
                part = drawn(whole, size, random_)
                rules = np.where(keep(part, random_), np.where(random_.random(len(part)) < 0.05, 2, 0), 1)
                entries = compare(axes(part), rules, RULES)["axes"]
                message = next((entry["message"] for entry in entries if entry["name"] == axis), None) or ""
                found += bool(message)
                right += "by planted (" in message
            shown.append(found)
            if least and size >= least:
                good &= found >= LEAST_FOUND and right >= LEAST_FOUND
        lines.append((name, axis, *shown))
    print(f"Planted biases: trials of {TRIALS} in which the axis is named (and its rule, besides 5 % random drops).\n")
    table(["filter", "axis", *(f"{size:,} rows" for size in SIZES)], lines)
    return good


def real(whole: pa.Table, given: list[dict[str, Any]]) -> bool:
    alpaca = np.array([row["source"] == "alpaca" for row in given])
    part, lines, control = whole.filter(pa.array(alpaca)).drop_columns(["score_reward", "score_quality"]), [], True
    for flag in FLAGS:
        rules = np.array([0 if row[flag] else 1 for row in given])[alpaca]
        warnings = compare(axes(part), rules, ["", flag])["warnings"]
        lines += [(flag, int((rules == 0).sum()), warning) for warning in warnings or ["none"]]
        control &= flag != "alpagasus_random9k" or not warnings
    print("Published subsets of Alpaca, as filters of its rows.\n")
    table(["subset", "rows", "warning"], lines)
    return control


def main() -> None:
    given = records()
    with TemporaryDirectory() as folder:
        paths = [
            write(Path(folder) / f"{source}.jsonl", [row for row in given if row["source"] == source])
            for source in ("alpaca", "dolly", "lima")
        ]
        arrow = read(paths, max_bad=0.0).to_arrow()
    names = [Path(path).stem for path in arrow["source_file"].to_pylist()]
    arrow = arrow.set_column(
        arrow.schema.get_field_index("source_file"), "source_file", pa.array(names, pa.large_string())
    )
    whole = measured(arrow, "sample", pa.array(np.ones(len(arrow), bool)))
    print(f"{len(axes(whole))} axes\n")
    sys.exit(not (unbiased(whole) & planted(whole) & real(whole, given)))


if __name__ == "__main__":
    main()
