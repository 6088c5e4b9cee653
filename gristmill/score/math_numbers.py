r"""Numbers as answers write them, read exactly: integers, decimals, fractions, with their unit or percent sign.

Thousands (`1,234`, `1 234`), currency, mixed fractions (`3 1/2`), scientific notation (`1.5e6`, `1.5 \times 10^6`),
repeating decimals (`0.\overline{3}`) and English words to ninety-nine. Powers other than of ten are expressions, not
numbers, and so is all other arithmetic.

Not covered: number words beyond English, what the words after a number mean (`math_units.py`).
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from gristmill.score.math_limits import LONGEST
from gristmill.score.math_text import MARK
from gristmill.score.math_units import UNITS

MOST_DIGITS = 1_000
"""Digits of a power of ten that is worked out."""


class Quantity(NamedTuple):
    """A number and what stands beside it."""

    value: Fraction | int
    unit: str = ""
    """Words and symbols after it, or a currency before it. `%` is that of a percentage, whose value is as written, and
    `base 5` that of 204_5, whose value is its digits."""


_INTEGER = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|[1-9]\d{0,2}(?: \d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_EXPONENT = r"\{?\s*([-+]?\s?\d+)\s*\}?"
_ONE = re.compile(rf"({_DECIMAL})(?:[eE]([-+]?\d+))?(?![\d])")
_SCIENTIFIC = re.compile(rf"(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*(?:\^|\*\*)\s*{_EXPONENT}(?!\d)")
_FRACTION = re.compile(
    rf"(?:(\d+)\s*)?\\frac\s*(?:\{{\s*(-?\s?{_DECIMAL})\s*\}}|(\d))\s*(?:\{{\s*(-?\s?{_DECIMAL})\s*\}}|(\d))"
)
_SLASHED = re.compile(rf"(?:(\d+)[ ]+)?({_DECIMAL})\s*/\s*(-?{_DECIMAL})(?!\d)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{?(\d+)\}?")
_SIGN = re.compile(r"[-+]\s?")
_CURRENCY = re.compile(r"(dollars|euros|pounds|USD|US dollars|EUR|GBP)\s+")

_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
WORDS = {word: value for value, word in enumerate(_SMALL)}
WORDS |= {ten: 20 + 10 * place for place, ten in enumerate(_TENS)}
WORDS |= {f"{ten}-{one}": WORDS[ten] + WORDS[one] for ten in _TENS for one in _SMALL[1:10]}

BASE = "base "
_BASED = re.compile(rf"(-?\s?\d+(?:\.\d+)?)\s*_\s*\{{?\s*{MARK}?\s*(\d+|[a-z]+)\s*{MARK}?\s*\}}?")
_PLAIN = re.compile(r"-?\d{1,15}")


@lru_cache(maxsize=20_000)
def quantity(text: str) -> Quantity | None:
    """The number that the whole of a cleaned text is, or None.

    What follows the number may be a percent sign or words (`42 m^2`, `3 apples`), but no letter that could be a
    variable (`5x`).
    """
    if _PLAIN.fullmatch(text):
        return Quantity(int(text))
    if len(text) > LONGEST:
        return None
    if text.lower() in WORDS:
        return Quantity(WORDS[text.lower()])
    if found := _BASED.fullmatch(text):
        base = WORDS.get(found[2].lower(), found[2])
        return Quantity(_exact(found[1]), f"{BASE}{base}") if str(base).isdigit() else None
    return _with_sign(_without_parentheses(text))


def _with_sign(text: str) -> Quantity | None:
    sign, rest = _signed(text)
    money = ""
    if found := _CURRENCY.match(rest):
        money, rest = found[1], rest[found.end() :]
        if sign == 1:
            sign, rest = _signed(rest)
    for read in (_mixed, _slashed, _repeating, _scientific, _one):
        if (got := read(rest)) is not None:
            value, end = got
            if scale := _SCALE.match(rest, end):
                value, end = value * 10 ** _SCALES[scale[1].lower()], scale.end()
            unit = _unit(rest[end:])
            if unit is not None:
                return Quantity(sign * value, unit or money)
            if read is not _one:
                continue
    return None


def _signed(text: str) -> tuple[int, str]:
    found = _SIGN.match(text)
    return (-1 if found and found[0][0] == "-" else 1, text[found.end() :] if found else text)


def _without_parentheses(text: str) -> str:
    """`(7)` and `-(7/2)` without the parentheses."""
    sign = "-" if text[:1] == "-" else ""
    inner = text[len(sign) :].strip()
    if inner[:1] == "(" and inner[-1:] == ")" and "," not in inner and inner.count("(") == 1:
        inside = inner[1:-1].strip()
        if not (sign and inside[:1] == "-"):
            return sign + inside
    return text


_Read = tuple[Fraction | int, int] | None


def _exact(text: str) -> Fraction | int:
    """The value of digits with thousands' separators and a decimal point."""
    digits = text.replace(",", "").replace(" ", "")
    return int(digits) if digits.isdigit() else Fraction(digits + "0" if digits[-1:] == "." else digits)


