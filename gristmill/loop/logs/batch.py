"""Outputs of OpenAI-style batches (https://platform.openai.com/docs/guides/batch): answers by `custom_id`.

An output does not repeat its request: given the file of requests beside it, prompts are joined by `custom_id`; without
it they are empty. Failed requests are rows with an `error`.

Not covered: scores, of which a batch has none (`gristmill score`); embeddings and other endpoints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gristmill.loop.logs.rows import Log, Row, eval_row, text_of


def is_batch_output(record: Mapping[str, Any]) -> bool:
    """Whether a record is an answer of a batch."""
    return "custom_id" in record and ("response" in record or "error" in record)


def is_batch_request(record: Mapping[str, Any]) -> bool:
    """Whether a record is a request of a batch."""
    return "custom_id" in record and isinstance(record.get("body"), Mapping)


def read_batch(file: str, records: Sequence[Mapping[str, Any]], asked: Mapping[str, Mapping[str, Any]]) -> Log:
    """The rows of a batch's answers; `asked` are the bodies of requests by `custom_id`."""
    rows = [row for record in records for row in _rows(record, asked.get(str(record["custom_id"]), {}))]
    failed = sum(row["error"] is not None for row in rows)
    without = sum(str(record["custom_id"]) not in asked for record in records)
    notes = [f"{failed} requests failed"] if failed else []
    if without:
        notes.append(f"{without} prompts unknown: name the file of requests beside it")
    return Log(file, "openai-batch", rows, notes)


def _rows(record: Mapping[str, Any], request: Mapping[str, Any]) -> list[Row]:
    answer = record.get("response") or {}
    body = answer.get("body") or {}
    failure = record.get("error") or body.get("error")
    if not failure and int(answer.get("status_code") or 200) >= 400:
        failure = {"message": f"status {answer['status_code']}"}
    usage = body.get("usage") or {}
    made = []
    for place, choice in enumerate([{}] if failure else body.get("choices") or [{}]):
        said = choice.get("message") or {}
        made.append(
            eval_row(
                request.get("messages"),
                text_of(said.get("content")),
                suite="batch",
                item=record["custom_id"],
                sample=place,
                scores={},
                reasoning=said.get("reasoning_content"),
                model=body.get("model") or request.get("model"),
                finish_reason=choice.get("finish_reason"),
                tokens_in=None if place else usage.get("prompt_tokens"),
                tokens_out=None if place else usage.get("completion_tokens"),
                error=str(failure.get("message") if isinstance(failure, Mapping) else failure) if failure else None,
            )
        )
    return made
