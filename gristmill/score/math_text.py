r"""Mathematical text in one spelling: Unicode to LaTeX, LaTeX without its typography.

`cleaned` keeps what an answer says and drops how it is set: fonts, spaces, `\left`, dollar signs, Markdown stars,
trailing full stops. Words that were in `\text{}` and its like are led by `MARK`, since `5\text{ m}` has a unit and `5m`
may not. `canonical` goes further, for comparing as text.

Not covered: what the text means (`math_forms.py`).
"""

import re
import unicodedata
from functools import lru_cache

MARK = "¦"
"""Precedes words that LaTeX set as text."""

_SUPERSCRIPTS = {ord(each): str(value) for value, each in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {ord("⁻"): "-", ord("⁺"): "+"}
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("−–‐‑‒﹣－", "-"),
        **dict.fromkeys("×✕", r"\times "),
        **dict.fromkeys("·⋅∙", r"\cdot "),
        **dict.fromkeys("≤⩽", r"\le "),
        **dict.fromkeys("≥⩾", r"\ge "),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f\u2002\u2003", " "),
        **dict.fromkeys("\u200b\u2060\ufeff\u200c\u200d", ""),
        **{"π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "°": r"^\circ ", "∪": r"\cup ", "∩": r"\cap ", "÷": "/"},
        **{"∅": r"\emptyset ", "≠": r"\ne ", "±": r"\pm ", "∈": r"\in ", "⁄": "/", "€": " euros ", "£": " pounds "},
    }
)
_VULGAR = re.compile("[¼½¾⅐-⅞]")

_DROPPED = re.compile(
    r"\\(?:left|right|bigg?|Bigg?|bigl|bigr|Bigl|Bigr|displaystyle|textstyle|limits|quad|qquad|hfill|nonumber|mathstrut)"
    r"(?![a-zA-Z])\.?|(?<!\\)\\[,!;: ]|\\boxed(?![a-zA-Z])|\\fbox(?![a-zA-Z])|~"
)
_FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|textup|mbox|hbox|mathrm|mathbf|mathit|mathsf|bf|rm|operatorname\*?|bm|boldsymbol)"
    r"\s*\{([^{}]*)\}"
)
_FONT = re.compile(r"\\(?:bf|rm|it|mathbf|mathrm|bm|boldsymbol)(?![a-zA-Z])")
_RELATIONS = {
    r"\leq": r"\le",
    r"\geq": r"\ge",
    r"\leqslant": r"\le",
    r"\geqslant": r"\ge",
    r"\neq": r"\ne",
    r"\lt": "<",
    r"\gt": ">",
    r"\varnothing": r"\emptyset",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    r"\lbrack": "[",
    r"\rbrack": "]",
    r"\lparen": "(",
    r"\rparen": ")",
    r"\degree": r"^\circ",
    r"\iff": "=",
    r"\dots": "...",
    r"\ldots": "...",
    r"\cdots": "...",
}
_PYTHON_POWER = re.compile(r"(?<=[\w)])\*\*(?=[\w(])")
_THOUSANDS = re.compile(r"\s*\{\s*,\s*\}\s*")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_DELIMITERS = re.compile(r"\\[()\[\]]")
_SPACES = re.compile(r"\s+")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
_SIMPLE = re.compile(r"[-+]?\d+(?:\.\d+)?")


@lru_cache(maxsize=20_000)
def cleaned(text: str) -> str:
    """What is said, in LaTeX and ASCII where those have it; spaces are single."""
    text = text.strip()
    if _SIMPLE.fullmatch(text):
        return text
    if not text.isascii():
        text = _ascii(text)
    text = (
        _PYTHON_POWER.sub("^", text)
        .replace("**", "")
        .replace("__", "")
        .replace("\\\\%", "%")
        .replace(r"\%", "%")
        .replace(r"\#", "#")
    )
    text = text.replace(r"\tfrac", r"\frac")
    text = _THOUSANDS.sub(",", text)
    text = text.replace(",\\!", ",").replace("\\,", " ")
    text = text.replace("<=", r"\le ").replace(">=", r"\ge ").replace("!=", r"\ne ")
    if "\\" in text:
        text = _FRACTIONS.sub(r"\\frac", _DROPPED.sub(" ", text))
        text = _DEGREES.sub(r" degrees ", text)
        before = ""
        while before != text:  # \textbf{\text{x}}: from the inside out
            before, text = text, _TEXT.sub(lambda found: f"{MARK}{found[1]}{MARK}", text)
        text = _FONT.sub(" ", text)
        text = _COMMAND.sub(lambda found: _RELATIONS.get(found[0], found[0]), _DELIMITERS.sub(" ", text))
    if r"\$" in text:
        text = text.replace(r"\$", " dollars ").replace("$", " ")
    elif "$" in text:
        text = text.replace("$", " dollars " if text.count("$") == 1 and _MONEY.match(text) else " ")
    text = _SPACES.sub(" ", text).strip()
    return _without_ends(text)


_MONEY = re.compile(r"[^$]*\$\s*-?[\d.][^$]*$")
"""One dollar sign, before a digit: money, and not half of a formula's delimiters."""


def _without_ends(text: str) -> str:
    """Without full stops, emphasis and a pair of braces around all of it."""
    before = None
    while before != text:
        before = text
        text = text.strip().strip(MARK) if text.count(MARK) <= 2 and text[:1] == MARK == text[-1:] else text.strip()
        text = text.strip("*`\"'")
        if text[-1:] in ".,;:" and not text.endswith("..."):
            text = text[:-1]
        if text[:1] == "{" and text[-1:] == "}" and _closes(text) == len(text) - 1:
            text = text[1:-1]
    return text


def _closes(text: str) -> int:
    """Where the brace that opens the text is closed; -1 if it is not."""
    depth = 0
    for place, each in enumerate(text):
        if each in "{}" and (not place or text[place - 1] != "\\"):
            depth += 1 if each == "{" else -1
            if not depth:
                return place
    return -1


def _ascii(text: str) -> str:
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]), text)
    text = _SUPERSCRIPT.sub(lambda found: "^{" + found[0].translate(_SUPERSCRIPTS) + "}", text)
    text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)
    if text.isascii():
        return text
    return "".join(each if each.isascii() or not each.isdecimal() else str(unicodedata.decimal(each)) for each in text)


_BAD = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def unreadable(text: str) -> bool:
    """Whether it has characters that no answer has: controls, lone surrogates, marks that reorder what is read."""
    return bool(_BAD.search(text))


_ARGUMENT = re.compile(r"\\(frac|sqrt)\s*(?=[^\s{\[])(\\[a-zA-Z]+|[a-zA-Z0-9])")
_SECOND = re.compile(r"(\\frac\{[^{}]*\})\s*(?=[^\s{])(\\[a-zA-Z]+|[a-zA-Z0-9])")
_LONE = re.compile(r"([\^_])\{([a-zA-Z0-9])\}")


@lru_cache(maxsize=20_000)
def canonical(text: str) -> str:
    r"""Cleaned text as it is compared: braces where LaTeX lets one do without (`\frac12`), no spaces and marks."""
    text = text.replace(MARK, "")
    if "\\" in text:
        text = _SECOND.sub(r"\1{\2}", _ARGUMENT.sub(r"\\\1{\2}", text))
        text = text.replace(r"\cdot", "*").replace(r"\times", "*")
    return _SPACES.sub("", _LONE.sub(r"\1\2", text))
