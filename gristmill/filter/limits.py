"""Rules as data: limits on measures, the default list, and how a row stands against them.

A rule is a name and limits on measures of one row; `rules.apply_rules` measures and marks. This file says which limits
there are and which a row breaks; it touches no table.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.filter.privacy import KINDS

Action = Literal["drop", "report", "mask"]


@dataclass(frozen=True)
class Limit:
    """The smallest and the greatest value of a measure that is still good; None is no limit."""

    measure: str
    least: float | None = None
    most: float | None = None

    def broken(self, value: float | None) -> bool:
        """Whether a value is outside; a value that was not measured (None, NaN) never is."""
        if value is None:
            return False
        return (self.least is not None and value < self.least) or (self.most is not None and value > self.most)

    @property
    def bound(self) -> float | None:
        """The one number of the limit."""
        return self.most if self.least is None else self.least


@dataclass(frozen=True)
class Rule:
    """A name and its cases: a row fails the rule if in some case it breaks every limit.

    `where` (an SQL expression over the columns of the row) and `function` (from an Arrow table of the rows to one
    boolean or number a row) measure `rule_<name>` of a user's own rule. `languages` are ISO 639-1 codes.
    """

    name: str
    cases: tuple[tuple[Limit, ...], ...]
    reason: str = ""
    where: str | None = None
    function: Callable[[pa.Table], Any] | None = None
    languages: tuple[str, ...] = ()
    action: Action = "drop"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits of all cases, each measure and bound once."""
        return tuple(dict.fromkeys(limit for case in self.cases for limit in case))


def any_of(*limits: Limit) -> tuple[tuple[Limit, ...], ...]:
    """Cases of one limit each: breaking any of them fails the rule."""
    return tuple((limit,) for limit in limits)


TOP_LIMITS = (Limit("top_2gram", most=0.20), Limit("top_3gram", most=0.18), Limit("top_4gram", most=0.16))
DUPLICATE_LIMITS = (
    Limit("dup_5gram", most=0.15),
    Limit("dup_6gram", most=0.14),
    Limit("dup_7gram", most=0.13),
    Limit("dup_8gram", most=0.12),
    Limit("dup_9gram", most=0.11),
    Limit("dup_10gram", most=0.10),
)
"""Gopher's figures: https://arxiv.org/abs/2112.11446, table A1."""

DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("empty", any_of(Limit("chars", least=1)), "no visible character"),
    Rule("too_short", any_of(Limit("chars", least=1), Limit("words", least=1)), "shorter than asked for"),
    Rule("too_long", any_of(Limit("chars", most=200_000), Limit("words", most=40_000)), "longer than asked for"),
    Rule(
        "repetitive",
        (
            (*TOP_LIMITS, *DUPLICATE_LIMITS, Limit("words", most=19)),
            (*DUPLICATE_LIMITS, Limit("repeats", most=4)),
        ),
        "the same words over and over",
    ),
    Rule("refusal", any_of(Limit("refusal", most=0)), "declines, or talks of itself as a program"),
    Rule("template_leak", any_of(Limit("leak", most=0), Limit("no_input", most=0)), "pieces of a prompt template"),
    Rule("echo", any_of(Limit("echo", most=0.99)), "the prompt given back as the answer"),
    Rule("wrong_language", any_of(Limit("foreign_script", most=0.5)), "a script or language nobody asked for"),
)
"""The rules of `gristmill filter`, in the order in which a row is tried. docs/rules.md gives the reasons."""

PRIVATE_RULES: tuple[Rule, ...] = (
    Rule("personal_data", any_of(*(Limit(kind, most=0) for kind in KINDS[:-1])), "e-mail, telephone or card number"),
    Rule("secrets", any_of(Limit("secret", most=0)), "keys and tokens"),
)
"""Off by default; in a list of rules each reports, masks or drops, by its `action`."""


def own_rule(
    name: str,
    *,
    where: str | None = None,
    function: Callable[[pa.Table], Any] | None = None,
    least: float | None = None,
    most: float | None = None,
    reason: str = "",
) -> Rule:
    """A user's rule, by `where` or `function`.

    Without `least` and `most` the row is dropped where the value is true; with them, where the number is outside.
    """
    if least is None and most is None:
        most = 0
    return Rule(name, any_of(Limit(name, least, most)), reason, where=where, function=function)


class Reading(NamedTuple):
    """One limit of one rule on one row. `exceeded`: this limit is broken; `failed`: the rule is, as a whole."""

    rule: str
    measure: str
    value: float | None
    limit: float | None
    side: Literal["least", "most"]
    exceeded: bool
    failed: bool


def explain(row: Mapping[str, Any], rules: Sequence[Rule] = DEFAULT_RULES) -> list[Reading]:
    """Every rule's measured values of a row (its `rule_…` columns) against their limits, in the order of the rules.

    A value that was not measured is None: the row had been dropped before, or the measure is not of its kind.
    """
    return list(_readings(row, rules))


def _readings(row: Mapping[str, Any], rules: Sequence[Rule]) -> Iterator[Reading]:
    for rule in rules:
        broken = {limit: limit.broken(row.get(f"rule_{limit.measure}")) for limit in rule.limits}
        failed = any(all(broken[limit] for limit in case) for case in rule.cases)
        for limit in rule.limits:
            side: Literal["least", "most"] = "most" if limit.least is None else "least"
            value = row.get(f"rule_{limit.measure}")
            yield Reading(rule.name, limit.measure, value, limit.bound, side, broken[limit], failed)


def describe(rules: Sequence[Rule] = DEFAULT_RULES) -> dict[str, dict[str, Any]]:
    """The parameters of each rule by its name as plain values, for `summary.json`."""
    return {rule.name: _described(rule) for rule in rules}


def rules_of(described: Mapping[str, Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules that `describe` told of, for a list of them that was written down.

    Raises UsageError for a Python function that cannot be imported any more.
    """
    return tuple(_rule_of(name, rule) for name, rule in described.items())


def _rule_of(name: str, told: Mapping[str, Any]) -> Rule:
    cases = tuple(tuple(Limit(**limit) for limit in case) for case in told["cases"])
    function = imported(f"rule {name}", told["function"]) if told.get("function") else None
    rest = {key: told[key] for key in ("action", "reason", "where") if key in told}
    return Rule(name, cases, function=function, languages=tuple(told.get("languages", ())), **rest)


def imported(where: str, name: str) -> Callable[..., Any]:
    """A function by `module:function`; raises UsageError beginning with `where` for one that cannot be had."""
    module, _, attribute = name.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{where}: function: {name!r} cannot be imported ({error}); write module:function") from error
    if not callable(function):
        raise UsageError(f"{where}: function: {name!r} is {type(function).__name__}; it must be callable")
    return cast(Callable[..., Any], function)


def _described(rule: Rule) -> dict[str, Any]:
    cases = [
        [
            {"measure": limit.measure} | {k: v for k in ("least", "most") if (v := getattr(limit, k)) is not None}
            for limit in case
        ]
        for case in rule.cases
    ]
    function = f"{rule.function.__module__}:{rule.function.__qualname__}" if rule.function else None
    optional = {"reason": rule.reason, "where": rule.where, "function": function, "languages": list(rule.languages)}
    return {"action": rule.action, "cases": cases} | {k: v for k, v in optional.items() if v}
