"""Samples of lm-evaluation-harness (`samples_TASK_DATE.jsonl`, https://github.com/EleutherAI/lm-evaluation-harness).

The harness writes a row for every filter of an item (GSM8K: two), so counting rows counts items twice. Here an item is
one row, with a score for each metric and, where there are several, each filter: `score_exact_match_strict_match`
beside `score_exact_match_flexible_extract`. Files are appended to when a task is run again: of the same item and filter
the last one counts. Of a multiple-choice item the response is the likeliest choice, and its share of the likelihood is
`confidence` in `meta`.

Not covered: metrics that are not numbers (for corpora); several samples of an item (`repeats`), of which the first is
the response.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from gristmill.loop.logs.rows import Log, Row, eval_row, number

NAME = re.compile(r"samples_(.+?)(_\d{4}-\d{2}-\d{2}T[\d:.-]+)?\.jsonl")


def is_lm_eval(record: Mapping[str, Any]) -> bool:
    """Whether a record is a sample of the harness."""
    return "doc_id" in record and "resps" in record


def read_lm_eval(file: str, records: Sequence[Mapping[str, Any]]) -> Log:
    """The rows of a file's records, one an item."""
    found = NAME.match(PurePosixPath(file).name)
    items: dict[str, dict[str, Mapping[str, Any]]] = {}
    again = 0
    for record in records:
        filters = items.setdefault(str(record.get("doc_hash") or record["doc_id"]), {})
        kind = str(record.get("filter") or "none")
        again += kind in filters
        filters[kind] = record
    notes = [f"{again} rows of an earlier run of the same items left out"] if again else []
    kinds = {kind for filters in items.values() for kind in filters}
    if len(kinds) > 1:
        notes.append(f"{len(kinds)} filters of each item counted once: {', '.join(sorted(kinds))}")
    suite = found[1] if found else "lm_eval"
    rows = [_row(suite, filters, named=len(kinds) > 1) for filters in items.values()]
    return Log(file, "lm-eval", rows, notes)


def _row(suite: str, filters: Mapping[str, Mapping[str, Any]], *, named: bool) -> Row:
    record = next(iter(filters.values()))
    scores = {
        f"{metric}_{kind}" if named else metric: number(each.get(metric))
        for kind, each in filters.items()
        for metric in each.get("metrics") or ()
        if not isinstance(each.get(metric), list | Mapping)
    }
    arguments = record.get("arguments") or {}
    asked = [arguments[name] for name in sorted(arguments)] if isinstance(arguments, Mapping) else list(arguments)
    first = _parts(asked[0]) if asked else [None]
    doc = record.get("doc")
    meta = dict(doc) if isinstance(doc, Mapping) else {}
    response, confidence = _response(record["resps"], asked)
    if confidence is not None:
        meta["confidence"] = confidence
    return eval_row(
        first[0] or None,
        response,
        suite=suite,
        item=record.get("doc_hash") or record["doc_id"],
        scores=scores,
        reference=None if record.get("target") is None else str(record["target"]),
        sample=0,
        meta=meta,
    )


def _parts(request: Any) -> list[Any]:
    """A request's context and continuation, which are keyed `arg_0`, `arg_1`, or a list."""
    return [request[name] for name in sorted(request)] if isinstance(request, Mapping) else list(request)


def _response(resps: Any, asked: Sequence[Any]) -> tuple[str | None, float | None]:
    """What was generated, or the likeliest choice with its share of the likelihood."""
    firsts = [each[0] if isinstance(each, list) and each else each for each in resps]
    if len(asked) < 2 or len(firsts) != len(asked) or not all(isinstance(each, list | tuple) for each in firsts):
        return (None if not firsts else str(firsts[0])), None
    likely = np.array([value if isinstance(value := number(each[0]), float) else -np.inf for each in firsts])
    best = int(likely.argmax())
    share = float(1 / np.exp(likely - likely[best]).sum()) if np.isfinite(likely[best]) else None
    return str(_parts(asked[best])[-1]), share
