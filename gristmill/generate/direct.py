r"""Answers with their reasoning, and what is left of them without it.

A row has reasoning where its column `reasoning` is filled, where its response begins with a `<think>` block, or where
its response leads up to a *marked* answer: after `####` (GSM8K), in `\boxed{}` (MATH), or after "Answer:" or "The
answer is" in the last line. What stands in the sentence of the mark itself is no reasoning.

Not covered: steps that lead to an answer which nothing marks; words around a box that are part of the answer.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from gristmill.models.answer import split_thinking

_HASHES = re.compile(r"^[ \t]*#{4,}[ \t]*(\S.*)$", re.MULTILINE)
_SAID = re.compile(
    r"(?:^|[.!?]\s+)(?:[*_\s]|so\b|thus\b|hence\b|therefore\b|,)*"
    r"(?:(?:final\s+)?answer\s*:|(?:the|my|our)\s+(?:final\s+)?answer\s+is\b\s*:?)[\s*_]*(\S.*)$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.!?]\s")


class Marked(NamedTuple):
    """A marked answer, and the text that leads up to its sentence."""

    before: str
    answer: str


def direct_answer(row: Mapping[str, Any]) -> str | None:
    """The answer of a row without the reasoning it has; None if it has none that can be told from the answer."""
    response = row.get("response")
    if not response:
        return None
    thought, said = split_thinking(response)
    marked = marked_answer(said)
    if thought or row.get("reasoning"):
        return marked.answer if marked else said.strip() or None
    return marked.answer if marked and marked.before else None


def has_reasoning(row: Mapping[str, Any]) -> bool:
    """Whether a row has reasoning."""
    return bool(row.get("reasoning")) or direct_answer(row) is not None


def marked_answer(text: str) -> Marked | None:
    """The answer that a text marks; of several, the last."""
    *_, last = [None, *_HASHES.finditer(text)]
    if last:
        return _marked(text[: last.start()], last[1])
    if (start := text.rfind("\\boxed{")) >= 0 and (boxed := _braced(text[start + len("\\boxed") :])):
        *_, end = [0, *(match.end() for match in _SENTENCE_END.finditer(text, 0, start))]
        return _marked(text[:end], boxed)
    body, newline, line = text.rstrip().rpartition("\n")
    if said := _SAID.search(line):
        return _marked(body + newline + line[: said.start()], said[1].rstrip().removesuffix("."))
    return None


def _marked(before: str, answer: str) -> Marked | None:
    answer = answer.strip().strip("*_").strip()
    return Marked(before.strip(), answer) if answer else None


def _braced(text: str) -> str | None:
    """What stands between the brace that a text begins with and the one that closes it."""
    depth = 0
    for place, character in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return text[1:place]
    return None
