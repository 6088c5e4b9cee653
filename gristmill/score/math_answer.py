r"""Where the final answer of a response, or of a worked reference, stands.

In this order: the last complete `\boxed{}`; `####`; the last of `A:`, `Answer:`, `the answer is`; the whole text where
it is an answer; the last formula or number. What a model thought (`<think>`) is no part of its answer. Boxes joined by
*and*, *or* or commas are one answer, so that a hedge is not half right; an empty last box is no answer.

Numbers that label steps, dates and list items are passed over by the last rule.

Not covered: what the answer means (`math_forms.py`).
"""

import re
from functools import lru_cache
from typing import NamedTuple

from gristmill.score.math_forms import read
from gristmill.score.math_limits import LONGEST
from gristmill.score.math_numbers import Quantity, quantity
from gristmill.score.math_text import canonical, cleaned
from gristmill.score.math_units import measure

LONGEST_WHOLE = 200
"""Characters up to which a text may be an answer as a whole."""


class Found(NamedTuple):
    """An answer and the rule that found it: `box`, `hash`, `cue`, `whole`, `formula`, `number`, `letter`."""

    text: str
    rule: str


def of_response(response: str, *, choice: bool = False) -> Found | None:
    """The final answer of a response, None if it has none; `choice` looks for a letter where no rule but the last would
    find it."""
    text = _without_thought(response)
    return _marked(text) or _bare(text, choice)


@lru_cache(maxsize=20_000)
def of_reference(reference: str) -> Found | None:
    """The answer of a reference: a worked solution's as a response's, else all of it."""
    if (found := _marked(reference)) is not None:
        return found if found.text else None
    text = reference.strip()
    if not text:
        return None
    worked = "\n" in text or len(text) > LONGEST_WHOLE
    return (_bare(text, False) if worked else None) or Found(text, "whole")


_OPEN, _CLOSE = "<think", "</think"


def _without_thought(text: str) -> str:
    """What comes after the last thought; nothing if the thought is not closed."""
    end = text.rfind(_CLOSE)
    if end >= 0:
        text = text[text.find(">", end) + 1 or len(text) :]
    return text[: text.find(_OPEN)] if _OPEN in text else text


def _marked(text: str) -> Found | None:
    return (_boxed(text) if "box" in text else None) or _hashed(text) or _cued(text)


_PLAIN_END = re.compile(r"(####|(?<=\n)A:) ?(-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d{1,15}))\s*\Z")
_PLAIN_BOX = re.compile(r"boxed\{(-?\d{1,15})\}(?![\s$.]*(?:\\|%|[pP]|and|or|,|;))")


def plain(text: str) -> str | None:
    """The answer where it is plain to see: an integer in the only box, or at the end behind `####` or `A:`.

    What `of_response` finds too, in a tenth of the time; None does not mean that there is none.
    """
    if "think" in text:
        return None
    at = text.rfind("box")
    if at >= 0:
        found = _PLAIN_BOX.match(text, at)
        return found[1] if found and text.find("box") == at and text[at - 1 : at] == "\\" else None
    found = _PLAIN_END.search(text, max(0, len(text) - 40))
    if not found or (found[1] == "A:" and "####" in text):
        return None
    return found[2].replace(",", "")


_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s+|(?=\d))([^\s${}\\]+|\\[a-zA-Z]+)")
_JOINT = re.compile(r"[\s$,;.]*(?:\\[()\[\]]|\\text\{|\\quad|\\qquad|\\,|\\;|\}|and|or|,|;|&|[\s$])*[\s$]*")
_AFTER_BOX = re.compile(r"[\s$.]*(?:\\[)\]])?\s*(%|\\%|(?:percent|pct|per cent)\b)", re.IGNORECASE)


def _boxed(text: str) -> Found | None:
    """The last complete box, and those before it that only *and*, *or* or a comma parts from it."""
    boxes = _boxes(text)
    if not boxes:
        bare = list(_BARE_BOX.finditer(text))
        return Found(bare[-1][1].rstrip(".,"), "box") if bare else None
    together = [boxes.pop()]
    while boxes:
        between = text[boxes[-1].end + 1 : together[0].start]
        if len(between) > 40 or not _JOINT.fullmatch(between):
            break
        together.insert(0, boxes.pop())
    contents = [text[box.content : box.end].strip() for box in together]
    if len(different := {_same_terms(each): each for each in contents}) > 1:
        return Found(" , ".join(different.values()), "box")
    last = contents[-1]
    in_percent = last and "%" not in last and _AFTER_BOX.match(text, together[-1].end + 1)
    return Found(last + (" %" if in_percent else ""), "box")


class _Box(NamedTuple):
    """Where a box, its content and its closing brace are."""

    start: int
    content: int
    end: int


