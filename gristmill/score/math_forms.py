r"""What kind of thing an answer is: a number, a choice, words, a clock time, a group of answers, or an expression.

Groups are tuples, intervals, sets, lists (`1, 2`; `2 and 1`; `3 \pm 1`), unions and matrices; inequalities in one
variable are read as intervals. `NAME =` and `x \in` before an answer are taken off and remembered.

Not covered: whether two are the same (`math_compare.py`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gristmill.score.math_limits import DEEPEST, LONGEST
from gristmill.score.math_numbers import Quantity, quantity
from gristmill.score.math_text import MARK, canonical, cleaned

NONE = Quantity(0)


@dataclass(frozen=True, slots=True)
class Form:
    """An answer that has been read. `parts` are the members of a group, `bracket` what they stand in."""

    kind: str
    """`number`, `choice`, `words`, `clock`, `group` or `expression`."""
    text: str
    """Cleaned text, without a name or unit."""
    whole: str = ""
    """Cleaned text as it was."""
    quantity: Quantity = NONE
    """Of a number; of an expression or clock time only the unit counts."""
    parts: tuple["Form", ...] = ()
    bracket: str = ""
    """`()`, `[)` and so on, `{}`, `""` for a list, `U` for a union, `matrix`."""
    name: str = ""
    """What was left of the equals sign."""


@lru_cache(maxsize=20_000)
def read(text: str, comma: bool = False) -> Form:
    """The form of an answer; `comma` reads `1.234,5` as English writes `1,234.5`."""
    text = cleaned(text)
    if len(text) > LONGEST:
        return Form("expression", text, text)
    return _read(_with_points(text) if comma else text, 0)


_GROUPED = re.compile(r"(?<=\d)\.(?=\d{3}(?!\d))")
_COMMA = re.compile(r"(?<=\d),(?=\d)")


def _with_points(text: str) -> str:
    grouped = _GROUPED.sub("", text) if "," in text or text.count(".") > 1 else text
    return _COMMA.sub(".", grouped)


def _read(text: str, depth: int) -> Form:
    if (found := quantity(text)) is not None:
        return Form("number", text, text, found)
    if depth > 4:
        return Form("expression", text, text)
    name, value = _named(text)
    if value != text:
        form = _read(value, depth + 1)
        return Form(form.kind, form.text, text, form.quantity, form.parts, form.bracket, name or form.name)
    for kind in (_choice, _clock, _about, _matrix, _bracketed, _listed, _interval, _either_sign, _words, _with_unit):
        if (other := kind(text, depth)) is not None:
            return other
    return Form("expression", text, text)


_NAME = (
    r"(?:m?\s?\\angle\s*)?(?:\\?[a-zA-Z]+'?|[¦][^¦]*[¦]|\\overline\{\w+\}|\|\w+\|)(?:_(?:\{\w+\}|\w))?"
    r"(?:\s*\([^()=]*\)|\^\{?-?\w\}?(?=\())?(?:\s*\([^()=]*\))?"
)
_NAMED = re.compile(
    rf"({_NAME}(?:\s*,\s*{_NAME})*|\((?:[a-zA-Z](?:\s*,\s*)?)+\))\s*(?:=|\\approx|\\in(?![a-zA-Z]))\s*(?=\S)"
)
_EQUALS = re.compile(r"(?<![<>!\\])=")
_REVERSED = re.compile(r"([^=]*\d[^=]*)=\s*([a-zA-Z])")
_ARITHMETIC = re.compile(r"[\d\s.+\-*/()^{}]*(?:\\(?:frac|cdot|times|div|sqrt)[\d\s.+\-*/()^{}]*)*")


def _named(text: str) -> tuple[str, str]:
    """What is left of the equals sign, and the answer; `x = 5 + 6 = 11` is 11, and `2 = x` is 2."""
    if found := _NAMED.match(text):
        name, value = found[1].replace(MARK, "").strip(), text[found.end() :]
        sides = _EQUALS.split(value)
        if len(sides) > 1 and "," not in value and not _AND.search(value):
            value = sides[-1]
        if "=" not in value and not (len(sides) > 1 and not value.strip()):
            value = re.split(r"\\approx(?![a-z])", value)[0] or value
            return name, value.strip()
    if found := _REVERSED.fullmatch(text):
        return found[2], found[1].strip()
    sides = _EQUALS.split(text)
    if len(sides) > 1 and all(_ARITHMETIC.fullmatch(side) for side in sides) and sides[-1].strip():
        return "", sides[-1].strip()
    return "", text


_CHOICE = re.compile(rf"{MARK}?\s*\(?{MARK}?\s*([A-Z])\s*{MARK}?\)?\s*{MARK}?")


def _choice(text: str, _: int) -> Form | None:
    found = _CHOICE.fullmatch(text)
    return Form("choice", found[1], text) if found else None


_CLOCK = re.compile(
    rf"(\d{{1,3}}\s*:\s*\d{{1,3}}(?:\s*:\s*\d{{1,3}})*)[\s{MARK}]*((?:[ap]\.?\s?m\.?)?)[\s{MARK}]*", re.IGNORECASE
)


def _clock(text: str, _: int) -> Form | None:
    found = _CLOCK.fullmatch(text)
    if not found:
        return None
    return Form(
        "clock", found[1].replace(" ", ""), text, Quantity(0, found[2].lower().replace(".", "").replace(" ", ""))
    )


_ABOUT = re.compile(
    rf"(?:{MARK}?\s*(?:about|approximately|approx\.?|around|roughly|only|exactly)\b\s*{MARK}?|\\approx(?![a-z])|\\sim(?![a-z]))\s*"
)


def _about(text: str, depth: int) -> Form | None:
    found = _ABOUT.match(text)
    return _read(text[found.end() :], depth + 1) if found and found.end() < len(text) else None


_MATRIX = re.compile(r"\\begin\s*\{([pb]?matrix|array)\}\s*(?:\{[clr|]*\})?(.*?)\\end\s*\{\1\}", re.DOTALL)


_ROW = re.compile(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])|\\(?=[\d\s-])")
"""Rows end at two backslashes; one before a digit, a space or a minus is what is left of two that were unescaped."""


def _matrix(text: str, depth: int) -> Form | None:
    bare = text[1:-1].strip() if text[:1] + text[-1:] in ("()", "[]") else text
    found = _MATRIX.fullmatch(bare)
    if not found or "\\begin" in found[2]:
        return None
    rows = [row for row in _ROW.split(found[2]) if row.strip()]
    read_rows = tuple(
        Form(
            "group",
            row.strip(),
            row.strip(),
            parts=tuple(_read(cell.strip(), depth + 1) for cell in row.split("&")),
            bracket="()",
        )
        for row in rows
    )
    return Form("group", text, text, parts=read_rows, bracket="matrix")


_CUP = re.compile(r"\\cup(?![a-z])")


def _bracketed(text: str, depth: int) -> Form | None:
    """Tuples, intervals, sets, and unions of those."""
    pieces = _CUP.split(text)
    if len(pieces) > 1:
        read_pieces = tuple(_read(piece.strip(), depth + 1) for piece in pieces)
        return (
            Form("group", text, text, parts=read_pieces, bracket="U")
            if all(each.kind == "group" for each in read_pieces)
            else None
        )
    opening, closing = ("\\{", "\\}") if text[:2] == "\\{" else (text[:1], text[-1:])
    if (
        opening not in ("\\{", "(", "[")
        or not text.endswith(("\\}", ")", "]"))
        or (opening == "\\{") != (text.endswith("\\}"))
    ):
        return None
    inner = text[len(opening) : len(text) - len(closing)]
    if not _balanced(inner):
        return None
    members = list(_split(inner))
    bracket = "{}" if opening == "\\{" else opening + closing
    if len(members) < 2 and bracket != "{}":
        return None
    if bracket == "{}" and re.search(r"\\mid(?![a-z])|[|:]", inner):
        return None  # a set given by a condition
    parts = tuple(_read(each, depth + 1) for each in members if each or len(members) > 1)
    if any(not each for each in members[:-1]):
        return None
    if bracket == "{}" and len(parts) == 1:
        return parts[0]
    return Form("group", text, text, parts=parts, bracket=bracket)


_AND = re.compile(rf"(?:,|;)?\s*{MARK}?\s*\b(?:and|or)\b\s*{MARK}?\s*|\s*\\(?:lor|vee|land)(?![a-z])\s*", re.IGNORECASE)


def _listed(text: str, depth: int) -> Form | None:
    """A list without brackets: at commas, semicolons, *and*, *or*."""
    if not _balanced(text):
        return None
    members = [each for each in _split(_AND.sub(" , ", text)) if each]
    if len(members) < 2 or len(members) > 100:
        return None
    parts = [_read(each, depth + 1) for each in members]
    if any(each.kind == "words" for each in parts) and not all(each.kind == "words" for each in parts):
        return None
    return Form("group", text, text, parts=tuple(parts), bracket="")


_PAIRS = {"(": ")", "[": "]", "{": "}"}


def _balanced(text: str) -> bool:
    """Whether every bracket is closed by one of its kind or, of intervals, `)` for `[`."""
    depth = 0
    for each in text:
        if each in "([{":
            depth += 1
            if depth > DEEPEST:
                return False
        elif each in ")]}":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)")


def _split(text: str) -> Iterator[str]:
    """The pieces between the commas and semicolons that stand in no bracket and part no thousands."""
    apart = ";" if ";" in text else ","
    depth = start = place = 0
    while place < len(text):
        each = text[place]
        if each in "([{":
            depth += 1
        elif each in ")]}":
            depth -= 1
        elif each == apart and not depth:
            yield text[start:place].strip(f" {MARK}" if text[start:place].count(MARK) == 1 else " ")
            start = place + 1
        elif (not place or text[place - 1] not in "0123456789,") and (found := _THOUSANDS.match(text, place)):
            place = found.end() - 1
        place += 1
    yield text[start:].strip()


_LESS = r"(<|\\le(?![a-z])|>|\\ge(?![a-z]))"
_VARIABLE = r"(\\?[a-zA-Z]+|[a-zA-Z]\([a-zA-Z]\))"
_BETWEEN = re.compile(rf"([^<>=]+?)\s*{_LESS}\s*{_VARIABLE}\s*{_LESS}\s*([^<>=]+)")
_BOUND = re.compile(rf"{_VARIABLE}\s*{_LESS}\s*([^<>=]+)")
_BOUND_BEFORE = re.compile(rf"([^<>=]+?)\s*{_LESS}\s*{_VARIABLE}")


def _interval(text: str, depth: int) -> Form | None:
    r"""An inequality in one variable as an interval: `-2 \le x < 7` is `[-2,7)`."""
    if r"\le" not in text and r"\ge" not in text and "<" not in text and ">" not in text:
        return None
    if found := _BETWEEN.fullmatch(text):
        low, first, name, second, high = found.groups()
        if (first in "<\\le") != (second in "<\\le"):
            return None
        if first in (">", "\\ge"):
            low, first, second, high = high, _turned(second), _turned(first), low
    elif found := _BOUND.fullmatch(text):
        name, sign, bound = found.groups()
        below = sign in ("<", "\\le")
        low, first, second, high = ("-\\infty", "<", sign, bound) if below else (bound, _turned(sign), "<", "\\infty")
    elif found := _BOUND_BEFORE.fullmatch(text):
        bound, sign, name = found.groups()
        below = sign in (">", "\\ge")
        low, first, second, high = ("-\\infty", "<", _turned(sign), bound) if below else (bound, sign, "<", "\\infty")
    else:
        return None
    bracket = ("[" if first == "\\le" else "(") + ("]" if second == "\\le" else ")")
    ends = tuple(_read(each.strip(), depth + 1) for each in (low, high))
    if any(end.kind not in ("number", "expression") for end in ends):
        return None
    return Form("group", text, text, parts=ends, bracket=bracket, name=name)


def _turned(sign: str) -> str:
    return {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[sign]


_EITHER = re.compile(r"\\pm(?![a-z])")


def _either_sign(text: str, depth: int) -> Form | None:
    if len(_EITHER.findall(text)) != 1:
        return None
    both = [_EITHER.sub(sign, text).strip() for sign in "+-"]
    both[0] = both[0].removeprefix("+").strip()
    return Form("group", text, text, parts=tuple(_read(each, depth + 1) for each in both), bracket="")


_FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "min", "max", "gcd", "lcm", "arcsin", "arccos",
    "arctan", "det", "mod", "sqrt",
})  # fmt: skip
_SHORT_WORDS = frozenset({"odd", "yes", "no", "all", "both", "red", "one"})
_WORD = re.compile(r"[A-Za-z']+")
_PROSE = re.compile(rf"[A-Za-z{MARK}][A-Za-z0-9 ,.'\-_{MARK}()?!:&/]*")


def _words(text: str, _: int) -> Form | None:
    if "\\" in text or not _PROSE.fullmatch(text):
        return None
    words = _WORD.findall(text)
    if any(word in _FUNCTIONS for word in words):
        return None
    longest = max(map(len, words), default=0)
    if MARK in text or text.casefold() in _SHORT_WORDS or longest >= 4 or (longest >= 3 and len(words) > 1):
        return Form("words", text, text)
    return None


_TRAILING = re.compile(
    rf"(.*[^\s{MARK}])\s*{MARK}\s*([A-Za-z][A-Za-z /.^\d'\-]*?)\s*{MARK}?\s*(\^\s*\{{?\d\}}?)?{MARK}?"
)


def _with_unit(text: str, _: int) -> Form | None:
    r"""An expression with a unit set as text: `25\pi \text{ cm}^2`; also degrees."""
    if text.endswith(" degrees") and not any(name in text for name in _FUNCTIONS):
        return Form("expression", text[: -len(" degrees")], text, Quantity(0, "degrees"))
    found = _TRAILING.fullmatch(text)
    if not found or found[1].count(MARK) % 2 or not re.search(r"[\d\\a-z]", found[1]):
        return None
    power = (found[3] or "").strip(" {}^")
    return Form("expression", found[1].strip(), text, Quantity(0, found[2] + (f"^{power}" if power else "")))


_ARTICLES = re.compile(r"\b(?:a|an|the|is|are)\b")
_LETTERS = re.compile(r"[^a-z0-9]+")
NO_SOLUTION = "no solution"
_NOTHING = frozenset({
    "no solution", "no solutions", "no real solution", "no real solutions", "there no solution", "there no solutions",
    "none", "emptyset", "empty set", "no such", "no values", "no such values", "no roots", "no real roots",
})  # fmt: skip


@lru_cache(maxsize=20_000)
def words_of(text: str) -> str:
    """Words as they are compared: small letters, no articles or punctuation; every way to say *none* is one."""
    folded = _LETTERS.sub(" ", text.replace(MARK, "").casefold())
    folded = " ".join(_ARTICLES.sub(" ", folded).split()) or folded.strip()
    return NO_SOLUTION if folded in _NOTHING or canonical(text) in (r"\{\}", r"\emptyset", "{}") else folded
