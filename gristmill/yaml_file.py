"""YAML as people mean it: a text file to plain values, with one line for whatever is wrong in it.

Only `true` and `false` are booleans, so that the answers `yes`, `no` and `off` stay words; dates, `12:30` and `007`
stay text (the core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#103-core-schema, without octal, infinity and NaN).
A key that is given twice is an error, as is text that no row may hold: a NUL character, half of a surrogate pair.
"""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gristmill.errors import UsageError


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, refused where a key is given twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "merge")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """The mapping that a file holds; `what` says what it should be, in the UsageError for a file that is none."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name {what}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, TypeError) as error:  # TypeError: a list as a key
        raise UsageError(f"{path}: not YAML: {_problem(error)}") from error
    if not isinstance(content, dict):
        held = "nothing" if content is None else "a list" if isinstance(content, list) else "a single value"
        raise UsageError(f"{path}: holds {held}; it must be {what}")
    check_text(content, str(path))
    return content


Checked = TypeVar("Checked", bound=BaseModel)


def read_as(kind: type[Checked], path: str | Path, what: str, *, shown: str | None = None) -> Checked:
    """What a file holds, checked by a pydantic model; errors call the file `shown`, if given, instead of its path.

    Raises UsageError with the first thing that is wrong in it.
    """
    return checked(kind, read_yaml(path, what), shown or str(path), what)


def checked(kind: type[Checked], content: Mapping[str, Any], where: str, what: str) -> Checked:
    """Plain values as a pydantic model. Raises UsageError naming `where`, the place in it, the value and what is
    allowed; an entry of a list is named by its number and, where it has one, its `name` or `alias`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = _place(first["loc"], content, missing=first["type"] == "missing") or "the file"
        if first["type"] == "extra_forbidden":
            allowed = _allowed(kind, first["loc"])
            hint = f"allowed are {', '.join(allowed)}" if allowed else f"it must be {what}"
            raise UsageError(f"{where}: {place}: unknown key; {hint}") from error
        if first["type"] == "missing":
            raise UsageError(f"{where}: {place}: missing in {what}") from error
        said = first["msg"].removeprefix("Value error, ")
        got = "" if isinstance(first["input"], Mapping) else f" (got {_short(first['input'])})"
        raise UsageError(f"{where}: {place}: {said}{got}") from error


def _place(loc: tuple[int | str, ...], content: Any, *, missing: bool) -> str:
    """Where a value stands, without what pydantic adds to say which member of a union it tried."""
    words: list[str] = []
    for number, part in enumerate(loc):
        if isinstance(content, Mapping) and part in content:
            content = content[part]
            words.append(str(part))
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
            name = content.get("name", content.get("alias")) if isinstance(content, Mapping) else None
            words.append(f"{part} ({name})" if isinstance(name, str) else str(part))
        elif missing and number == len(loc) - 1:
            words.append(str(part))
    return ".".join(words)


def _allowed(kind: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that has no such key; none where it could be one of several."""
    for part in loc[:-1]:
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        if part in fields:
            found = _models(fields[str(part)].annotation)
            if len(found) != 1:
                return []
            kind = found[0]
    return [field.alias or name for name, field in kind.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models in an annotation such as `dict[str, Entry] | None`."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for each in get_args(annotation) for found in _models(each)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _problem(error: Exception) -> str:
    """What is wrong, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return " ".join(str(error).split())[:300]


def check_text(value: Any, where: str, above: tuple[int, ...] = ()) -> None:
    """Raise UsageError, naming the place, for text that no row may hold and for a value that holds itself."""
    if isinstance(value, str):
        if problem := bad_text(value):
            raise UsageError(f"{where}: {problem}")
        return
    if not isinstance(value, Mapping | list):
        return
    if id(value) in above:
        raise UsageError(f"{where}: holds itself; write it out")
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    colon = ": " if not above else "."
    for key, each in items:
        check_text(key, f"{where}: a key")
        place = f"{where}{colon}{key}" if isinstance(value, Mapping) else f"{where}[{key}]"
        check_text(each, place, (*above, id(value)))


def bad_text(text: str) -> str | None:
    """Why no row may hold a text; None if one may."""
    if "\0" in text:
        return f"a NUL character at {text.index(chr(0))}; allowed: text without it"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = f"U+{ord(text[error.start]):04X}"
        return f"half of a surrogate pair ({lone}) at {error.start}; allowed: text that UTF-8 can hold"
    return None
