"""Jinja skeletons: texts with slots in them, and expressions over slots.

Sandboxed: no private attribute, no change of a value, no file (there is nothing to include from). Strict: a name
that stands for nothing is an error. What draws at random in Jinja (`random`, `lipsum`) is taken out, because the
same template gives the same prompts. A line that holds only a `{% … %}` leaves no line behind.

Not covered: how long a skeleton takes and how much memory; `{{ 'a' * 10**10 }}` is the author's own affair.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gristmill.errors import UsageError

Values = Mapping[str, Any]

FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a skeleton raises for values that it was not made for: its own errors, and those of the Python under it."""


_OF_LOOPS = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length"})


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, but that a row's column comes before a method of dicts (`{{ seed.items }}`), and that it asks no
    questions about what Jinja itself put into a loop: they took a fifth of the time of a few-shot prompt."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """The one environment of all skeletons."""
    found = _Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    del found.globals["lipsum"], found.filters["random"]
    return found


class Skeleton:
    """A text with slots, compiled once; `where` names it in errors."""

    def __init__(self, text: str, where: str):
        self.where, self.names = where, names_in(text, where)
        self._template = environment().from_string(text)
        self._fixed = None if self.names or "{" in text else self._template.render()

    def render(self, values: Values) -> str:
        """The text for some values of the slots; raises UsageError where there is none."""
        if self._fixed is not None:
            return self._fixed
        try:
            return self._template.render(values)
        except FAILURES as error:
            raise UsageError(f"{self.where}: {one_line(error)}{_told(self.names, values)}") from error


class Expression:
    """A Jinja expression over slots, true or false."""

    def __init__(self, text: str, where: str):
        self.text, self.where, self.names = text, where, names_in("{{ (" + text + ") }}", where)
        self._value: Callable[[Values], Any] = environment().compile_expression(text, undefined_to_none=False)

    def holds(self, values: Values) -> bool:
        """Whether it is true for some values; raises UsageError where that cannot be told."""
        try:
            return bool(self._value(values))
        except FAILURES as error:
            told = _told(self.names, values)
            raise UsageError(f"{self.where}: {self.text}: {one_line(error)}{told}") from error


def names_in(text: str, where: str) -> set[str]:
    """The names a skeleton takes from outside; raises UsageError if it is not Jinja."""
    try:
        parsed = environment().parse(text)
        environment().compile(parsed)  # unknown filters and tests
    except TemplateSyntaxError as error:
        line = f" in line {error.lineno}" if "\n" in text else ""
        raise UsageError(f"{where}: not a Jinja skeleton: {one_line(error)}{line}") from None
    return set(meta.find_undeclared_variables(parsed))


def one_line(error: BaseException) -> str:
    """An error's text on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _told(names: set[str], values: Values) -> str:
    """The values that a skeleton failed for."""
    shown = ", ".join(f"{name} = {str(values[name])[:60]!r}" for name in sorted(names & values.keys()))
    return f" (with {shown})" if shown else ""
