"""Whether an answer is the reference, as far as text and exact arithmetic tell.

`compare` says yes, no, or which pairs of expressions are to be put to computer algebra (`math_symbolic.py`).

Not covered: expressions that differ in text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gristmill.score.math_forms import NO_SOLUTION, Form, words_of
from gristmill.score.math_numbers import BASE, Quantity
from gristmill.score.math_text import MARK, canonical
from gristmill.score.math_units import measure
from gristmill.score.math_values import differ


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as the same; see `math.math`."""

    percent: str = "strict"
    units: str = "strict"
    tolerance: float = 0.0
    unevaluated: str = "wrong"
    asks_percent: bool = False
    """Whether the question asks for a percentage."""


Pairs = Sequence[tuple[str, str]]


class Compared(NamedTuple):
    """`same` is None where `ask` must be: each gold expression, each answer, and which may be paired with which."""

    same: bool | None
    tier: str
    why: str = ""
    ask: tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, int], ...]] | None = None


def compare(gold: Form, answer: Form, policy: Policy) -> Compared:
    """Compare two answers that have been read."""
    if gold.name != answer.name and len(gold.name) == len(answer.name) == 1:
        return Compared(False, "text", f"{answer.name} is not {gold.name}")
    if gold.kind == answer.kind == "number":
        return _numbers(gold.quantity, answer.quantity, policy)
    if canonical(gold.whole) == canonical(answer.whole):
        return Compared(True, "text")
    if "words" in (gold.kind, answer.kind) or words_of(gold.text) == NO_SOLUTION:
        same = words_of(gold.text) == words_of(answer.text)
        return Compared(same, "words")
    if gold.kind == "choice" and (labelled := _LABELLED.match(answer.whole)):
        return Compared(labelled[1] == gold.text, "choice")
    if "choice" in (gold.kind, answer.kind) and (
        gold.kind == answer.kind or "expression" not in (gold.kind, answer.kind)
    ):
        return Compared(gold.kind == answer.kind and gold.text == answer.text, "choice")
    if gold.kind == "clock" or answer.kind == "clock":
        return _clocks(gold, answer)
    if "group" in (gold.kind, answer.kind):
        return _groups(gold, answer, policy)
    if gold.kind == "number" and policy.unevaluated == "wrong":
        return Compared(False, "number", "the answer is an expression and not the number that is asked for")
    return _expressions(gold, answer, policy)


_LABELLED = re.compile(rf"{MARK}?\(?{MARK}?([A-Z]){MARK}?[).:]")
"""The letter of `B) 12` and `(B) cats`."""


def _numbers(gold: Quantity, answer: Quantity, policy: Policy) -> Compared:
    value, other = gold.value, answer.value
    in_percent, other_in_percent = gold.unit == "%", answer.unit == "%"
    if in_percent != other_in_percent:
        if value == other and value and _percent_may_be_left_out(in_percent, policy):
            return Compared(True, "number")
        value, other = (Fraction(value, 100), other) if in_percent else (value, Fraction(other, 100))
    elif not in_percent:
        factor = _factor(gold.unit, answer.unit, policy)
        if factor is None:
            return Compared(False, "number", f"the unit is {answer.unit}, not {gold.unit}")
        other = other * factor
    if value == other:
        return Compared(True, "number")
    if policy.tolerance and abs(Fraction(value) - Fraction(other)) <= Fraction(policy.tolerance) * abs(Fraction(value)):
        return Compared(True, "number", f"within {policy.tolerance:g}")
    return Compared(False, "number")


def _percent_may_be_left_out(by_answer: bool, policy: Policy) -> bool:
    """Whether p and p % are the same: where percent are asked for, as the question or the reference shows."""
    return policy.percent == "lenient" or policy.asks_percent or by_answer


def _factor(gold: str, answer: str, policy: Policy) -> Fraction | int | None:
    """What the answer's number is to be multiplied by; None if its unit makes it wrong."""
    if policy.units == "ignore" or not gold or not answer or gold == answer:
        return 1
    if gold.startswith(BASE) or answer.startswith(BASE):
        return None
    wanted, given = measure(gold), measure(answer)
    if wanted is None or given is None or wanted == given:
        return 1
    if wanted[1] != given[1] or policy.units != "convert":
        return None
    return given[0] / wanted[0]