def _boxes(text: str) -> list[_Box]:
    """The complete boxes that are in no other, in order; one pass, however the braces are nested."""
    boxes: list[_Box] = []
    stack: list[tuple[int, int, bool]] = []
    for found in _BOX_OR_BRACE.finditer(text):
        opens_box = len(found[0]) > 2
        if opens_box or found[0] == "{":
            stack.append((found.start(), found.end(), opens_box))
        elif found[0] == "}" and stack:
            start, content, is_box = stack.pop()
            if is_box:
                while boxes and boxes[-1].start > start:
                    boxes.pop()
                boxes.append(_Box(start, content, found.start()))
    return boxes


def _same_terms(text: str) -> str:
    """Equal for `x+11` and `11+x`, and for numbers of one value: boxes that are alternatives, of which one will do."""
    if len(text) > LONGEST:
        return text
    number = quantity(cleaned(text))
    return str(number.value) if number else "".join(sorted(canonical(cleaned(text)).replace("+", "")))


def _hashed(text: str) -> Found | None:
    """What follows the last `####` in its line, where that is an answer rather than a heading."""
    end = text.rfind("####")
    if end < 0:
        return None
    line, _, after = text[end + 4 :].lstrip("#").partition("\n")
    line = line.strip()
    if not line or len(line) > LONGEST_WHOLE or line.endswith(":"):
        return None
    return Found(line, "hash") if not after.strip() or read(line).kind != "words" else None


_CUE = re.compile(
    r"(?:^|(?<=\n))[ *_#]*(?:final )?(?:A|answer|ans)[*_ ]*:[*_ ]*"
    r"|\b(?:final )?(?:answer|result)\b[^.\n:?]{0,40}?(?:\bis|\bare|:|=)\s*[:*_ ]*"
    r"(?!\s*(?:correct|wrong|incorrect|not|yes|no)(?:\W|$))"
    r"|\banswer\s+(?=\$|\\[(\[])",
    re.IGNORECASE,
)
_PARAGRAPH = re.compile(r"\n\s*\n")


def _cued(text: str) -> Found | None:
    """What the last *answer is* or `A:` says."""
    last = text.rfind("nswer"), text.rfind("NSWER"), text.rfind("A:"), text.rfind("esult"), text.rfind("ns:")
    if max(last) < 0:
        return None
    for found in reversed(list(_CUE.finditer(text))):
        if (said := _stated(text[found.end() :])) is not None:
            return said
    return None


_FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:[^$\\]|\\.)+?)(?<!\\)\$", re.DOTALL)
_SENTENCE = re.compile(
    r"[.!?](?:\s|$|\*|\")|\n|\s\((?=[a-z])|\s+I hope\b|<\|"
    r"|,? (?:since|because|so|which|as|when|where|and there|but|if|given)\b"
)
_AFTER_FORMULA = re.compile(r"\s*(?:\\?%|(?:percent|pct|per cent)\b)|\s+[a-zA-Z][\w^/]*(?=[\s.,]|$)", re.IGNORECASE)


def _stated(rest: str) -> Found | None:
    """The answer at the beginning of what follows a cue."""
    rest = rest.lstrip(" \n\t*_:")
    if (found := _FORMULA.match(rest)) and _is_formula(_content(found)):
        said = _content(found)
        more = _SENTENCE.split(rest[found.end() : found.end() + 60], maxsplit=1)[0]
        if (following := re.match(r"\s*(?:,|and|or|,\s*and)\s*(?=\$)", more)) and (
            others := _FORMULA.match(rest, found.end() + following.end())
        ):
            return Found(f"{said} , {_content(others)}", "cue")
        return Found(said + _unit_after(more), "cue")
    sentence = _SENTENCE.split(rest, maxsplit=1)[0].strip().strip("*_")
    if not sentence:
        return None
    if len(sentence) > LONGEST:
        return _last(sentence)
    form = read(sentence)
    if form.kind in ("number", "choice", "clock", "group") or (
        form.kind == "expression" and len(sentence) < 60 and " " not in sentence
    ):
        return Found(sentence, "cue")
    if form.kind == "words":
        if letter := re.match(r"(?:option |choice )?\(?([A-J])\)?(?:[).:,]|\s+[a-z]|$)", sentence):
            return Found(letter[1], "cue")
        if not re.search(r"\d", sentence):
            return Found(sentence, "cue")
    return _last(sentence) or Found(sentence, "cue")


def _unit_after(text: str) -> str:
    """The percent sign or known unit that follows a formula."""
    found = _AFTER_FORMULA.match(text)
    word = found[0].strip() if found else ""
    if word in ("in", "a"):  # inches at times, but mostly not
        return ""
    return f" \\text{{{word}}}" if word and (measure(word) or quantity(f"1 {word}") == Quantity(1, "%")) else ""


