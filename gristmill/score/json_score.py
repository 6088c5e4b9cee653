"""Whether a response is one JSON value (RFC 8259), and of a schema if one is given.

`json`, or `json:schema.json`. The response is the value alone, or one code fence that holds it; prose around either is
an error. So are the same key twice in an object, NaN and Infinity, numbers that no double holds, and a value that is
deeper or longer than the limits. A leading `<think>` block is left out.

Not covered: what the value says (give a schema, or a function of your own), JSON Lines, comments and trailing commas,
formats in schemas, and schemas from the network. A pattern in a schema is Python's: one that backtracks takes its time.
"""

import json as parser
import math
import re
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from gristmill.errors import UsageError
from gristmill.models.answer import split_thinking
from gristmill.score.score import Item, Score, Verdict, each

LONGEST_NUMBER = 1_000
"""Digits of an integer; Python takes long for more, and refuses more than 4,300."""

_LABEL = re.compile(r"(?i)json\b")
_FENCE = re.compile(r"(?m)^[ \t]*```")


def json(argument: str | None = None, *, max_depth: int = 64, max_chars: int = 1_000_000) -> Score:
    """SCHEMA.json: 1 `correct` for one JSON value of the schema, 0 `wrong`; without a schema, for any JSON value.

    `max_depth` is of nested objects and arrays, `max_chars` of the response. Raises UsageError for a file that is no
    JSON schema.
    """
    parameters: dict[str, Any] = {"max_depth": max_depth, "max_chars": max_chars}
    if argument is not None:
        parameters["schema"] = _schema(argument)
    return Score("json", "1", partial(each, partial(_judge, parameters)), parameters)


def _schema(path: str) -> Any:
    try:
        schema = parser.loads(Path(path).read_text(encoding="utf-8"))
        validator_for(schema, jsonschema.Draft202012Validator).check_schema(schema)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"score json:{path}: {error}; give a file with a JSON schema") from None
    except jsonschema.SchemaError as error:
        raise UsageError(f"score json:{path}: {error.message} at {error.json_path}; give a JSON schema") from None
    return schema


def _judge(parameters: dict[str, Any], item: Item) -> Verdict:
    try:
        value = parsed(split_thinking(item.response or "")[1], parameters["max_depth"], parameters["max_chars"])
    except ValueError as error:
        return Verdict(0.0, "wrong", str(error))
    if "schema" in parameters:
        try:
            wrong = _violation(value, parameters["schema"])
        except Unresolvable as error:
            return Verdict(None, "unparseable_gold", f"schema: {error.ref!r} is not in it")
        if wrong:
            return Verdict(0.0, "wrong", wrong)
    return Verdict(1.0, "correct", _KINDS[type(value)])


_KINDS = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "boolean"} | {
    type(None): "null"
}


def _violation(value: Any, schema: Any) -> str:
    """Where and how a value is not of the schema, in one line; empty if it is."""
    validator = validator_for(schema, jsonschema.Draft202012Validator)(schema, registry=Registry())
    found = min(validator.iter_errors(value), key=lambda error: error.json_path, default=None)
    return f"{found.message[:300]} at {found.json_path}" if found else ""


def parsed(text: str, max_depth: int = 64, max_chars: int = 1_000_000) -> Any:
    """The one JSON value that a text is, bare or in one fence. Raises ValueError, in one line, for anything else."""
    if len(text) > max_chars:
        raise ValueError(f"{len(text):,} characters, more than {max_chars:,}")
    inner = _unfenced(text.strip())
    try:
        value = _DECODER.decode(inner)
    except RecursionError:
        raise ValueError(f"deeper than {max_depth}") from None
    if _deeper(value, max_depth):
        raise ValueError(f"deeper than {max_depth}")
    return value


def _unfenced(text: str) -> str:
    if not text:
        raise ValueError("nothing there")
    if not text.startswith("```"):
        if _FENCE.search(text):
            raise ValueError("text before a fence")
        return text
    inner = text.removeprefix("```").removesuffix("```")
    if not text.endswith("```") or len(text) < 6 or _FENCE.search(inner):
        raise ValueError("not one fence alone: text after it, another, or no end")
    return _LABEL.sub("", inner, count=1).strip() if _LABEL.match(inner) else inner.strip()


def _deeper(value: Any, limit: int) -> bool:
    """Whether there are more than `limit` objects and arrays one in another."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        children = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [child for child in children if isinstance(child, dict | list)]
    return bool(level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:80]!r} twice in one object")
        made[key] = value
    return made


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits):,} digits, more than {LONGEST_NUMBER:,}")
    return int(digits)


def _double(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is larger than any double")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = parser.JSONDecoder(
    object_pairs_hook=_object, parse_float=_double, parse_int=_integer, parse_constant=_no_constant
)
