"""A rules file: the user's own rules, and changes to the default ones, in YAML.

    rules:
      - {name: no_urls, where: "response ilike '%http%'", reason: links leak training noise}   # drops where true
      - {name: terse, where: "rule_words / rule_chars", most: 0.5}      # a number, with the limits that are good
      - {name: shouting, function: "my_rules:shouting"}                 # a Python function of an Arrow table
      - {name: too_short, limits: {chars: 20, words: 3}}                # another limit for a default rule
      - {name: echo, enabled: false}                                    # a default rule switched off
      - {name: wrong_language, languages: [en, de]}
      - {name: secrets, action: drop}                                   # report, mask or drop; off unless named

The default rules stay on unless switched off; `defaults: false` starts from none. Unknown keys are errors.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from gristmill.errors import UsageError
from gristmill.filter.limits import DEFAULT_RULES, PRIVATE_RULES, Action, Limit, Rule, any_of, imported, own_rule
from gristmill.filter.row_measures import ANSWER_MEASURES
from gristmill.yaml_file import read_as


class RuleEntry(BaseModel):
    """One entry of `rules`: with `where` or `function` a rule of the user's, else a change to a built-in one."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Lower-case letters, digits and underscores; becomes `drop_rule` and the column `rule_<name>`."""
    where: str | None = None
    """An SQL expression over the columns of the row, as Daft reads it; true drops."""
    function: str | None = None
    """`module:function`, importable; gets an Arrow table of rows and returns one boolean or number a row."""
    least: float | None = None
    """For a rule of the user's that measures a number: the smallest that is kept."""
    most: float | None = None
    """… and the greatest that is kept."""
    reason: str = ""
    limits: dict[str, float] = {}
    """For a built-in rule: measure to its limit."""
    languages: list[str] = []
    """For `wrong_language`: the ISO 639-1 codes of the languages that are right."""
    action: Action | None = None
    """For `personal_data` and `secrets`: report, mask or drop."""
    enabled: bool = True
    """false switches a built-in rule off."""


class RulesFile(BaseModel):
    """A whole rules file."""

    model_config = ConfigDict(extra="forbid")

    rules: list[RuleEntry]
    defaults: bool = True
    """false: only the rules of this file."""


def rules_named(name: str) -> tuple[Rule, ...]:
    """The rules that `--rules` names: `default`, `none`, or those of a YAML file."""
    if name == "none":
        return ()
    return tuple(DEFAULT_RULES) if name == "default" else read_rules(name)


def read_rules(path: str | Path) -> tuple[Rule, ...]:
    """The rules of a file: the defaults as it changes them, in their order, then the private and the user's own.

    Raises UsageError, naming file, rule, value and what is allowed, for a file that cannot be read or makes no sense.
    """
    entries = read_as(RulesFile, path, "rules (see `gristmill init rules`)")
    built_in = {rule.name: rule for rule in (*DEFAULT_RULES, *PRIVATE_RULES)}
    names = [entry.name for entry in entries.rules]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: rule {name}: given {names.count(name)} times; give it once")
    on = {rule.name: rule for rule in DEFAULT_RULES} if entries.defaults else {}
    own = []
    for entry in entries.rules:
        where = f"{path}: rule {entry.name}"
        if entry.name not in built_in:
            own.append(_own(where, entry, list(built_in)))
        elif entry.enabled:
            on[entry.name] = _changed(where, entry, built_in[entry.name])
        else:
            on.pop(entry.name, None)
    return (*(on[name] for name in built_in if name in on), *own)


def _own(where: str, entry: RuleEntry, built_in: list[str]) -> Rule:
    if (entry.where is None) == (entry.function is None):
        raise UsageError(
            f"{where}: needs one of where and function; built-in rules, which need neither: {', '.join(built_in)}"
        )
    if entry.name in ANSWER_MEASURES:
        raise UsageError(f"{where}: rule_{entry.name} is a measure already; choose another name")
    _only(where, entry, {"where", "function", "least", "most", "reason"})
    function = imported(where, entry.function) if entry.function else None
    return own_rule(
        entry.name, where=entry.where, function=function, least=entry.least, most=entry.most, reason=entry.reason
    )


def _changed(where: str, entry: RuleEntry, rule: Rule) -> Rule:
    private = rule in PRIVATE_RULES
    allowed = {"limits", "reason", "enabled"} | ({"action"} if private else set())
    _only(where, entry, allowed | ({"languages"} if rule.name == "wrong_language" else set()))
    measures = list(dict.fromkeys(limit.measure for limit in rule.limits))
    for measure in entry.limits:
        if measure not in measures:
            raise UsageError(
                f"{where}: limits: {measure}: not a measure of this rule; allowed are {', '.join(measures)}"
            )
    cases = tuple(tuple(_limited(limit, entry.limits) for limit in case) for case in rule.cases)
    rule = replace(rule, cases=cases, reason=entry.reason or rule.reason)
    if private:
        rule = replace(rule, action=entry.action or "report")
    return _with_languages(where, rule, tuple(entry.languages)) if entry.languages else rule


def _limited(limit: Limit, limits: dict[str, float]) -> Limit:
    value = limits.get(limit.measure)
    if value is None:
        return limit
    return replace(limit, most=value) if limit.least is None else replace(limit, least=value)


def _with_languages(where: str, rule: Rule, codes: tuple[str, ...]) -> Rule:
    from gristmill.filter.language import languages

    known = languages()
    for code in codes:
        if code not in known:
            raise UsageError(f"{where}: languages: {code!r}: unknown; allowed are {', '.join(known)}")
    return replace(rule, cases=(*rule.cases, *any_of(Limit("other_language", most=0.8))), languages=codes)


def _only(where: str, entry: RuleEntry, allowed: set[str]) -> None:
    """Refuse keys that mean nothing for this rule."""
    for key in sorted(entry.model_fields_set - allowed - {"name"}):
        raise UsageError(f"{where}: {key}: has no meaning for this rule; allowed are {', '.join(sorted(allowed))}")
