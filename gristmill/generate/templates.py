"""Prompts from a template or a table: how many there are, told before a call is made, and the rows, as a stream.

A template's combinations come in an order that depends on its seed and the sizes of its slots alone, so the same
template, tables and seed give the same prompts, and the first k of n samples are the first k of any larger sample. Two
combinations that render to the same prompt (the same `id`) are one: the first counts. Each prompt made is remembered
for that by 16 bytes of hash.

A combination for which a skeleton fails is passed over, and told at the end if there are fewer prompts for it; one
among the first is an error before anything is made.

Not covered: calling a model (`sample.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gristmill.errors import Refused, UsageError
from gristmill.generate.prepared import Prepared, Row
from gristmill.generate.prompt_table import PromptTable
from gristmill.generate.template_file import Template

TRIED = 100
"""Combinations that are rendered before the first prompt is handed out, so that a mistake costs no call."""

COUNTED = 20_000
"""Prompts that are rendered to tell how many of them differ."""

MISSES = 100_000
"""Combinations in a row that make no new prompt, after which there are taken to be no more."""

SAMPLED = 10_000
"""Draws from which the share of combinations that meet the constraints is estimated."""


@dataclass(frozen=True)
class Count:
    """How many prompts there are."""

    name: str
    possible: int
    """Combinations of the slots, whatever the constraints; of a table, its rows."""
    allowed: int
    """Those that meet the constraints: estimated from `SAMPLED` draws unless `exact`."""
    exact: bool
    asked: int
    """Prompts that are asked for: `samples`, or all."""
    distinct: int | None
    """How many of them differ; None where there are too many to try (over `COUNTED`)."""
    bad: int = 0
    """Rows of a table that cannot be used and are passed over."""
    first_bad: str = ""
    """File, row and reason of the first of them."""

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        met = (
            f", {about}{self.allowed:,} meet the constraints" if self.allowed != self.possible or not self.exact else ""
        )
        made = f"{self.distinct:,} different" if self.distinct is not None else f"at most {self.asked:,}"
        bad = f"; {self.bad:,} bad rows are passed over, the first is {self.first_bad}" if self.bad else ""
        return f"{self.name}: {self.possible:,} possible{met}; {made} prompts{bad}"


@dataclass
class _Drawn:
    """What became of the combinations that were drawn."""

    made: int = 0
    repeated: int = 0
    broke: int = 0
    failed: int = 0
    first_failure: str = ""
    gave_up: bool = False

    def told(self) -> str:
        """Why there are no more, for people."""
        parts = [
            f"{self.repeated:,} combinations repeat a prompt" if self.repeated else "",
            f"{self.broke:,} break the constraints" if self.broke else "",
            f"{self.failed:,} fail ({self.first_failure})" if self.failed else "",
        ]
        told = ", ".join(part for part in parts if part) or "there are no more combinations"
        return f"{told}; the last {MISSES:,} made no new prompt" if self.gave_up else told


def count(template: Template) -> Count:
    """How many prompts a template makes, before any is asked. Raises UsageError if it cannot make what it asks for."""
    return _count(Prepared(template), template)


def prompts(template: Template) -> Iterator[Row]:
    """The prompts of a template as PROMPT rows, in their order, each as it is needed.

    Raises UsageError at once for a template that makes no sense or asks for more than there is; Refused, after the
    rows there are, where only drawing tells that there are fewer than `samples` or that a skeleton fails for some.
    """
    return _prompts(Prepared(template), template)


def _prompts(prepared: Prepared, template: Template) -> Iterator[Row]:
    _check_enough(prepared, template)
    _try(prepared, template)
    return _told(prepared, template)


def _told(prepared: Prepared, template: Template) -> Iterator[Row]:
    """The prompts, and at the end what was missing."""
    drawn = _Drawn()
    yield from _drawn(prepared, template, drawn)
    if drawn.made != template.samples and (template.samples or drawn.failed or drawn.gave_up):
        wanted = f"{template.samples:,} prompts wanted" if template.samples else "all prompts wanted"
        raise Refused(f"{template.where}: {wanted}, {drawn.made:,} made: {drawn.told()}")


def _drawn(prepared: Prepared, template: Template, drawn: _Drawn) -> Iterator[Row]:
    """The distinct prompts among the combinations, in their order."""
    seen: set[bytes] = set()
    misses = 0
    for values in prepared.combinations.drawn(template.seed):
        drawn.gave_up = misses >= MISSES
        if drawn.gave_up or drawn.made == template.samples:
            return
        misses += 1
        try:
            row = prepared.row(values, drawn.made)
        except UsageError as error:
            drawn.failed += 1
            drawn.first_failure = drawn.first_failure or str(error)
            continue
        if row is None:
            drawn.broke += 1
            continue
        key = bytes.fromhex(row["id"][3:])
        if key in seen:
            drawn.repeated += 1
            continue
        seen.add(key)
        drawn.made += 1
        misses = 0
        yield row


def _check_enough(prepared: Prepared, template: Template) -> None:
    size, asked = prepared.combinations.size, template.samples
    if asked is not None and asked > size:
        allowed = (
            "combinations meet the constraints" if size < prepared.possible else "combinations of slots are possible"
        )
        raise UsageError(
            f"{template.where}: samples: {asked:,}: only {size:,} {allowed}; ask for at most {size:,}, or leave "
            "samples out for all"
        )


def _try(prepared: Prepared, template: Template) -> None:
    """Render the first few combinations; raises UsageError if one fails, or if there is none."""
    drawn = _Drawn()
    for _ in islice(_drawn(prepared, template, drawn), TRIED):
        if drawn.failed:
            break
    if drawn.failed:
        raise UsageError(drawn.first_failure)
    if not drawn.made:
        told = "; ".join(constraint.text for constraint in prepared.late)
        raise UsageError(
            f"{template.where}: constraints: none of {drawn.broke:,} combinations meets {told}; loosen one"
        )


def _count(prepared: Prepared, template: Template) -> Count:
    _check_enough(prepared, template)
    _try(prepared, template)
    size, exact = prepared.combinations.size, not prepared.late
    if not exact:
        met = tried = 0
        for values in islice(prepared.combinations.drawn(template.seed), SAMPLED):
            tried += 1
            met += prepared.meets(values)
        size, exact = size * met // tried, tried == size
    asked = size if template.samples is None else template.samples
    distinct = None
    if asked <= COUNTED:
        drawn = _Drawn()
        distinct = sum(1 for _ in _drawn(prepared, template, drawn))
        if distinct < (template.samples or 0):
            raise UsageError(
                f"{template.where}: samples: {asked:,}: only {distinct:,} prompts differ: {drawn.told()}; ask for fewer"
            )
    return Count(template.name, prepared.possible, size, exact, asked, distinct)


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from: iterate over it for PROMPT rows, any number of times."""

    name: str
    """The template's name or the table's path."""
    origin: Template | PromptTable
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What the template says of sampling, by OpenAI's names."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema of answers, if the template has one."""
    prepared: Prepared | None = None

    def __iter__(self) -> Iterator[Row]:
        if isinstance(self.origin, PromptTable):
            return iter(self.origin)
        return _prompts(self.prepared or Prepared(self.origin), self.origin)

    def count(self, limit: int | None = None) -> Count:
        """How many prompts there are, told before any is asked; of a table, by reading it once (up to the `limit`-th
        prompt). Raises UsageError for what cannot give what is asked for."""
        if isinstance(self.origin, PromptTable):
            rows, distinct, bad, first = self.origin.count(limit)
            return Count(self.name, rows, rows, True, rows, distinct, bad, first)
        return _count(self.prepared or Prepared(self.origin), self.origin)


def prompt_source(path: str | Path, *, samples: int | None = None) -> PromptSource:
    """The prompts of a template (`.yaml`, `.yml`, `library:NAME`) or of a table of any known shape.

    `samples` takes the place of the template's own. Raises UsageError for what is neither, and for a template or a
    table that cannot be used.
    """
    from gristmill.generate.library import library_path

    name = str(path)
    place = library_path(name) if name.startswith("library:") else Path(name)
    if place.suffix.lower() not in (".yaml", ".yml"):
        if samples is not None:
            raise UsageError(f"{name}: samples is for templates; a table has the rows it has (--limit)")
        return PromptSource(name, PromptTable(name))
    template = Template.load(place, shown=name)
    if samples is not None:
        template = template.with_samples(samples)
    return PromptSource(template.name, template, template.sampling, template.json_schema, Prepared(template))
