"""Rows as chat messages.

The shapes are those of TRL (https://huggingface.co/docs/trl/dataset_formats), conversational form: `messages` for
samples; `prompt` for prompts; `prompt`, `chosen` and `rejected` for preferences; `prompt`, `completion` and `label` for
labels.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gristmill.records import Kind


def training_row(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a table as the object a trainer reads; tool calls and names packed in `extra` are unpacked."""
    prompt = [message(turn) for turn in row["prompt"]]
    if kind == "prompt":
        trained: dict[str, Any] = {"prompt": prompt}
    elif kind == "sample":  # a row nobody answered is what there is of it
        trained = {"messages": [*prompt, answer(row["response"])] if row["response"] is not None else prompt}
    elif kind == "preference":
        trained = {"prompt": prompt, "chosen": [answer(row["chosen"])], "rejected": [answer(row["rejected"])]}
    else:
        trained = {"prompt": prompt, "completion": [answer(row["response"] or "")], "label": row["label"]}
    if row.get("tools"):
        trained["tools"] = tools_of(row)
    return trained


def tools_of(row: Mapping[str, Any]) -> Any:
    """The tools of a row as the JSON they are; None where it has none."""
    tools = row.get("tools")
    return orjson.loads(tools) if tools and tools[:1] in "[{" else tools


def message(turn: Mapping[str, str | None]) -> dict[str, Any]:
    """A turn as a message, with what it carries beside its text."""
    message: dict[str, Any] = {"role": turn["role"], "content": turn["content"]}
    if turn["extra"]:
        message |= orjson.loads(turn["extra"])
    return message


def answer(text: str) -> dict[str, Any]:
    """An answer as the assistant's turn; one that only calls tools was read as its calls in JSON (`shapes.py`)."""
    if text.startswith('{"tool_calls":'):
        try:
            return {"role": "assistant", "content": "", **orjson.loads(text)}
        except orjson.JSONDecodeError:  # text that only begins like a call
            pass
    return {"role": "assistant", "content": text}
