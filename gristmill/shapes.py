"""The shapes people's rows have, and the one they get here.

| shape | prompt | answer |
|---|---|---|
| Alpaca | `instruction`, then `input` (or `context`) on a new line where there is one | `output` or `response` |
| ShareGPT | `conversations` [{from, value}] | its last turn, where the model speaks |
| chat | `messages` [{role, content}] | its last turn, where the assistant speaks |
| pairs | `prompt`, `question`, `problem`, `query` | `response`, `completion`, `output`, `solution` or `answer` |
| preference | any of the above, or what both answers begin with | `chosen` and `rejected` |
| label | any of the above | with a true/false `label` |
| verl | `prompt` messages | `reward_model.ground_truth` is the reference |
| plain text | `text`: one user message | none |

A prompt in text is one user message; it may also be a list of messages. Whatever has no place here goes to `meta`.
Not covered: images and other parts of a message that are not text (the text parts are kept, the rest travels in
`extra`).
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

import orjson

from gristmill.errors import BadRow
from gristmill.records import CARRIED, SCHEMAS, Kind

Record = Mapping[str, Any]
Answer = Literal["response", "reference"]

CONVERSATIONS = ("messages", "conversations", "conversation")
PROMPTS = ("prompt", "instruction", "question", "problem", "query", "text")
CONTEXTS = ("input", "context")
ANSWERS = ("response", "completion", "output", "solution", "answer")

READ_NAMES = {*CONVERSATIONS, *PROMPTS, *CONTEXTS, *ANSWERS, "system", "chosen", "rejected", "label"}
"""Every column name that has a meaning in some shape."""

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
"""Role names in use, and ours."""

_TEXT = {"reference", "reasoning", "model", "sampling", "finish_reason", "error", "policy"}
_COUNTS = {"sample", "tokens_in", "tokens_out"}
_LISTS = {"tags", "parents"}
_OPTIONAL = {kind: set(schema.names) & (_TEXT | _COUNTS | _LISTS | {"margin"}) for kind, schema in SCHEMAS.items()}
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")


def kind_of_record(record: Record) -> Kind:
    """The kind of row a record makes, judged by its columns (for a conversation, also by who speaks last)."""
    if "chosen" in record and "rejected" in record:
        return "preference"
    turns = next((record[name] for name in (*CONVERSATIONS, "prompt") if name in record), None)
    ends_answered = isinstance(turns, list) and bool(turns) and _speaks_last(turns[-1])
    if not ends_answered and not any(name in record for name in ANSWERS):
        return "prompt"
    return "label" if isinstance(record.get("label"), bool) else "sample"


def row_of(
    record: Record, kind: Kind, *, answer: Answer = "response", extra: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The columns of `SCHEMAS[kind]` that a record fills, without ids and provenance.

    `answer` says what the answer of a question/answer record is: the `response` (filter, train) or the `reference`
    (generate, rollout, eval, score). `extra` names columns the table has besides its schema (`score_*` and kin).
    Raises BadRow naming the column, what it holds and what is allowed.
    """
    rest = _unpacked(record)
    is_chat = any(name in rest for name in CONVERSATIONS)
    row: dict[str, Any] = {"prompt": _prompt(rest)}
    if kind == "preference":
        _preference(rest, row)
    else:
        _answer(rest, row, kind, answer, is_chat)
    if rest and (tools := rest.pop("tools", None)) is not None:
        row["tools"] = tools if isinstance(tools, str) else _json(tools)
    if kind == "label":
        label = rest.pop("label", None)
        if not isinstance(label, bool):
            raise BadRow(f"label is {_shown(label)}; allowed: true or false")
        row["label"] = label
    if rest:
        _provenance(rest, row, kind)
        for name in extra:
            row[name] = _carried(name, rest.pop(name, None))
        row["meta"] = _json(rest) if rest else None
    if kind == "prompt" and not any(m["content"] or m["extra"] for m in row["prompt"]):
        raise BadRow("the prompt is empty; allowed: text")
    return row


def _prompt(rest: dict[str, Any]) -> list[dict[str, str | None]]:
    """Take the prompt's columns out of `rest`; a conversation keeps its last answer until `_answer` takes it off."""
    for name in CONVERSATIONS:
        if name in rest:
            return _system(rest) + messages(rest.pop(name), name)
    for name in PROMPTS:
        if name in rest:
            value = rest.pop(name)
            if isinstance(value, str):
                if name == "instruction":
                    value = _with_context(value, rest)
                return [*_system(rest), message("user", _text(value, name))]
            if isinstance(value, Sequence):
                return _system(rest) + messages(value, name)
            raise BadRow(f"{name} is {_shown(value)}; allowed: text or a list of messages")
    if "chosen" in rest and "rejected" in rest:
        return []
    if "system" in rest:
        return _system(rest)
    raise BadRow(
        f"no prompt among the columns {', '.join(map(repr, rest)) or '(none)'}; name it with --map prompt=COLUMN"
    )