def _clocks(gold: Form, answer: Form) -> Compared:
    same = gold.kind == answer.kind and gold.text == answer.text
    halves = {gold.quantity.unit, answer.quantity.unit} - {""}
    return Compared(same and len(halves) < 2, "text")


_UNORDERED = frozenset({"{}", "", "U"})


def _groups(gold: Form, answer: Form, policy: Policy) -> Compared:
    if gold.kind != answer.kind:
        if {gold.kind, answer.kind} == {"group", "expression"}:
            return _expressions(gold, answer, policy)
        return Compared(False, "parts", f"{_count(answer)} for {_count(gold)}")
    brackets = {gold.bracket, answer.bracket}
    if "U" in brackets and (not brackets <= _UNORDERED or len(gold.parts) != len(answer.parts)):
        return _expressions(gold, answer, policy)  # [1,3] and [3,9] together are [1,9]
    if len(gold.parts) != len(answer.parts):
        return Compared(False, "parts", f"{_count(answer)} for {_count(gold)}")
    if len(brackets) > 1 and not brackets <= _UNORDERED and brackets != {"", "()"}:
        return Compared(False, "parts", f"{answer.bracket or 'a list'} is not {gold.bracket or 'a list'}")
    if brackets <= _UNORDERED:
        return _unordered(gold.parts, answer.parts, policy)
    return _ordered(gold.parts, answer.parts, policy)


def _ordered(golds: Sequence[Form], answers: Sequence[Form], policy: Policy) -> Compared:
    ask: list[tuple[str, str]] = []
    for one, other in zip(golds, answers, strict=True):
        found = compare(one, other, policy)
        if found.same is False:
            return Compared(False, "parts", found.why or f"{other.text} is not {one.text}")
        if found.ask is not None:
            nested, nested_answers, allowed = found.ask
            in_order = all(row == column for row, column in allowed)
            ask += zip(nested, nested_answers, strict=True) if in_order else [(one.text, other.text)]
    if not ask:
        return Compared(True, "parts")
    ours, theirs = zip(*ask, strict=True)
    return Compared(None, "symbolic", ask=(ours, theirs, tuple((place, place) for place in range(len(ask)))))


def _unordered(golds: Sequence[Form], answers: Sequence[Form], policy: Policy) -> Compared:
    open_answers, missing = list(answers), list[Form]()
    for gold in golds:
        same = next((each for each in open_answers if compare(gold, each, policy).same), None)
        if same is None:
            missing.append(gold)
        else:
            open_answers.remove(same)
    if not missing:
        return Compared(True, "parts")
    allowed = [
        (row, column)
        for row, gold in enumerate(missing)
        for column, answer in enumerate(open_answers)
        if compare(gold, answer, policy).same is None
    ]
    if {row for row, _ in allowed} != set(range(len(missing))) or {c for _, c in allowed} != set(range(len(missing))):
        return Compared(False, "parts", f"no member is {missing[0].text}")
    return Compared(
        None,
        "symbolic",
        ask=(tuple(each.text for each in missing), tuple(each.text for each in open_answers), tuple(allowed)),
    )


def _expressions(gold: Form, answer: Form, policy: Policy) -> Compared:
    units = gold.quantity.unit if gold.kind != "group" else "", answer.quantity.unit if answer.kind != "group" else ""
    if "%" not in units and _factor(*units, policy) != 1:
        return Compared(False, "symbolic", f"the unit is {units[1]}, not {units[0]}")
    if canonical(gold.text) == canonical(answer.text):
        return Compared(True, "text")
    texts = gold.text, answer.text
    if bool(gold.name) != bool(answer.name) and "=" in gold.text + answer.text:
        texts = gold.whole, answer.whole  # y = 2x, and an equation that is not solved for y
    if not policy.tolerance and differ(*texts):
        return Compared(False, "values")
    return Compared(None, "symbolic", ask=((texts[0],), (texts[1],), ((0, 0),)))


def _count(form: Form) -> str:
    return f"{len(form.parts)} answers" if form.kind == "group" else "one answer"
