r"""Whether a response is whole and well formed as Markdown: the axis of format, without a model or a key.

The value is the share of the tests that it passes: code fences close; `**` and `` ` `` come in pairs; `$$`, `\[` and
`\begin` have their ends; tables have as many cells in every row; the text ends where a text may end (not in mid
sentence, as a cut one does); no paragraph of prose has more than `LONGEST_PARAGRAPH` words; no `\n` or `&amp;` is
written out. The tests and the limit are ours: they find what is broken, and do not tell good layout from bad.

Not covered: whether the format suits the question, a house style (write a function), tags (`format`), JSON (`json`).
"""

import re
from functools import partial

from gristmill.score.score import Item, Score, Verdict, each
from gristmill.score.text import answer_of

LONGEST_PARAGRAPH = 300
"""Words of a paragraph; more is a wall of text."""

_FENCE = re.compile(r"(?m)^[ \t]*(```|~~~)")
_FENCED = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)")
_SPAN = re.compile(r"`[^`\n]+`")
_DIVIDER = re.compile(r"(?<!\S)\*{3,}(?!\S)")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([^{}\n]*)\}")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*")
_LIST_OR_HEADING = re.compile(r"[ \t]*(?:[-*+#>|]|\d+[.)])")
_ENDS = re.compile(r"[.!?…:;)\]}>\"'”’»*_`$|。！？।\d]$|\W$")
_ESCAPED = re.compile(r"\\n(?![a-z]|Left|Right)|&(?:amp|lt|gt|quot|nbsp|#\d+);")


def structure() -> Score:
    """The share of the tests of form that a response passes, 0 to 1, `scored`; `why` names those it fails."""
    return Score("structure", "1", partial(each, _structure))


def _structure(item: Item) -> Verdict:
    text = answer_of(item)
    if not text:
        return Verdict(0.0, "scored", "empty")
    tests = faults(text)
    failed = [f"{name}: {told}" for name, told in tests.items() if told]
    return Verdict(1 - len(failed) / len(tests), "scored", "; ".join(failed) or "passes all tests")


def faults(text: str) -> dict[str, str]:
    """What each test has to say against a text; empty where it passes."""
    prose = _DIVIDER.sub("", _SPAN.sub("x", _FENCED.sub("\n", text)))
    return {
        "fences": "one does not close" if len(_FENCE.findall(text)) % 2 else "",
        "emphasis": next((f"an odd number of {mark}" for mark in ("**", "`") if prose.count(mark) % 2), ""),
        "maths": _maths(prose),
        "tables": _tables(prose),
        "ending": _ending(text),
        "paragraphs": _paragraphs(prose),
        "escapes": f"{found.group()!r} is written out" if (found := _ESCAPED.search(prose)) else "",
    }


def _maths(prose: str) -> str:
    if prose.count("$$") % 2:
        return "an odd number of $$"
    if prose.count("\\[") != prose.count("\\]"):
        return "\\[ without \\]"
    opened: list[str] = []
    for kind, name in _ENVIRONMENT.findall(prose):
        if kind == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            return f"\\end{{{name}}} without its \\begin"
    return f"\\begin{{{opened[-1]}}} without its \\end" if opened else ""


def _tables(prose: str) -> str:
    cells = 0
    for line in prose.split("\n"):
        here = line.replace("\\|", "").count("|") if _ROW.fullmatch(line) else 0
        if cells and here and here != cells:
            return f"a row of {here - 1} cells among rows of {cells - 1}"
        cells = here
    return ""


def _ending(text: str) -> str:
    last = text.rsplit("\n", 1)[-1].strip()
    short = len(text.split()) < 4  # a word or a number is an answer
    whole = short or _LIST_OR_HEADING.match(last) or _ENDS.search(last)
    return "" if whole else f"in mid sentence: …{last[-30:]}"


def _paragraphs(prose: str) -> str:
    most = max((len(part.split()) for part in re.split(r"\n[ \t]*\n", prose) if not _lists(part)), default=0)
    return f"one of {most} words" if most > LONGEST_PARAGRAPH else ""


def _lists(paragraph: str) -> bool:
    return sum(map(bool, map(_LIST_OR_HEADING.match, paragraph.split("\n")))) > 1