def _system(rest: dict[str, Any]) -> list[dict[str, str | None]]:
    """A `system` or `system_prompt` column beside the prompt is its first message."""
    for name in ("system", "system_prompt"):
        if isinstance(rest.get(name), str):
            text = _text(rest.pop(name), name)
            return [message("system", text)] if text else []
    return []


def _with_context(instruction: str, rest: dict[str, Any]) -> str:
    for name in CONTEXTS:
        if name in rest:
            context = rest.pop(name)
            if context is not None and not isinstance(context, str):
                raise BadRow(f"{name} is {_shown(context)}; allowed: text")
            return f"{instruction}\n{context}" if context else instruction
    return instruction


def _answer(rest: dict[str, Any], row: dict[str, Any], kind: Kind, answer: Answer, is_chat: bool) -> None:
    """Move the answer out of `rest` (or off the end of the conversation) into `row`."""
    ends_answered = bool(row["prompt"]) and row["prompt"][-1]["role"] == "assistant"
    name = next((name for name in ANSWERS if name in rest), None)
    if is_chat and ends_answered:  # what a conversation ends with is its answer; an `answer` beside it is the reference
        name = None
    is_reference = answer == "reference" and name in ("answer", "solution")
    if name is not None and not is_reference and kind != "prompt":
        row["response"] = _completion(rest.pop(name), name)
    elif name is not None and not is_reference:
        raise BadRow(f"has an answer ({name}), but this table began with prompts only; filter the two kinds apart")
    elif kind != "prompt":
        row["response"] = None
        if ends_answered:
            turn = row["prompt"].pop()
            row["response"] = turn["content"] or turn["extra"] or ""  # a turn that only calls tools is its calls
            if turn["content"] and turn["extra"]:
                rest["response_extra"] = turn["extra"]
    if rest and "reference" not in rest:
        _reference(rest, is_reference)


def _reference(rest: dict[str, Any], is_reference: bool) -> None:
    """Name the gold answer `reference`: an `answer` that is not the response, or verl's ground truth."""
    if isinstance(rest.get("answer"), str):
        rest["reference"] = rest.pop("answer")
    elif is_reference and isinstance(rest.get("solution"), str):
        rest["reference"] = rest.pop("solution")
    elif isinstance(reward := rest.get("reward_model"), Mapping) and reward.get("ground_truth") is not None:
        truth = reward["ground_truth"]
        rest["reference"] = truth if isinstance(truth, str) else _json(truth)


def _completion(value: Any, name: str) -> str | None:
    """An answer: text, null, or messages of which the last is the assistant's."""
    if value is None or isinstance(value, str):
        return value if value is None else _text(value, name)
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, Sequence):
        said = messages(value, name)
        if len(said) == 1 and said[0]["role"] == "assistant":
            return said[0]["content"] or said[0]["extra"] or ""
        raise BadRow(f"{name} is a list of {len(said)} messages; allowed: text or one assistant message")
    raise BadRow(f"{name} is {_shown(value)}; allowed: text")


def _preference(rest: dict[str, Any], row: dict[str, Any]) -> None:
    chosen, rejected = rest.pop("chosen", None), rest.pop("rejected", None)
    if not row["prompt"] and isinstance(chosen, str) and isinstance(rejected, str):
        chosen, rejected = _transcript(chosen), _transcript(rejected)
    if not row["prompt"] and isinstance(chosen, Sequence) and isinstance(rejected, Sequence):
        first, second = messages(chosen, "chosen"), messages(rejected, "rejected")
        shared = 0
        while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
            shared += 1
        row["prompt"], chosen, rejected = first[:shared], first[shared:], second[shared:]
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        row[name] = _completion(value, name)
        if row[name] is None:
            raise BadRow(f"{name} is null; allowed: text or one assistant message")
    if not row["prompt"]:
        raise BadRow("no prompt, and chosen and rejected share no beginning; name it with --map prompt=COLUMN")


