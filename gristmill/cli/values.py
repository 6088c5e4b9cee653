"""How the values of flags are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gristmill.cli.options import RUN
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from gristmill.rollout.groups import Solved


def run_named(directory: Path | None, run: Path | None) -> Path:
    """The run of a verb that is about one, named as its argument or by `--run`."""
    if directory and run and directory != run:
        raise UsageError(f"{directory} and --run {run}: name one run")
    return directory or run or RUN


def share(flag: str, value: str, *, zero: bool = False) -> float:
    """A share from a flag: above 0 (or from 0) to 1, or a percentage with its sign."""
    try:
        number = float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError:
        number = -1.0
    if not (0 < number <= 1 or (zero and number == 0)):
        raise UsageError(
            f"{flag} {value}: allowed is a share {'from' if zero else 'above'} 0 to 1, or a percentage (5%)"
        )
    return number


def pairs(flag: str, values: list[str] | None) -> dict[str, str]:
    """NAME=VALUE flags as a dict."""
    pairs = {}
    for value in values or ():
        name, found, right = value.partition("=")
        if not (found and name and right):
            raise UsageError(f"{flag} {value}: write {flag} NAME=VALUE")
        pairs[name] = right
    return pairs


def ladder(text: str | None) -> list[float]:
    """The temperatures of a flag."""
    try:
        return [float(each) for each in text.split(",")] if text else []
    except ValueError:
        raise UsageError(f"--temperature {text}: write numbers with commas, as in 0.3,0.7,1.0") from None


def sampling_fields(values: list[str] | None) -> dict[str, Any]:
    """Fields of the request from NAME=VALUE flags; a value is JSON where it can be read as such."""
    fields = {}
    for name, value in pairs("--sampling", values).items():
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields


def solved_by(text: str, flag: str = "--solved") -> Solved:
    """What `SCORE[>=X]` says; X is 1 if left out."""
    from gristmill.rollout.groups import Solved

    name, _, least = text.partition(">=")
    try:
        return Solved(name.strip(), float(least)) if least else Solved(name.strip())
    except ValueError:
        raise UsageError(f"{flag} {text}: write SCORE, or SCORE>=NUMBER") from None