def _over(above: Fraction | int, below: Fraction | int) -> Fraction | None:
    return Fraction(above) / Fraction(below) if below else None


def _mixed(text: str) -> _Read:
    found = _FRACTION.match(text)
    if not found:
        return None
    whole, above, above_one, below, below_one = found.groups()
    share = _over(_exact((above or above_one).replace(" ", "")), _exact((below or below_one).replace(" ", "")))
    return None if share is None or (whole and share < 0) else (share + int(whole or 0), found.end())


def _slashed(text: str) -> _Read:
    found = _SLASHED.match(text)
    if not found:
        return None
    whole, above, below = found.groups()
    share = _over(_exact(above), _exact(below))
    return None if share is None else (share + int(whole or 0), found.end())


def _repeating(text: str) -> _Read:
    found = _REPEATING.match(text)
    if not found:
        return None
    whole, first, again = found.groups()
    tail = Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(first))
    return Fraction(int((whole or "0") + first), 10 ** len(first)) + tail, found.end()


def _scientific(text: str) -> _Read:
    found = _SCIENTIFIC.match(text)
    if not found:
        return None
    power = int(found[2].replace(" ", ""))
    if abs(power) > MOST_DIGITS:
        return None
    return _exact(found[1] or "1") * Fraction(10) ** power, found.end()


def _one(text: str) -> _Read:
    found = _ONE.match(text)
    if not found or abs(int(found[2] or 0)) > MOST_DIGITS:
        return None
    value = _exact(found[1])
    return (value * Fraction(10) ** int(found[2]) if found[2] else value), found.end()


_PERCENT = re.compile(r"%|(?:percent|percentage|pct|per cent)\b\.?", re.IGNORECASE)
_HALF_DAY = re.compile(r"\b([apAP])\.\s?[mM](?:\.|$)")
_NOUNS = re.compile(r"[A-Za-z][A-Za-z'\-]*\.?(?:\s?\^\s?\{?\s?-?[0-9]\s?\}?|[ /]+\(?[A-Za-z][A-Za-z'\-]*\.?\)?){0,7}")
_CONNECTIVES = re.compile(
    r"\b(?:or|and|not|to|if|plus|minus|times|mod|when|where|is|but|nor|squared|cubed|factorial|halves|thirds?"
    r"|fifths?|tenths?|hundredths?|thousandths?|mille)\b",
    re.IGNORECASE,
)
"""Words that make of a number another, or no number."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = re.compile(r"[\s¦]+(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)


def _unit(rest: str) -> str | None:
    """What follows a number as a unit, `""` for nothing; None if it is no unit, so that the text is no number."""
    marked = MARK in rest
    glued = bool(rest) and not marked and rest[0].isalpha()
    words = _HALF_DAY.sub(r"\1m", rest.replace(MARK, " ").strip())
    if not words:
        return ""
    if found := _PERCENT.match(words):
        return "%" if not words[found.end() :].strip(" .") or marked or rest[:1] == " " else None
    if not _NOUNS.fullmatch(words) or _CONNECTIVES.search(words):
        return None
    first = re.split(r"[ /^]", words, maxsplit=1)[0]
    if len(first) == 1 and not marked and (glued or first not in UNITS):
        return None  # a variable
    if glued and first.rstrip(".") not in UNITS and not _is_word(first):
        return None
    return words


def _is_word(text: str) -> bool:
    return len(text) > 3 and text.isalpha()
