"""Values of plain expressions: they tell apart what differs, and say nothing of what they are not sure to read."""

import cmath
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.score.math_values import differ, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("-3+4", 1),
        (r"2\sqrt{3}", 2 * math.sqrt(3)),
        (r"\sqrt[3]{8}", 2),
        (r"\frac12", 0.5),
        (r"\frac{\pi}{4}", math.pi / 4),
        ("2^{10}", 1024),
        ("2^3", 8),
        ("-2^2", -4),
        ("(1+2)(3+4)", 21),
        (r"8 \cdot 2 / 4", 4),
        ("3+4i", 3 + 4j),
        (r"\sqrt{-4}", 2j),
        (r"e^{\pi i}", cmath.exp(math.pi * 1j)),
    ],
)
def test_the_value_is_that_of_the_expression(text: str, expected: complex) -> None:
    found = value(text)
    assert found is not None and cmath.isclose(found, expected, abs_tol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2/3x", "x^12", "2 3", "f(x)", r"\sin x", "x=3", "|x|", "(1", "1)", r"\frac{1}{0}", "9^{9^{9}}"),
        *("10^{999}", "x^y^z", "5!", "(" * 99 + "1" + ")" * 99),
    ],
)
def test_what_could_be_read_in_two_ways_or_has_no_value_has_none(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    ("one", "other", "different"),
    [
        ("(x+1)^2", "x^{2}+2x+1", False),
        ("(x+1)^2", "x^{2}+2x+2", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", False),
        (r"\pi", "3.14159265", False),  # too near: left to algebra, which says so
        (r"\pi", "3.14", True),
        ("x+1", "y+1", True),
        (r"\sin x", "x", False),
        ("0", "0", False),
    ],
)
def test_they_differ_where_their_values_do(one: str, other: str, different: bool) -> None:
    assert differ(one, other) is different


COEFFICIENTS = st.lists(st.integers(-99, 99), min_size=1, max_size=5)


def polynomial(coefficients: list[int]) -> str:
    return "+".join(f"({each})x^{{{power}}}" for power, each in enumerate(coefficients))


@given(COEFFICIENTS, COEFFICIENTS)
def test_polynomials_differ_only_if_their_coefficients_do(one: list[int], other: list[int]) -> None:
    def trimmed(coefficients: list[int]) -> list[int]:
        while coefficients and not coefficients[-1]:
            coefficients = coefficients[:-1]
        return coefficients

    if differ(polynomial(one), polynomial(other)):
        assert trimmed(one) != trimmed(other)
    assert not differ(polynomial(one), polynomial(one[::-1][::-1]))


@given(st.text(alphabet=r"0123456789+-*/^(){}[]\xyi. fracsqtp", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    value(text)
