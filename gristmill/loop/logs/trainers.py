"""What trainers leave of their rollouts: TRL's completions (`completions_STEP.parquet`) and verl's dumps.

TRL (GRPOTrainer, `log_completions`) writes step, prompt, completion, a column for each reward, and the advantage. verl
(`trainer.rollout_data_dir`) writes JSON lines of input, output, gts, score, step and further values. An item is a
prompt; every step is another model, so `model` names the step.

Not covered: pictures; token ids.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from gristmill.loop.logs.rows import Log, Row, eval_row, last_said, number

TRL_OWN = {"step", "prompt", "completion", "advantage"}
VERL_OWN = {"input", "output", "gts", "step"}


def is_trl(record: Mapping[str, Any]) -> bool:
    """Whether a record is one of TRL's completions."""
    return record.keys() >= TRL_OWN


def is_verl(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a dump of verl."""
    return record.keys() >= {"input", "output", "score"} and ("gts" in record or "step" in record)


def read_trl(file: str, records: Sequence[Mapping[str, Any]]) -> Log:
    """The rows of TRL's completions: every numeric column beside its own is a score."""
    rewards = {name for record in records for name in record if name not in TRL_OWN and _numeric(record[name])}
    rows = [
        _row(
            "trl",
            record["prompt"],
            last_said(record["completion"]),
            record["step"],
            scores={name: number(record.get(name)) for name in sorted(rewards)},
            meta={
                name: value for name, value in record.items() if name not in rewards | {"step", "prompt", "completion"}
            },
        )
        for record in records
    ]
    return Log(file, "trl", rows, [])


def read_verl(file: str, records: Sequence[Mapping[str, Any]]) -> Log:
    """The rows of a dump of verl: `score` and every other number beside it is a score."""
    rows = []
    for record in records:
        scores = {name: number(value) for name, value in record.items() if name not in VERL_OWN and _numeric(value)}
        rest = {name: value for name, value in record.items() if name not in VERL_OWN | scores.keys()}
        row = _row("verl", record["input"], record["output"], record.get("step"), scores=scores, meta=rest)
        truth = record.get("gts")
        row["reference"] = truth if truth is None or isinstance(truth, str) else orjson.dumps(truth).decode()
        rows.append(row)
    return Log(file, "verl", rows, [])


def _row(
    suite: str, prompt: Any, response: Any, step: Any, *, scores: Mapping[str, Any], meta: Mapping[str, Any]
) -> Row:
    item = blake2b(orjson.dumps(prompt), digest_size=16).hexdigest()
    model = None if step is None else f"step {step}"
    return eval_row(prompt, response, suite=suite, item=item, scores=scores, model=model, meta=meta)


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float)
