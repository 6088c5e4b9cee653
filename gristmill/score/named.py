"""From a name to a Score: `NAME[:ARGUMENT][,PARAMETER=VALUE...]`.

`math`, `json:schema.json`, `judge:clarity.yaml`, `math,percent=lenient,name=math_percent`, or a function of the user's
own, `my_scores.py:politeness` (`function.py`). A named score is built by the function that `SCORES` names, from the
argument and the parameters; `name` renames what it is called, which is what its columns are called after.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from gristmill.errors import UsageError
from gristmill.score.function import function_score
from gristmill.score.score import Score

SCORES = {
    "answer": "gristmill.score.final:answer",
    "choice": "gristmill.score.choice:choice",
    "code": "gristmill.score.code:code",
    "contains": "gristmill.score.text:contains",
    "diversity": "gristmill.score.diversity:diversity",
    "exact": "gristmill.score.text:exact",
    "fluency": "gristmill.score.fluency:fluency",
    "format": "gristmill.score.format_score:format",
    "instructions": "gristmill.score.instructions:instructions",
    "instructions_loose": "gristmill.score.instructions:instructions_loose",
    "json": "gristmill.score.json_score:json",
    "judge": "gristmill.score.judge:judges",
    "language": "gristmill.score.text:language",
    "length": "gristmill.score.text:length",
    "math": "gristmill.score.math:math",
    "readability": "gristmill.score.readability:readability",
    "regex": "gristmill.score.text:regex",
    "structure": "gristmill.score.structure:structure",
    "tiny": "gristmill.train.tiny.answer:tiny",
}
"""The shipped scores: where the function is that builds each of them."""

_PARAMETERS = re.compile(r",(?=\s*[a-z_]+=)")
"""Where an argument ends: at a comma that a parameter follows, so that `regex:a{1,3}` and `contains:Hello, you` are
whole."""

NAME = re.compile(r"[a-z][a-z0-9_]*")


def score(spec: str, **parameters: Any) -> Score:
    """The score that a text names; raises UsageError where it names several, and whatever `scores` raises."""
    found = scores(spec, **parameters)
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise UsageError(f"score {spec}: it has several axes ({names}); name one: {spec},axis={found[0].name}")
    return found[0]


def scores(spec: str, **parameters: Any) -> list[Score]:
    """The scores that a text names: one, but for a judge with several axes.

    Raises UsageError for a name, an argument or a parameter that it does not take.
    """
    head, *rest = _PARAMETERS.split(spec) if ":" in spec else spec.split(",")
    name, _, argument = head.partition(":")
    parameters = {**dict(_parameter(spec, each) for each in rest), **parameters}
    renamed = parameters.pop("name", None)
    if name.endswith(".py"):
        found = [function_score(name, argument, parameters)]
    elif name in SCORES:
        module, _, builder = SCORES[name].partition(":")
        found = _built(getattr(import_module(module), builder), name, argument, parameters)
    else:
        raise UsageError(f"score {name}: no such score; allowed are {', '.join(sorted(SCORES))}, and FILE.py:FUNCTION")
    if renamed is None:
        return found
    if len(found) > 1:
        raise UsageError(f"score {spec}: name={renamed} for several axes; name an axis as well: axis={found[0].name}")
    return [replace(found[0], name=_usable(spec, renamed))]


def beside(path: Path, spec: str) -> str:
    """The score that a YAML file names, with a file that lies beside `path` under its full name."""
    head, comma, rest = spec.partition(",")
    name, colon, argument = head.partition(":")
    if name.endswith(".py") and (path.parent / name).is_file():
        name = str(path.parent / name)
    elif argument and (path.parent / argument).is_file():
        argument = str(path.parent / argument)
    return f"{name}{colon}{argument}{comma}{rest}"


def _built(
    build: Callable[..., Score | list[Score]], name: str, argument: str, parameters: dict[str, Any]
) -> list[Score]:
    """Call a builder; its first parameter is `argument` if it takes one, the others are keyword-only."""
    allowed = inspect.signature(build).parameters
    if argument and "argument" not in allowed:
        raise UsageError(f"score {name}:{argument}: {name} takes no argument; write {name}")
    if "argument" in allowed and not argument and allowed["argument"].default is inspect.Parameter.empty:
        raise UsageError(f"score {name}: it needs an argument; write {name}:ARGUMENT")
    settable = [each for each in allowed if each != "argument"]
    for each in parameters:
        if each not in settable:
            raise UsageError(f"score {name}: no parameter {each!r}; allowed: {', '.join([*settable, 'name'])}")
    found = build(*([argument] if argument else []), **parameters)
    return found if isinstance(found, list) else [found]


def _parameter(spec: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"score {spec}: {text!r} is no parameter; write NAME=VALUE")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return name.strip(), value


def _usable(spec: str, name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(f"score {spec}: name={name}; allowed are small letters, digits and _, beginning with a letter")
    return name
