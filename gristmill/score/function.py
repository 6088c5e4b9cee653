"""A Python function of the user's own as a score.

    # my_scores.py
    def short(response: str, limit: int = 200) -> bool:
        return len(response) <= limit

`gristmill score rows.jsonl --with my_scores.py:short,limit=100 -o scored.parquet`. The function is given what its
parameters name: `prompt` (messages), `question` (the last message of the user), `response`, `reasoning`, `reference`,
`meta`, `item`; others are settings. It returns a number, True or False, None for *could not judge*, a pair of one of
those and a text, or a `Verdict`. Its version is its source and that of the local modules it imports, so that an edited
function is not answered from the cache.

Not covered: functions that never return (`workers.py` kills what shipped verifiers do not finish).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from gristmill.code_version import local_files
from gristmill.errors import UsageError
from gristmill.score.score import Item, Score, Verdict
from gristmill.user_code import user_function

GIVEN = ("item", "prompt", "question", "response", "reasoning", "reference", "meta")


def function_score(file: str, name: str, settings: Mapping[str, Any]) -> Score:
    """The score that the function `name` of a Python file makes.

    Raises UsageError if there is none, for a setting it does not take, and for a parameter that nothing fills.
    """
    place = f"score {file}:{name}"
    if not Path(file).is_file():
        raise UsageError(f"{place}: no file {file}; name a Python file")
    file = str(Path(file).resolve())
    version = blake2b(digest_size=8)
    for local in sorted(local_files(Path(file))):
        version.update(local.read_bytes())
    takes = inspect.signature(_function(file, name, version.hexdigest())).parameters
    free = [each for each in takes if each not in GIVEN]
    if unknown := next((each for each in settings if each not in free), None):
        raise UsageError(f"{place}: no setting {unknown!r}; allowed: {', '.join(free) or 'none'}")
    for each in free:
        parameter = takes[each]
        named = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if named and parameter.default is parameter.empty and each not in settings:
            raise UsageError(f"{place}: nothing fills its parameter {each!r}; set it, or take {', '.join(GIVEN)}")
    given = tuple(each for each in takes if each in GIVEN)
    judge = partial(_verdicts, file, name, version.hexdigest(), given, dict(settings))
    return Score(name, version.hexdigest(), judge, dict(settings), reads=None if {"meta", "item"} & set(given) else ())


def _verdicts(
    file: str, name: str, version: str, given: Sequence[str], settings: Mapping[str, Any], items: Sequence[Item]
) -> list[Verdict]:
    fn = _function(file, name, version)
    return [_verdict(fn, item, given, settings) for item in items]


def _verdict(fn: Callable[..., Any], item: Item, given: Sequence[str], settings: Mapping[str, Any]) -> Verdict:
    try:
        found = fn(**{each: item if each == "item" else getattr(item, each) for each in given}, **settings)
    except Exception as error:  # noqa: BLE001  the user's code may raise anything: its row says so
        return Verdict(None, "error", f"{type(error).__name__}: {' '.join(str(error).split())}")
    if isinstance(found, Verdict):
        return found
    value, why = found if isinstance(found, tuple) and len(found) == 2 else (found, "")
    if value is None:
        return Verdict(None, "unjudged", str(why))
    if isinstance(value, bool):
        return Verdict(float(value), "yes" if value else "no", str(why))
    try:
        return Verdict(float(value), "scored", str(why))
    except (TypeError, ValueError):
        return Verdict(None, "error", f"it returned {type(value).__name__}; allowed: a number, True, False, None")


@cache
def _function(file: str, name: str, version: str) -> Callable[..., Any]:  # noqa: ARG001  an edited file is another
    return user_function(Path(file), name, f"score {file}:{name}")
