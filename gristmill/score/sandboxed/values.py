"""Values as JSON and back: what is sent is data, so that nothing of the sender's code arrives with it.

Plain values (numbers, text, bytes, lists, tuples, sets, dicts, and a few of the standard library's) arrive as plain
values of exactly those types: a subclass arrives as its base, without its methods. Anything else is the sender's to
name: `other` gives a tag and a number for it, and at the other end `known` finds what that names.

Not covered: identity (two references to one list arrive as two lists), cycles (RecursionError).
"""

import math
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

Other = Callable[[Any], list[Any]]
Known = Callable[[str, Any], Any]

EXACT = 2**53
"""Whole numbers up to this go as JSON numbers, larger ones in hexadecimal, which has no limit of digits."""

ARGUMENTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    complex: lambda v: (v.real, v.imag),
    range: lambda v: (v.start, v.stop, v.step),
    bytearray: lambda v: (bytes(v),),
    deque: lambda v: (list(v), v.maxlen),
    Decimal: lambda v: (str(v),),
    Fraction: lambda v: (v.numerator, v.denominator),
    timedelta: lambda v: (v.days, v.seconds, v.microseconds),
    datetime: lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond),
    date: lambda v: (v.year, v.month, v.day),
    time: lambda v: (v.hour, v.minute, v.second, v.microsecond),
}
"""Types that are made again from these arguments."""

MADE = {kind.__name__: kind for kind in ARGUMENTS}
ALLOWED = {"Decimal": str, "Fraction": int}
"""What an argument must be where a constructor would do more with another."""

FLAT: list[tuple[str, type, Callable[[Any], list[Any]]]] = [
    ("l", list, lambda v: list(list.__iter__(v))),
    ("t", tuple, lambda v: list(tuple.__iter__(v))),
    ("d", dict, lambda v: [each for pair in dict.items(v) for each in pair]),
    ("s", set, lambda v: list(set.__iter__(v))),
    ("f", frozenset, lambda v: list(frozenset.__iter__(v))),
]
"""Containers: tag, type, and the parts, taken by the base's own methods."""


def encode(value: Any, other: Other) -> Any:
    """`value` as what JSON can say."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -EXACT <= number <= EXACT else ["i", hex(number)]
    if isinstance(value, float):
        real = float.__float__(value)
        return real if math.isfinite(real) else ["r", repr(real)]
    if isinstance(value, bytes):
        return ["b", bytes.hex(value)]
    for tag, kind, parts in FLAT:
        if isinstance(value, kind):
            return [tag, *[encode(each, other) for each in parts(value)]]
    if type(value) in ARGUMENTS:
        kind = type(value)
        return ["m", kind.__name__, *[encode(each, other) for each in ARGUMENTS[kind](value)]]
    return other(value)


def decode(data: Any, known: Known) -> Any:
    """The value that was encoded. Raises ValueError for what `encode` never makes."""
    if not isinstance(data, list):
        if isinstance(data, dict):
            raise ValueError("an object is no value")
        return data
    try:
        return _tagged(data, known)
    except (TypeError, IndexError, ArithmeticError, AttributeError) as error:
        raise ValueError("it is no value") from error


def _tagged(data: list[Any], known: Known) -> Any:
    tag, *rest = data
    if tag == "i":
        return int(rest[0], 16)
    if tag == "r":
        return float(rest[0])
    if tag == "b":
        return bytes.fromhex(rest[0])
    if tag == "m":
        name = rest[0]
        arguments = [decode(each, known) for each in rest[1:]]
        if not all(isinstance(each, ALLOWED.get(name, object)) for each in arguments):
            raise ValueError("it is no value")
        return MADE[name](*arguments) if name in MADE else None
    if tag not in ("l", "t", "s", "f", "d"):
        return known(tag, rest[0])
    parts = [decode(each, known) for each in rest]
    if tag == "d":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    return {"l": list, "t": tuple, "s": set, "f": frozenset}[tag](parts)
