"""What made a model: `gristmill.json` in its directory, and the way from it back to the rows.

Not covered: models that something else trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from gristmill.errors import UsageError
from gristmill.ledger import is_run, ledger_of

ABOUT = "gristmill.json"

LOG = "training.jsonl"
"""What the trainer logged, one line each time."""


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a model."""
    raw = orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)
    (directory / ABOUT).write_bytes(raw)


def record_of(directory: Path) -> dict[str, Any]:
    """The record of a model. Raises UsageError where there is none."""
    try:
        found = orjson.loads((directory / ABOUT).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise UsageError(f"{directory}: no {ABOUT} there; name a model that gristmill trained") from None
    return dict(found)


def is_model(path: Path) -> bool:
    """Whether a path is the directory of a model that gristmill made."""
    return (path / ABOUT).is_file() and not (path / "rows.parquet").exists()


def told(directory: Path) -> dict[str, Any]:
    """The record of a model with `steps`: those of its run that its rows went through, the newest first, as
    {name, key, rows, created, inputs}; empty where the run is not there any more."""
    record = record_of(directory)
    data = record.get("data") or {}
    run = Path(data.get("run", ""))
    steps = []
    if data.get("step") and is_run(run):
        ledger = ledger_of(run)
        left = [data["step"]]
        while left:
            step = ledger.step(left.pop(0))
            if step:
                steps.append(
                    {
                        "name": step.name,
                        "key": step.key,
                        "rows": step.rows,
                        "created": step.created,
                        "inputs": [each["name"] for each in step.inputs],
                    }
                )
                left += [each["key"] for each in step.inputs if "key" in each]
    return {**record, "steps": steps}
