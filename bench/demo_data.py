"""Make the data that ships with the package from GSM8K (MIT): `python bench/demo_data.py DATA_DIRECTORY`.

DATA_DIRECTORY holds `gsm8k/train.jsonl.gz`, `gsm8k/test.jsonl.gz` and `gsm8k_rollouts/example_model_solutions.jsonl.gz`
as in https://github.com/openai/grade-school-math. Half of the test questions become the evaluation of the demo; the
solutions of four models to all of them, with the verdict their authors recorded, are what it leaks into.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

TRAIN_ROWS = 3_000
OUT = Path(__file__).parent.parent / "gristmill" / "data"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def write(name: str, records: Iterable[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (OUT / name).write_bytes(zstandard.compress(lines.encode(), 19))


def main(data: Path) -> None:
    train = list(rows(data / "gsm8k/train.jsonl.gz"))[:TRAIN_ROWS]
    write("gsm8k_train.jsonl.zst", ({"question": r["question"], "answer": r["answer"]} for r in train))
    test = list(rows(data / "gsm8k/test.jsonl.gz"))[::2]
    write("gsm8k_test_half.jsonl.zst", ({"question": r["question"], "answer": r["answer"]} for r in test))
    solutions = rows(data / "gsm8k_rollouts/example_model_solutions.jsonl.gz")
    write(
        "gsm8k_solutions.jsonl.zst",
        (
            {
                "question": r["question"],
                "response": r["solution"],
                "model": r["model"],
                "score_correct": int(r["is_correct"]),
            }
            for r in solutions
        ),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
