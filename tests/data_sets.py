"""Published data that tests may use where it lies: not shipped, in ../shared/data or where GRISTMILL_DATA says."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("GRISTMILL_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of DATA/name.jsonl.gz; skips the test where it is absent."""
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}: the data set {name} is not shipped; GRISTMILL_DATA names its place")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
