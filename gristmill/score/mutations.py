r"""Answers made wrong on purpose: a digit, the sign or the unit of the final answer is changed.

A verifier that still calls the response right has a blind spot. The rest of the response stays as it is.

Not covered: responses whose final answer `math_answer.of_response` does not find, and answers without a number.
"""

import re
from collections.abc import Callable

from gristmill.score.math_answer import of_response
from gristmill.score.math_units import UNITS

_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"(-\s?)?(\d+(?:,\d{3})*(?:\.\d+)?)")
_WORD = re.compile(r"\\?%|\\?\$|(?<![A-Za-z\\])[A-Za-z]+")


def digit(answer: str, place: int) -> str | None:
    """With one digit, the `place`-th of them counted round, raised by one; 9 becomes 8."""
    digits = list(_DIGIT.finditer(answer))
    if not digits:
        return None
    found = digits[place % len(digits)]
    other = str(int(found[0]) + 1) if found[0] != "9" else "8"
    return answer[: found.start()] + other + answer[found.end() :]


def sign(answer: str, _: int = 0) -> str | None:
    """With the sign of its first number but zero turned; None where it has both signs."""
    found = next((each for each in _NUMBER.finditer(answer) if each[2].strip("0,.")), None)
    if found is None or r"\pm" in answer or "±" in answer:
        return None
    return answer[: found.start()] + ("" if found[1] else "-") + found[2] + answer[found.end() :]


def unit(answer: str, _: int = 0) -> str | None:
    """In another unit, of the same dimension if there is one: dollars become cents, per cent becomes per mille."""
    for found in _WORD.finditer(answer):
        word = found[0].lstrip("\\")
        if word == "%":
            return answer[: found.start()] + r"\text{ per mille}" + answer[found.end() :]
        if word == "$":
            return answer[: found.start()] + answer[found.end() :] + r"\text{ cents}"
        if word in UNITS and any(each.isdigit() for each in answer[: found.start()]):
            return answer[: found.start()] + _other(word) + answer[found.end() :]
    return None


def _other(name: str) -> str:
    factor, dimension = UNITS[name]
    same = (other for other, (size, of) in UNITS.items() if of == dimension and size != factor and len(other) > 1)
    return next(same, "hours" if dimension != "time" else "km")


MUTATIONS: dict[str, Callable[[str, int], str | None]] = {"digit": digit, "sign": sign, "unit": unit}


def mutated(response: str, kind: str, place: int = 0) -> tuple[str, str, str] | None:
    """The response with its final answer changed, what that was and what it is; None where that cannot be done."""
    found = of_response(response)
    at = response.rfind(found.text) if found and found.text else -1
    if found is None or at < 0:
        return None
    after = MUTATIONS[kind](found.text, place)
    if after is None:
        return None
    return response[:at] + after + response[at + len(found.text) :], found.text, after
