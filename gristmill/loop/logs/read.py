"""Others' logs of evaluations to EVAL rows: which format a file has is told by its content.

| format | known by |
|---|---|
| Inspect | `.eval`, or a JSON object with `eval` and `status` |
| lm-evaluation-harness | `doc_id` and `resps` |
| TRL completions | `step`, `prompt`, `completion`, `advantage` |
| verl dump | `input`, `output`, `score` and `gts` or `step` |
| OpenAI-style batch | `custom_id` and `response` |
| rows | anything else the reader of tables knows, with scores |

A file that cannot be read is refused with the reason, and the others are read.

Not covered: logs larger than memory.
"""

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import zstandard

from gristmill.errors import BadInput, BadRow, UsageError
from gristmill.formats import Bad, format_of, named_files, raw_records
from gristmill.loop.logs import batch, inspect_log, lm_eval, plain, trainers
from gristmill.loop.logs.rows import Log


class Unread(NamedTuple):
    """A file that was refused."""

    file: str
    reason: str


def read_logs(paths: Sequence[str]) -> tuple[list[Log], list[Unread]]:
    """The files that paths, globs and directories name: those that were read, and those refused with the reason.

    Rows get `copy` (among equal ids) and, where the log has none, `sample` (among rows of one item and model), by their
    order over all files. Raises BadInput for a path that names no file, and where no file could be read.
    """
    files = [file for path in paths for file in _files(path)]
    held: dict[str, list[Mapping[str, Any]]] = {}
    logs: list[Log] = []
    unread: list[Unread] = []
    asked: dict[str, Mapping[str, Any]] = {}
    for file in files:
        try:
            if (log := _whole(file)) is not None:
                logs.append(log)
                continue
            records = _records(file)
            if batch.is_batch_request(records[0]):
                asked |= {str(each["custom_id"]): each["body"] for each in records if batch.is_batch_request(each)}
            else:
                held[file] = records
        except UsageError as error:
            unread.append(Unread(file, str(error).removeprefix(f"{file}: ")))
    for file, records in held.items():
        try:
            logs.append(_log(file, records, asked))
        except (UsageError, KeyError, TypeError, AttributeError) as error:  # a record is not of its format's shape
            reason = str(error) if isinstance(error, UsageError) else f"a record of another shape ({error!r})"
            unread.append(Unread(file, reason.removeprefix(f"{file}: ")))
    if not logs:
        if unread:
            raise BadInput(f"{unread[0].file}: {unread[0].reason}")
        raise BadInput(f"{' '.join(paths)}: requests of a batch and no answers; name the output beside them")
    _number(logs)
    return logs, unread


def _files(path: str) -> list[str]:
    if Path(path).is_dir():
        logs = sorted(map(str, Path(path).rglob("*.eval")))
        try:
            return sorted([*logs, *named_files(path)])
        except BadInput:
            if logs:
                return logs
            raise
    return named_files(path)


def _whole(file: str) -> Log | None:
    """The log that a file is as a whole; None for a file of records."""
    try:
        if file.endswith(".eval"):
            return inspect_log.read_eval(file)
        if format_of(file) != ".json":
            return None
        with fsspec.open(file, "rt", compression="infer", encoding="utf-8") as stream:
            found = json.load(stream)  # not orjson: Inspect writes NaN
        return inspect_log.read_json(file, found) if inspect_log.is_inspect(found) else None
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise BadInput(f"{file}: cannot be read ({' '.join(str(error).split())})") from error
    except (KeyError, TypeError, AttributeError) as error:  # a sample is not of Inspect's shape
        raise BadInput(f"{file}: a log of Inspect of another shape ({error!r})") from error
    except ValueError:
        return None  # no JSON object: perhaps records, whose reader tells what is wrong


def _records(file: str) -> list[Mapping[str, Any]]:
    if not format_of(file):
        raise BadInput(f"{file}: not a format Gristmill reads; allowed: .eval, .json, .jsonl, .parquet, .csv")
    records: list[Mapping[str, Any]] = []
    for place, record, _ in raw_records(file):
        if isinstance(record, Bad):
            raise BadRow(f"{file}: row {place}: {record.reason}")
        records.append(record)
    if not records:
        raise BadInput(f"{file}: holds no row")
    return records


def _log(file: str, records: Sequence[Mapping[str, Any]], asked: Mapping[str, Mapping[str, Any]]) -> Log:
    first = records[0]
    if lm_eval.is_lm_eval(first):
        return lm_eval.read_lm_eval(file, records)
    if trainers.is_trl(first):
        return trainers.read_trl(file, records)
    if trainers.is_verl(first):
        return trainers.read_verl(file, records)
    if batch.is_batch_output(first):
        return batch.read_batch(file, records, asked)
    return plain.read_plain(file, records)


def _number(logs: Sequence[Log]) -> None:
    copies: Counter[str] = Counter()
    samples: Counter[tuple[str, str, str | None]] = Counter()
    for log in logs:
        for place, row in enumerate(log.rows):
            row["copy"] = copies[row["id"]]
            copies[row["id"]] += 1
            row.setdefault("source_file", log.file)
            row.setdefault("source_row", place)
            key = (row["suite"], row["item"], row.get("model"))
            if row.get("sample") is None:
                row["sample"] = samples[key]
            samples[key] += 1
