"""What each trainer reads: one function a format, from a row of ours to the object it wants, or why it cannot be one.

| format | rows | read by |
|---|---|---|
| `trl-sft` | samples | TRL 1.16 SFTTrainer: `messages` |
| `trl-preference` | preferences | DPOTrainer: `prompt`, `chosen`, `rejected` as lists of messages |
| `trl-reward` | preferences | RewardTrainer: `chosen`, `rejected` as whole conversations |
| `trl-kto` | labels | KTOTrainer: `prompt`, `completion`, `label` |
| `trl-prompt` | prompts, samples | GRPO and RLOO: `prompt`, `reference`, `meta` for the reward |
| `verl` | prompts, samples | verl: `data_source`, `prompt`, `ability`, `reward_model`, `extra_info` |
| `openai-sft`, `openai-preference`, `openai-rft` | samples, preferences, prompts | OpenAI's fine-tuning files |

Every row of a format has the same keys, since trainers judge a set by its first row. TRL decides by the presence of
keys, so that a row with `prompt` and `messages` would be taken for another type: none has both.
Sources: https://huggingface.co/docs/trl/dataset_formats, https://verl.readthedocs.io (prepare data),
https://platform.openai.com/docs/guides/fine-tuning.

Not covered: tokenised data sets, images, process supervision.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from gristmill.errors import BadRow
from gristmill.export.messages import answer, message, tools_of
from gristmill.records import Kind

Row = Mapping[str, Any]
Made = dict[str, Any]
Reasoning = Literal["think", "field", "drop"]


class Format(NamedTuple):
    """How rows become what a trainer reads."""

    kinds: tuple[Kind, ...]
    make: Callable[[Row, Reasoning, bool], Made]
    """From a row, what becomes of its reasoning, and whether any row of the set has tools. Raises BadRow."""
    suffixes: tuple[str, ...] = (".jsonl", ".parquet")
    least: int = 1
    """The fewest rows that are taken."""


def _conversation(row: Row, reasoning: Reasoning, tools: bool) -> Made:
    return {"messages": [*_prompt(row), _response(row, reasoning)], **_tools(row, tools)}


def _preference(row: Row, _: Reasoning, tools: bool) -> Made:
    chosen, rejected = _sides(row)
    return {"prompt": _prompt(row), "chosen": [chosen], "rejected": [rejected], **_tools(row, tools)}


def _reward(row: Row, _: Reasoning, tools: bool) -> Made:
    prompt, (chosen, rejected) = _prompt(row), _sides(row)
    return {"chosen": [*prompt, chosen], "rejected": [*prompt, rejected], **_tools(row, tools)}


def _label(row: Row, reasoning: Reasoning, tools: bool) -> Made:
    if row["label"] is None:
        raise BadRow("no label; allowed: true or false")
    completion = [_response(row, reasoning)]
    return {"prompt": _prompt(row), "completion": completion, "label": row["label"], **_tools(row, tools)}


def _prompt_only(row: Row, _: Reasoning, tools: bool) -> Made:
    return {"prompt": _asked(row), "reference": row["reference"], "meta": row["meta"], **_tools(row, tools)}


def _verl(row: Row, _: Reasoning, __: bool) -> Made:
    if row["reference"] is None:
        raise BadRow("no reference; verl needs a ground truth")
    meta = orjson.loads(row["meta"]) if row["meta"] else {}
    prompt = _asked(row)
    tags = row["tags"] or []
    return {
        "data_source": str(meta.get("data_source") or (tags[0] if tags else "gristmill")),
        "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in prompt],
        "ability": str(meta.get("ability") or ""),
        "reward_model": {"style": "rule", "ground_truth": row["reference"]},
        "extra_info": {
            "split": str(meta.get("split") or "train"),
            "index": row["source_row"],
            "id": row["id"],
            "question": prompt[-1]["content"],
            "answer": row["reference"],
        },
    }


def _openai_sft(row: Row, reasoning: Reasoning, _: bool) -> Made:
    made: Made = {"messages": [*_prompt(row), _response(row, reasoning)]}
    if row.get("tools"):
        made["tools"] = tools_of(row)
    return made


def _openai_preference(row: Row, _: Reasoning, __: bool) -> Made:
    chosen, rejected = _sides(row)
    return {
        "input": {"messages": _prompt(row), "tools": tools_of(row) or [], "parallel_tool_calls": True},
        "preferred_output": [chosen],
        "non_preferred_output": [rejected],
    }


def _openai_rft(row: Row, _: Reasoning, __: bool) -> Made:
    if row["reference"] is None:
        raise BadRow("no reference; the grader compares with it")
    made: Made = {"messages": _asked(row), "reference": row["reference"]}
    if row.get("tools"):
        made["tools"] = tools_of(row)
    return made


FORMATS: dict[str, Format] = {
    "trl-sft": Format(("sample",), _conversation),
    "trl-preference": Format(("preference",), _preference),
    "trl-reward": Format(("preference",), _reward),
    "trl-kto": Format(("label",), _label),
    "trl-prompt": Format(("prompt", "sample"), _prompt_only),
    "verl": Format(("prompt", "sample"), _verl, (".parquet",)),
    "openai-sft": Format(("sample",), _openai_sft, (".jsonl",), 10),
    "openai-preference": Format(("preference",), _openai_preference, (".jsonl",), 10),
    "openai-rft": Format(("prompt", "sample"), _openai_rft, (".jsonl",), 10),
}
"""The formats by name."""

GRADER = {
    "type": "string_check",
    "name": "reference",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference}}",
    "operation": "eq",
}
"""A grader for `openai-rft` to begin from: the answer is the reference, letter by letter."""


def _prompt(row: Row) -> list[Made]:
    """The messages before the answer. Raises BadRow for a conversation no chat template takes."""
    turns = [message(turn) for turn in row["prompt"]]
    _check(turns)
    return turns


def _asked(row: Row) -> list[Made]:
    """The messages of a prompt that is to be answered."""
    turns = _prompt(row)
    if turns[-1]["role"] not in ("user", "tool"):
        raise BadRow(f"the prompt ends with a turn of the {turns[-1]['role']}; allowed: user, tool")
    return turns


def _check(turns: Sequence[Made]) -> None:
    if not turns:
        raise BadRow("the prompt is empty; allowed: one message at least")
    for number, turn in enumerate(turns):
        if turn["role"] == "system" and number:
            raise BadRow(f"message {number} is the system's; allowed: as the first message only")
        if not turn.get("content") and not turn.get("tool_calls"):
            raise BadRow(f"message {number} ({turn['role']}) is empty; allowed: text, or calls of tools")


def _response(row: Row, reasoning: Reasoning) -> Made:
    """The answer as the assistant's turn, with its reasoning as asked for."""
    if row["response"] is None or not row["response"].strip():
        raise BadRow("no response; allowed: text")
    turn = answer(row["response"])
    thought = row.get("reasoning")
    if thought and reasoning == "think":
        turn["content"] = f"<think>\n{thought}\n</think>\n\n{turn['content']}"
    elif reasoning == "field":
        turn["reasoning_content"] = thought
    return turn


def _sides(row: Row) -> tuple[Made, Made]:
    for name in ("chosen", "rejected"):
        if not (row[name] or "").strip():
            raise BadRow(f"{name} is empty; allowed: text")
    if row["chosen"] == row["rejected"]:
        raise BadRow("chosen and rejected are equal; a pair must differ")
    return answer(row["chosen"]), answer(row["rejected"])


def _tools(row: Row, tools: bool) -> Made:
    """Tools as JSON text, so that rows with different ones have one type; on every row, if any has some."""
    return {"tools": row.get("tools")} if tools else {}
