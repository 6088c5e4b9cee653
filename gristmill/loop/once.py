"""A step of a loop that is done once: its account lies beside what it wrote, and says what it was made from.

The account is written last, so that its being there says that the step was finished; it is believed while the parts
that the step is made from are the same, the file is as it was written and the run knows it. What a step took is in it,
so that a loop that was killed and started again neither loses those figures nor counts them twice: calls whose answers
the ledger gives again count once, as calls of the step that ended.

Not covered: the seconds of a step that was killed before its end.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from gristmill import __version__
from gristmill.keys import file_hash, key_of
from gristmill.run import Run

Row = dict[str, Any]

TOOK = ("calls", "tokens_in", "tokens_out", "money", "seconds")
"""What a step took. Calls count with those that the ledger answered; money is that of their prices."""


def once(
    account: Path, parts: Mapping[str, Any], make: Callable[[], Mapping[str, Any]], *, run: Run, out: Path | None = None
) -> Row:
    """What `make` told when it had written `out` (None: it writes nothing), with what it took as `took`.

    It is made now, unless it was finished before from the same `parts` (JSON).
    """
    key = key_of({"gristmill": __version__, **parts})
    if told := _known(account, key, run, out):
        return told
    started = time.monotonic()
    told = dict(make())
    took = {name: told.get(name) or 0 for name in ("calls", "tokens_in", "tokens_out")}
    took |= {"money": told.get("cost") or 0.0, "seconds": round(time.monotonic() - started, 2)}
    told["took"] = took
    write_json(account, {"key": key, "hash": file_hash(out) if out and out.is_file() else None, "told": told})
    again: Row = read_json(account)["told"]  # as it will be read: tuples are lists
    return again


def _known(account: Path, key: str, run: Run, out: Path | None) -> Row | None:
    try:
        written = read_json(account)
    except (OSError, orjson.JSONDecodeError):
        return None
    if written.get("key") != key:
        return None
    if written["hash"] and not (out and out.is_file() and file_hash(out) == written["hash"] and _registered(run, out)):
        return None
    told: Row = written["told"]
    return told


def _registered(run: Run, out: Path) -> bool:
    return any(each.path == str(out.resolve()) for each in run.outputs())


def total(took: list[Row]) -> Row:
    """What several steps took together."""
    return {name: round(sum(each[name] for each in took), 6) for name in TOOK}


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    partial.replace(path)


def read_json(path: Path) -> Any:
    """What a file of JSON holds."""
    return orjson.loads(path.read_bytes())