def _transcript(text: str) -> list[dict[str, str]]:
    """A transcript of turns marked `Human:` and `Assistant:` (the form of HH-RLHF) as messages."""
    parts = _SPEAKER.split(_text(text, "chosen"))
    if len(parts) < 3 or parts[0].strip():
        return [{"role": "assistant", "content": text}]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def messages(value: Any, name: str) -> list[dict[str, str | None]]:
    """Chat turns as {role, content, extra}; raises BadRow naming the turn that is none."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadRow(f"{name} is {_shown(value)}; allowed: a list of messages")
    return [_turn(turn, f"{name}[{number}]") for number, turn in enumerate(value)]


def _turn(turn: Any, name: str) -> dict[str, str | None]:
    if not isinstance(turn, Mapping):
        raise BadRow(f"{name} is {_shown(turn)}; allowed: an object with role and content")
    who = turn.get("role", turn.get("from"))
    role = ROLES.get(who) if isinstance(who, str) else None
    if role is None:
        raise BadRow(f"{name} has the role {_shown(who)}; allowed: {', '.join(ROLES)}")
    content = turn.get("content", turn.get("value"))
    extra = {k: v for k, v in turn.items() if k not in ("role", "from", "content", "value", "extra") and v is not None}
    if isinstance(old := turn.get("extra"), str):
        extra = {**orjson.loads(old), **extra}
    if who in ("function_call", "tool_call") and isinstance(content, str):
        extra["tool_call"] = content
    if isinstance(content, Sequence) and not isinstance(content, str):
        if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in content):
            extra["content"] = content
        content = "\n".join(
            str(p.get("text", "")) for p in content if isinstance(p, Mapping) and p.get("type") == "text"
        )
    if content is None and extra:
        content = ""
    if not isinstance(content, str):
        raise BadRow(f"{name} has the content {_shown(content)}; allowed: text")
    return message(role, _text(content, name), _json(extra, sort=True) if extra else None)


def message(role: str, content: str, extra: str | None = None) -> dict[str, str | None]:
    """One chat message as the `prompt` column holds it."""
    return {"role": role, "content": content, "extra": extra}


def _speaks_last(turn: Any) -> bool:
    return isinstance(turn, Mapping) and ROLES.get(str(turn.get("role", turn.get("from")))) == "assistant"


def _provenance(rest: dict[str, Any], row: dict[str, Any], kind: Kind) -> None:
    """Columns that the record fills with a value of their type; others stay in `rest`, hence in `meta`."""
    for name in rest.keys() & _OPTIONAL[kind]:
        value = rest[name]
        if name in _TEXT and isinstance(value, str):
            row[name] = _text(rest.pop(name), name)
        elif name in _COUNTS and type(value) is int:
            row[name] = rest.pop(name)
        elif name == "margin" and type(value) in (int, float):
            row[name] = float(rest.pop(name))
        elif name in _LISTS and isinstance(value, Sequence):
            items = [value] if isinstance(value, str) else list(value)
            if all(isinstance(item, str) for item in items):
                row[name] = items
                del rest[name]


def _unpacked(record: Record) -> dict[str, Any]:
    """The record as a dict of its own; a row of ours loses what is derived anew and its `meta` is unpacked."""
    rest = dict(record)
    if str(rest.get("id", "")).startswith("g1:"):
        for name in ("id", "copy", "source_file", "source_row"):
            rest.pop(name, None)
        if isinstance(meta := rest.pop("meta", None), str):
            rest.update(orjson.loads(meta))
        rest = {name: value for name, value in rest.items() if value is not None}
    return rest


def _carried(name: str, value: Any) -> Any:
    if value is None:
        return None
    if any(name.startswith(prefix) and str(kind) == "double" for prefix, kind in CARRIED.items()):
        try:  # a CSV file has its numbers as text
            number = float("nan" if value == "" else value)
        except (TypeError, ValueError):
            raise BadRow(f"{name} is {_shown(value)}; allowed: a number or null") from None
        return number if isfinite(number) else None
    return value if isinstance(value, str) else _json(value)


def _text(value: str, name: str) -> str:
    if "\0" in value:
        raise BadRow(f"{name} holds a NUL character at {value.index(chr(0))}; allowed: text without it")
    return value


def _json(value: Any, *, sort: bool = False) -> str:
    option = (orjson.OPT_SORT_KEYS if sort else 0) | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=str, option=option).decode()


def _shown(value: Any) -> str:
    """A value named for an error: its JSON type and the beginning of it."""
    kind = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    if value is None:
        return "null"
    return f"{kind.get(type(value), type(value).__name__)} ({str(value)[:40]})"