def _content(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


_PROSE_BETWEEN = re.compile(r"[a-z]{2,} [a-z]{2,}")


def _is_formula(content: str) -> bool:
    """Whether what stands between dollar signs is set as a formula; `$5 and $6` is not."""
    bare = re.sub(r"\\(?:text|mbox|textbf|mathrm|textnormal)\s*\{[^}]*\}", "", content)
    return bool(content.strip()) and not _PROSE_BETWEEN.search(bare) and not re.fullmatch(r"[\d.,]+ [a-z]+ ", bare)


def _bare(text: str, choice: bool) -> Found | None:
    """An answer that nothing announces."""
    whole = text.strip()
    if not whole:
        return None
    if len(whole) <= LONGEST_WHOLE and "\n" not in whole:
        form = read(whole)
        if form.kind != "words" and not re.search(r"[a-zA-Z]{3,} [a-zA-Z]{2,}", cleaned(whole)):
            return Found(whole, "whole")
    if choice and (letters := re.findall(r"(?<![A-Za-z0-9'])\(?([A-HJ])\)?(?![A-Za-z0-9'])", whole)):
        return Found(letters[-1], "letter")
    return _last(whole) or (Found(whole, "whole") if len(whole) <= LONGEST_WHOLE and "\n" not in whole else None)


_NUMBER = re.compile(
    r"(?<![\w.^_/\\{:-])(?:(?<![\d)])-\s?|(?<=\s)-)?\$?\s?"
    r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s?/\s?\d+| \d+/\d+)?"
    r"(?:\s?(?:%|percent\b|pct\b))?(?![\w:]|[-/.]\d|,\d{3})"
)
_LABEL = re.compile(
    r"(?:\b(?:step|case|question|problem|exercise|part|figure|table|equation|chapter|section|method|option|example|note"
    r"|page|line|no\.|#)\s*|[#(\[]|\b(?:not|isn't|never|nor|than|between \S{1,20} and)\s+)$",
    re.IGNORECASE,
)
_WITH_UNIT = re.compile(
    r"(?<![\w.^_{\\])(\d[\d,]*(?:\.\d+)?)"
    r"([a-z]{2,3}\d?|[a-z]{1,3}(?:\^\{?\d\}?|[²³])|[a-z]{1,3}/[a-z]{1,3})(?![\w^])"
)
_BREAKS_OFF = re.compile(r"[=:+*/\\,(<>&-]\s*\Z|\\(?:times|cdot|frac|le|ge)\s*\Z")
_LONG = 200
_ENDED = ".!?)]}$%\"'`*>|"


def _unfinished(text: str) -> bool:
    """Whether the text breaks off in a formula or before what it was about to say."""
    if _BREAKS_OFF.search(text) or text.count("\\[") > text.count("\\]") or text.count("\\(") > text.count("\\)"):
        return True
    dollars = text.replace("\\$", "").split("$")
    return len(dollars) % 2 == 0 and bool(re.search(r"\\[a-z]+|[\^_]", dollars[-1]))


def _goes_on(text: str) -> bool:
    """Whether after the clause that a candidate stands in another begins that does not end."""
    following = _NEXT.split(text)
    return len(following) > 1 and len(following[-1].split()) > 1 and text.rstrip()[-1:] not in _ENDED


_NEXT = re.compile(r"[.!?,;]\s|\n")


def _last(text: str) -> Found | None:
    """The last formula, or the last number where that comes later; none if the text breaks off before or in it."""
    text = text[-4_000:].rstrip()
    if len(text) > _LONG and _unfinished(text):
        return None
    formula = None
    for each in _FORMULA.finditer(text):
        if _is_formula(_content(each)):
            formula = each
    start = formula.end() if formula else 0
    numbers = [each for pattern in (_NUMBER, _WITH_UNIT) for each in pattern.finditer(text, start)]
    number = max((each for each in numbers if not _labels(text, each)), key=lambda each: each.start(), default=None)
    last = number or formula
    if last is None or (len(text) > _LONG and _goes_on(text[last.end() :])):
        return None
    if number is not None:
        if number.re is _WITH_UNIT:
            return Found(f"{number[1]} {number[2]}", "number")
        return Found(number[0].strip() + _unit_after(text[number.end() :]), "number")
    more = _SENTENCE.split(text[last.end() : last.end() + 60], maxsplit=1)[0]
    return Found(_content(last) + _unit_after(more), "formula")


def _labels(text: str, number: re.Match[str]) -> bool:
    """Whether a number counts steps or items: `Step 3`, or `3.` at the beginning of a line."""
    if _LABEL.search(text, max(0, number.start() - 40), number.start()):
        return True
    return text[: number.start()].endswith("\n") and bool(re.match(r"\s*[).:]\s", text[number.end() :]))
