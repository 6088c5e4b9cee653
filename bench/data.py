"""Where the benches find their data, and how they print it."""

import gzip
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("GRISTMILL_DATA", ROOT.parent / "shared" / "data"))
"""Sets that may not be shipped; GRISTMILL_DATA names another place."""


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of DATA/name.jsonl.gz; ends the bench with a line where it is absent."""
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path} is not there: put the data sets into {DATA}, or name their place in GRISTMILL_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path: Path, records: Iterable[dict[str, Any]]) -> str:
    """Write records as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(map(str, line))} |")
    print(flush=True)
