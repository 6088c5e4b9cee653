"""The score `tiny`: whether an answer to a task of the world is true."""

import re
from functools import partial

from gristmill.score.score import Item, Score, Verdict, each

_MARKED = re.compile(r'(?:#### *|"answer": *)(-?\d+)')
_LAST_LINE = re.compile(r"\s*(-?\d+)\s*")


def tiny() -> Score:
    """1 where the number an answer ends in is the reference; the number is that after `####`, the value of "answer" in
    JSON, or the last line if it is nothing but a number."""
    return Score("tiny", "1", partial(each, _judged))


def final_number(text: str) -> int | None:
    """The number that an answer ends in, None where it ends in none."""
    if marked := _MARKED.findall(text):
        return int(marked[-1])
    last = _LAST_LINE.fullmatch(text.rsplit("\n", 1)[-1])
    return int(last[1]) if last else None


def _judged(item: Item) -> Verdict:
    if item.reference is None:
        return Verdict(None, "no_reference")
    found = final_number(item.response or "")
    if found is None:
        return Verdict(0.0, "no_answer")
    right = found == int(item.reference)
    return Verdict(float(right), "correct" if right else "wrong", "" if right else f"{found}, not {item.reference}")
