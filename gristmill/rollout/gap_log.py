"""Logged rollouts as evaluations of the gap, and the evidence that a halt leaves behind.

A log is any file with one output a row: the step, the prompt, the output, and two numbers, proxy and gold. TRL's
completions and verl's dumps are such files once a gold score was added to them (`gristmill score`).

Not covered: scoring (`score/`), stopping a trainer (`train/`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from gristmill.errors import BadInput, UsageError
from gristmill.formats import Bad, expand, raw_records
from gristmill.rollout.gap import Alarm, Evaluation, best, evaluation, watch

Row = Mapping[str, Any]

OVERLAP = 0.8
"""The share of the first step's prompts that a step must have to be compared with it."""

TOP = 20
"""Outputs in the evidence: the highest proxy minus gold."""


class Columns(NamedTuple):
    """What the columns of a log are called."""

    proxy: str
    gold: str
    step: str = "step"
    prompt: str = "prompt"
    output: str = "completion"


class Log(NamedTuple):
    """A log in memory."""

    evaluations: list[Evaluation]
    alarms: list[Alarm]
    left_out: dict[int, str]
    """Steps that cannot be compared with the first, and why."""
    worst: list[dict[str, Any]]
    """The outputs of the newest steps with the highest proxy minus gold."""


def read_log(paths: Sequence[str], columns: Columns) -> Log:
    """The evaluations of a log, by step. Steps with other prompts than the first are left out.

    Raises UsageError for a column that is not there and for gold that is the proxy, BadInput for rows that cannot be
    read.
    """
    if columns.proxy == columns.gold:
        raise UsageError(f"--gold {columns.gold}: the gold is the proxy itself; it must never be among the rewards")
    rows = list(_rows(paths, columns))
    steps: dict[int, dict[str, list[Row]]] = {}
    for row in rows:
        steps.setdefault(int(row["step"]), {}).setdefault(row["prompt"], []).append(row)
    if not steps:
        raise BadInput(f"{' '.join(paths)}: no rows; name a log of rollouts")
    first = steps[min(steps)]
    evaluations, left_out = [], {}
    for step in sorted(steps):
        common = [prompt for prompt in first if prompt in steps[step]]
        if len(common) < OVERLAP * len(first):
            left_out[step] = f"has {len(common):,} of the first step's {len(first):,} prompts"
            continue
        proxy = [[row["proxy"] for row in steps[step][prompt]] for prompt in common]
        gold = [[row["gold"] for row in steps[step][prompt]] for prompt in common]
        evaluations.append(evaluation(step, proxy, gold))
    alarms = watch(evaluations)
    return Log(evaluations, alarms, left_out, _worst(rows, evaluations))


def _rows(paths: Sequence[str], columns: Columns) -> Iterable[dict[str, Any]]:
    for file in expand(list(paths)):
        for number, record, _ in raw_records(file):
            if isinstance(record, Bad):
                raise BadInput(f"{file}:{number}: {record.reason}")
            needed = (columns.proxy, columns.gold, columns.step, columns.prompt)
            if missing := next((name for name in needed if name not in record), None):
                raise UsageError(f"{file}:{number}: no column {missing!r}; it has {', '.join(sorted(record))}")
            try:
                yield {
                    "step": int(record[columns.step]),
                    "prompt": _text(record[columns.prompt]),
                    "output": _text(record.get(columns.output, record.get("response", ""))),
                    "proxy": _number(record[columns.proxy]),
                    "gold": _number(record[columns.gold]),
                }
            except (TypeError, ValueError) as error:
                raise UsageError(f"{file}:{number}: {error}; steps are whole numbers, scores are numbers") from None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _worst(rows: Sequence[Row], evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Of the last five steps, with the proxy brought to the gold's mean and spread, so that scales do not matter."""
    newest = {each.step for each in evaluations[-5:]}
    recent = [row for row in rows if row["step"] in newest and not np.isnan([row["proxy"], row["gold"]]).any()]
    if not recent:
        return []
    proxy, gold = (np.array([row[name] for row in recent]) for name in ("proxy", "gold"))
    scaled = (proxy - proxy.mean()) / (proxy.std() or 1.0) * (gold.std() or 1.0) + gold.mean()
    order = np.argsort(gold - scaled, kind="stable")[:TOP]
    return [dict(recent[place]) for place in order]


def summary(log: Log) -> dict[str, Any]:
    """The state of a log as JSON."""
    newest, top = log.alarms[-1], best(log.evaluations)
    return {
        "status": newest.status,
        "why": newest.why,
        "step": newest.step,
        "evaluations": len(log.evaluations),
        "left_out": {str(step): why for step, why in log.left_out.items()},
        "first_warn": next((each.step for each in log.alarms if each.status in ("warn", "halt")), None),
        "first_halt": next((each.step for each in log.alarms if each.status == "halt"), None),
        "best_gold": {"step": top.step, "gold": top.gold} if top else None,
        "curve": [
            {"step": e.step, "proxy": _null(e.proxy), "gold": _null(e.gold), "status": a.status, "cusum": a.cusum}
            for e, a in zip(log.evaluations, log.alarms, strict=True)
        ],
    }


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_evidence(log: Log, directory: Path) -> None:
    """`report.json`, and `counterexamples.jsonl`: the outputs whose proxy is highest over their gold, with both, to be
    labelled and added to the data of the reward model."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_bytes(orjson.dumps(summary(log), option=orjson.OPT_INDENT_2))
    with (directory / "counterexamples.jsonl").open("wb") as file:
        for row in log.worst:
            file.write(orjson.dumps(row) + b"\n")
