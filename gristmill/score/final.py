"""The final answer of a response as text, and whether it is that of the reference.

The answer is what stands in the last `\\boxed{…}`, else after the last `####`, else after the last "answer is",
"Answer:" or "A:" up to the end of its sentence or line, else the whole response. Two answers are equal if they are in
NFKC, in lower case, with white space folded, without Markdown and quotes around them, a full stop at the end, a dollar
sign at the start and commas between thousands.

Not covered: equality of values (`math`: 0.5 and 1/2), and answers that are stated without any of these words in a long
response (two such responses are equal only as a whole).
"""

import re
import unicodedata
from collections import deque
from functools import partial

from gristmill.score.score import Item, Score, Verdict, each, itself
from gristmill.score.text import NO_REFERENCE, SHOWN, answer_of

_SAID = re.compile(r"(?im)\banswer\s+(?:is|would be|was)\s*:?|^[ \t>*_#]*(?:final\s+answer|answer|a)[ \t*_]*[:=]")
_STATED = re.compile(r"[ \t]*\n?[ \t]*(?P<answer>[^\n]+?)(?=[.!?](?:[\s*\"')]|$)|\n|$)")
_WRAPPED = "*_`\"'“”‘’ $"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")


def answer() -> Score:
    """1 `correct` if the final answer is that of the reference, as text; else 0 `wrong`. An empty response is
    `unparseable_answer`, an empty reference `unparseable_gold`."""
    judge = partial(each, _answer)
    return Score("answer", "1", judge, gold=partial(itself, judge))


def _answer(item: Item) -> Verdict:
    if item.reference is None:
        return NO_REFERENCE
    found, wanted = final_answer(answer_of(item)), final_answer(item.reference.strip())
    if not plain(wanted):
        return Verdict(None, "unparseable_gold", "the reference is empty")
    if not plain(found):
        return Verdict(None, "unparseable_answer", "the answer is empty")
    same = plain(found) == plain(wanted)
    return Verdict(float(same), "correct" if same else "wrong", f"{found[:SHOWN]!r}, expected {wanted[:SHOWN]!r}")


def final_answer(text: str) -> str:
    """The final answer of a text, as it is written."""
    if (boxed := _boxed(text)) is not None:
        return boxed
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n", 1)[0].strip()
    said = deque(_SAID.finditer(text), maxlen=1)
    if said and (stated := _STATED.match(text, said[0].end())):
        return stated["answer"].strip()
    return text.strip()


def plain(answer: str) -> str:
    """An answer in the form in which answers are compared."""
    folded = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    return _THOUSANDS.sub("", folded.strip(_WRAPPED).removesuffix(".").strip(_WRAPPED))


def _boxed(text: str) -> str | None:
    """What is in the last `\\\\boxed{}` whose braces close."""
    end = len(text)
    while (start := text.rfind("\\boxed{", 0, end)) >= 0:
        depth = 0
        for place in range(start + len("\\boxed"), end):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return text[start + len("\\boxed{") : place].strip()
        end = start
    return None
