"""The raw answer of a model, read: the JSON of an OpenAI chat completion, and the dialects of it that servers speak.

Reasoning comes as `reasoning_content` (DeepSeek, vLLM, SGLang), as `reasoning` (OpenRouter, newer vLLM), or in the text
as a leading `<think>` block (models behind servers that do not split it; some chat templates begin the block in the
prompt, so that the text holds only its end).

Not covered: answers in parts that are not text; the `completions` and `responses` routes.
"""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from gristmill.errors import CallFailed
from gristmill.models.protocol import Choice, Completion

SHOWN = 200
"""Characters of an unreadable answer that its error shows."""


def parse_answer(raw: bytes, *, hit: bool = False) -> Completion:
    """The completion in a raw answer.

    Raises CallFailed: `bad_answer` for what is not JSON of that shape, `content_filter` for an answer withheld.
    """
    answer = loaded(raw)
    if not isinstance(answer, dict):
        raise _bad(f"a {type(answer).__name__} where an object is expected", raw)
    found = answer.get("choices")
    if not isinstance(found, list) or not found:
        raise _bad(f"an error in it: {answer['error']}" if answer.get("error") else "no choices in it", raw)
    try:
        choices = tuple(map(_choice, found))
    except (AttributeError, TypeError, KeyError) as error:
        raise _bad(f"a choice of an unknown shape ({error})", raw) from None
    if all(c.text is None and c.reasoning is None and not c.tool_calls for c in choices):
        if any(c.finish_reason == "content_filter" for c in choices):
            raise CallFailed("content_filter", "the provider withheld the answer")
        raise _bad("choices without text", raw)
    usage = answer.get("usage") or {}
    return Completion(choices, usage.get("prompt_tokens"), usage.get("completion_tokens"), raw, hit=hit)


def loaded(raw: bytes) -> Any:
    """The value of a JSON text, lone surrogates replaced. Raises CallFailed `bad_answer`."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:  # half of an emoji, cut by a limit: JSON may hold it, text may not
        text = json.dumps(json.loads(raw), ensure_ascii=False)
        return json.loads(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise _bad("no JSON", raw) from None


def _choice(found: Mapping[str, Any]) -> Choice:
    message = found["message"]
    text, tools = message.get("content"), message.get("tool_calls")
    if isinstance(text, list):  # of parts
        text = "".join(part.get("text") or "" for part in text)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if text and not reasoning:
        reasoning, text = split_thinking(text)
    return Choice(text, reasoning or None, found.get("finish_reason"), tools or None, found.get("logprobs"))


def split_thinking(text: str) -> tuple[str | None, str]:
    """The leading `<think>` block of a text and what follows it, both stripped of the white space between them.

    A block that begins in the prompt is told by its end alone; one without an end (a cut answer) is all there is.
    """
    start = text.lstrip()
    if not start.startswith("<think>"):
        inner, end, rest = text.partition("</think>")
        if not end or "<think>" in inner:
            return None, text
    else:
        inner, _, rest = start.removeprefix("<think>").partition("</think>")
    return inner.strip(), rest.lstrip()


def _bad(what: str, raw: bytes) -> CallFailed:
    shown = " ".join(raw[: 4 * SHOWN].decode(errors="replace").split())[:SHOWN]
    return CallFailed("bad_answer", f"the answer has {what}: {shown!r}", again=True)
