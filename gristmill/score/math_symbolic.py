r"""Whether two expressions are equal, by math-verify (https://github.com/huggingface/Math-Verify), in a worker.

Decimals are given to it as fractions, so that 3.14159265 is not \pi; its own time limits, which need signals and stop
no C code, are off, as the workers' deadline holds.

Not covered: approximate equality.
"""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, N, Rational

from gristmill.score.math_text import MARK

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

CLOSE = 1e-12
"""The relative difference of two equal numbers that were worked out to 30 digits."""

_DEGREES = re.compile(r"(\d+) degrees\b")
FAR = 1e-6
"""A relative difference at one value of the variables that shows two expressions to differ."""

_POWER = re.compile(r"\^\s*(\([^()]*\))")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")


_CONFIG = [
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            units=False,  # it would take the m of 5m, a variable, for metres
            malformed_operators=True,
            nits=True,
            boxed="none",
        )
    )
]


def equal(task: Sequence[Any]) -> str:
    """`same`, `different`, or `gold`, `answer` for what cannot be parsed.

    `task` has the gold expressions, the answers, the pairs (of their numbers) that may be matched, and the relative
    difference that numbers may have. Every gold needs an answer of its own; equality is transitive, so that the first
    that fits will do.
    """
    golds, answers, allowed, tolerance = task
    parsed_golds = [_parsed(each) for each in golds]
    if not all(parsed_golds):
        return "gold"
    parsed_answers = [_parsed(each) for each in answers]
    if not all(parsed_answers):
        return "answer"
    taken: set[int] = set()
    for row, gold in enumerate(parsed_golds):
        fits = (
            column
            for each, column in allowed
            if each == row and column not in taken and _same(gold, parsed_answers[column], tolerance)
        )
        if (found := next(fits, None)) is None:
            return "different"
        taken.add(found)
    return "same"


@lru_cache(maxsize=1_000)
def _parsed(text: str) -> Any:
    """The expression in a list, empty if there is none; a reference is asked about many times."""
    latex = _DECIMAL.sub(lambda found: _fraction(found[1], found[2]), text.replace(MARK, " "))
    latex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", latex)
    latex = _POWER.sub(r"^{\1}", latex)
    return parse(f"${latex}$", extraction_config=_CONFIG, fallback_mode="no_fallback", parsing_timeout=None)


def _same(gold: Any, answer: Any, tolerance: float) -> bool:
    """math-verify's verdict, but where numbers tell: it takes those that differ by less than 1e-15 for equal, however
    small they are, and it simplifies at length what one value shows to differ."""
    apart, known = _apart(gold[0], answer[0])
    if apart is not None and (apart > CLOSE or tolerance) and (known or apart > FAR):
        return apart <= max(CLOSE, tolerance)
    return bool(verify(gold, answer, timeout_seconds=None))


def _apart(gold: Any, answer: Any) -> tuple[float | None, bool]:
    """The relative difference of two expressions, where their variables have some positive values; whether it is that
    of two numbers. None if that cannot be told."""
    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return None, False
    names = sorted(gold.free_symbols | answer.free_symbols, key=str)
    values = {name: Rational(17 + 10 * place, 7) for place, name in enumerate(names)}
    one, other = N(gold.subs(values), 30), N(answer.subs(values), 30)
    if not (one.is_number and other.is_number and one.is_finite and other.is_finite) or one == 0:
        return None, False
    apart = abs((one - other) / one)
    return (float(apart) if apart.is_Float or apart.is_Rational else None), not names


def _fraction(whole: str, decimals: str) -> str:
    return rf"\frac{{{int((whole or '0') + decimals)}}}{{{10 ** len(decimals)}}}"


WARMING = (
    *(r"\frac{x+1}{2}", r"-4\sqrt{3}+2\pi", r"2x^{2}-5(x+1)y", r"(-\infty,2)\cup[3,5]", r"(\sqrt{2},1)"),
    *(r"\{1,2\}", r"y=\sin x", "3x-2y+4=0", "3+4i", r"\frac{7\sqrt{3}}{2}i"),
)
"""Expressions on which the parser learns its grammar, before an item is charged for that."""

for _each in WARMING:
    equal(((_each,), (f"{_each} + 0",), ((0, 0),), 0.0))
