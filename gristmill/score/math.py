r"""`math`: whether the final answer of a response is that of the reference.

Both are found (`math_answer.py`), read (`math_forms.py`) and compared (`math_compare.py`): as text, then as exact
numbers, groups or words, then by math-verify in a worker with a deadline (`math_symbolic.py`, `workers.py`). Verdicts:
`correct` and `wrong`, which are 1 and 0, and `unparseable_answer`, `unparseable_gold`, `timeout`, `crash`, which are
none. The evidence names what was found where, and which comparison decided.

Not covered: proofs, answers that need the question to be understood (but for whether it asks for a percentage), and
references with a choice of answers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from gristmill.errors import UsageError
from gristmill.score.math_answer import Found, of_reference, of_response, plain
from gristmill.score.math_compare import Compared, Policy, compare
from gristmill.score.math_forms import NO_SOLUTION, Form, read, words_of
from gristmill.score.math_limits import LONGEST, too_hard
from gristmill.score.math_text import MARK, canonical, cleaned, unreadable
from gristmill.score.score import Item, Score, Verdict
from gristmill.score.workers import DEADLINE, Outcome, outcomes

VERSION = "1"
"""Changes whenever an item may be judged otherwise."""

EQUAL = "gristmill.score.math_symbolic:equal"

_CHOICES = {
    "percent": ("strict", "lenient"),
    "units": ("strict", "convert", "ignore"),
    "unevaluated": ("wrong", "allowed"),
    "decimal": ("point", "comma", "either"),
}


def math(
    *,
    percent: str = "strict",
    units: str = "strict",
    tolerance: float = 0.0,
    unevaluated: str = "wrong",
    decimal: str = "point",
    deadline: float = DEADLINE,
) -> Score:
    r"""Whether the final answer equals the reference.

    percent: p % is p/100. `strict` also takes p for p %, and p % for p where the question asks for a percentage;
    `lenient` takes p % for p always.
    units: a unit may be left out. `strict`: where both have one that is known they must be the same; `convert`: 5000 m
    is 5 km; `ignore`: units are not looked at.
    tolerance: the relative difference that a number may have; 0: 0.333333 is not 1/3.
    unevaluated: `wrong`: 2 + 8 is no answer where the reference is the number 10; `allowed`: it is.
    decimal: `point`: 1,5 is a list; `comma`: it is 1.5, and 1.234 is 1234; `either`: whichever makes them equal.
    deadline: seconds that computer algebra may take over one item.
    """
    given = {"percent": percent, "units": units, "unevaluated": unevaluated, "decimal": decimal}
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise UsageError(f"score math: {name}={value}; allowed: {', '.join(_CHOICES[name])}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise UsageError(f"score math: tolerance={tolerance}; allowed is a number from 0 to below 1")
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline <= 3600:
        raise UsageError(f"score math: deadline={deadline}; allowed are seconds above 0, to 3600")
    policy = Policy(percent, units, float(tolerance), unevaluated)
    defaults = {"percent": "strict", "units": "strict", "unevaluated": "wrong", "decimal": "point"}
    parameters = {name: value for name, value in given.items() if value != defaults[name]}
    if tolerance:
        parameters["tolerance"] = float(tolerance)  # type: ignore[assignment]
    judge = partial(_judged, policy, decimal, float(deadline))
    return Score("math", VERSION, judge, parameters, gold=partial(_golds, decimal, float(deadline)))


class Asked(NamedTuple):
    """An item that computer algebra must decide, and the evidence so far."""

    task: tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, int], ...], float]
    """As `math_symbolic.equal` takes it."""
    evidence: str


def _judged(policy: Policy, decimal: str, deadline: float, items: Sequence[Item]) -> list[Verdict]:
    return _decided([_first(policy, decimal, item) for item in items], deadline)


def _decided(first: Sequence[Verdict | Asked], deadline: float) -> list[Verdict]:
    """Verdicts for all, computer algebra having been asked; the same question once."""
    asked = list({each.task: None for each in first if isinstance(each, Asked)})
    decided = dict(zip(asked, outcomes(EQUAL, asked, deadline=deadline), strict=True)) if asked else {}
    return [_settled(each, decided[each.task]) if isinstance(each, Asked) else each for each in first]


def _golds(decimal: str, deadline: float, items: Sequence[Item]) -> list[Verdict]:
    """Whether each reference can be used: it is found, read, and where it is an expression, parsed by math-verify."""
    return _decided([_first_of_gold(decimal, item.reference) for item in items], deadline)


def _first_of_gold(decimal: str, reference: str | None) -> Verdict | Asked:
    gold = _gold(reference)
    if isinstance(gold, Verdict):
        return gold
    form = _read(gold.text, decimal)
    expressions = tuple(_expressions(form))
    evidence = f"reference: {_short(form.whole)}"
    if reason := next(filter(None, map(too_hard, expressions)), ""):
        return Verdict(None, "unparseable_gold", f"{evidence}; not worked out: {reason}")
    if not expressions:
        return Verdict(1.0, "correct", evidence)
    return Asked((expressions, expressions, tuple((place, place) for place in range(len(expressions))), 0.0), evidence)


def _expressions(form: Form) -> Iterator[str]:
    """What in a form is left to computer algebra."""
    if form.kind == "expression" and words_of(form.text) != NO_SOLUTION:
        yield form.text
    for part in form.parts:
        yield from _expressions(part)


def _first(policy: Policy, decimal: str, item: Item) -> Verdict | Asked:
    """The verdict on an item, or what computer algebra is to be asked."""
    if decimal == "point" and not policy.tolerance and (wanted := _plain_gold(item.reference)) is not None:
        given = plain(item.response or "")
        if given is not None:
            same = given == wanted or int(given) == int(wanted)
            return Verdict(float(same), "correct" if same else "wrong", f"{given}; reference: {wanted}; by number")
    try:
        gold = _gold(item.reference)
        return gold if isinstance(gold, Verdict) else _against(gold, policy, decimal, item)
    except Exception as error:  # noqa: BLE001  a text may break a parser: that is its row's verdict, not the batch's end
        return Verdict(None, "crash", f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])


def _against(gold: Found, policy: Policy, decimal: str, item: Item) -> Verdict | Asked:
    form = _read(gold.text, decimal)
    response = item.response or ""
    found = of_response(response, choice=form.kind == "choice")
    if found is None or (found.text and (problem := _problem(found, gold))):
        return Verdict(None, "unparseable_answer", problem if found else "no answer is found in it")
    if not found.text:
        return Verdict(0.0, "wrong", f"{found.rule}: empty; reference: {_short(form.whole)}")
    answer = _read(found.text, decimal)
    if policy.percent == "strict" and _PERCENT.search(item.question):
        policy = replace(policy, asks_percent=True)
    compared = compare(form, answer, policy)
    if not compared.same and len(response) <= LONGEST and canonical(cleaned(response)) == canonical(form.whole):
        compared = Compared(True, "text")
    if not compared.same and decimal == "either" and "," in found.text + gold.text:
        other = compare(read(gold.text, True), read(found.text, True), policy)
        compared = other if other.same else compared
    evidence = f"{found.rule}: {_short(answer.whole)}; reference: {_short(form.whole)}"
    if not compared.same and answer.kind in ("expression", "group") and (reason := too_hard(answer.text)):
        return Verdict(None, "timeout", f"{evidence}; not worked out: {reason}")
    if compared.ask is None:
        return _verdict(compared, evidence)
    if reason := too_hard(form.text):
        return Verdict(None, "unparseable_gold", f"{evidence}; not worked out: {reason}")
    return Asked((*compared.ask, policy.tolerance), evidence)


def _problem(found: Found, gold: Found) -> str:
    """What makes a text no answer, in words; empty if it may be one."""
    if len(found.text) > LONGEST and found.text != gold.text:
        return f"the {found.rule} has {len(found.text):,} characters; at most {LONGEST}"
    if unreadable(found.text):
        return f"characters that no answer has in {found.text[:50]!a}"
    return "" if cleaned(found.text) else f"nothing is left of {found.text[:50]!r}"


def _verdict(compared: Compared, evidence: str) -> Verdict:
    why = f"{evidence}; by {compared.tier}"
    if compared.why:
        why = f"{why}: {compared.why}"
    return Verdict(1.0, "correct", why) if compared.same else Verdict(0.0, "wrong", why)


@lru_cache(maxsize=20_000)
def _plain_gold(reference: str | None) -> str | None:
    if reference is None:
        return None
    return reference if reference.isascii() and reference.isdigit() and len(reference) < 16 else plain(reference)


_UNUSABLE = frozenset({"", "nan", "none", "null", "n/a", "na", "<na>"})


@lru_cache(maxsize=20_000)
def _gold(reference: str | None) -> Found | Verdict:
    """The answer of a reference, or why there is none."""
    if reference is None or reference.strip().lower() in _UNUSABLE:
        return Verdict(None, "unparseable_gold", f"the reference is {reference!r}")
    found = of_reference(reference)
    if found is not None and len(found.text) > LONGEST:
        return Verdict(None, "unparseable_gold", f"the reference has {len(found.text):,} characters; at most {LONGEST}")
    if found is None or not cleaned(found.text):
        return Verdict(None, "unparseable_gold", f"no answer is found in the reference {_short(reference)!r}")
    if unreadable(found.text):
        return Verdict(None, "unparseable_gold", f"characters that no answer has in {found.text[:50]!a}")
    return found


def _read(text: str, decimal: str) -> Form:
    return read(text, decimal == "comma")


_PERCENT = re.compile(r"%|\bper ?cent", re.IGNORECASE)


def _short(text: str) -> str:
    text = " ".join(text.replace(MARK, "").split())
    return text if len(text) <= 100 else text[:97] + "..."


def _settled(asked: Asked, outcome: Outcome) -> Verdict:
    """The verdict that an answer of computer algebra makes."""
    if outcome.kind != "done":
        return Verdict(None, outcome.kind, f"{asked.evidence}; {outcome.value}")
    if outcome.value == "gold":
        return Verdict(None, "unparseable_gold", f"{asked.evidence}; the reference is no expression")
    if outcome.value == "answer":
        return Verdict(0.0, "wrong", f"{asked.evidence}; by symbolic: the answer is no expression")
    same = outcome.value == "same"
    return Verdict(float(same), "correct" if same else "wrong", f"{asked.evidence}; by symbolic")
