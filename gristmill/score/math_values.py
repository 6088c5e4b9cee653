r"""The value of a plain expression where its variables have some positive values: enough to see that two differ.

Arithmetic with `\frac`, `\sqrt`, powers, `\pi`, `i`, single letters and products without a sign. Whatever could be read
in two ways (`2/3x`, `x^12` without braces, `f(x)`) has no value here. Two expressions with clearly different values are
different; equal values prove nothing, and are left to algebra (Schwartz 1980, https://doi.org/10.1145/322217.322225,
has the bounds for polynomials).

Not covered: functions, sums, integrals, relations.
"""

import cmath
import math
import re
from functools import lru_cache

FAR = 1e-6
"""A relative difference that rounding does not make."""
DEEPEST = 20

_TOKEN = re.compile(
    r"\s+|(\d+(?:\.\d+)?|\.\d+)|\\(frac|sqrt|pi|cdot|times)(?![a-zA-Z])|([a-zA-Z])(?!\w*\()|(\*\*|[-+*/^()\[\]{}])"
)


def differ(one: str, other: str) -> bool:
    """Whether two expressions certainly differ; False if that cannot be told."""
    first = value(one)
    second = None if first is None else value(other)
    if first is None or second is None:
        return False
    return abs(first - second) > FAR * max(abs(first), abs(second), 1e-9)


@lru_cache(maxsize=20_000)
def value(text: str) -> complex | None:
    """The value of an expression; None if it is not plain, or too large to have one."""
    tokens, at = list[str](), 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            return None
        at = found.end()
        if found.lastindex:
            tokens.append(found[found.lastindex])
    try:
        return _Reader(tokens).all()
    except (_NotPlainError, ArithmeticError, ValueError):
        return None


class _NotPlainError(Exception):
    pass


class _Reader:
    """Recursive descent; each method reads one rule of the grammar and returns its value."""

    def __init__(self, tokens: list[str]):
        self.tokens, self.at, self.depth = tokens, 0, 0

    def all(self) -> complex:
        total = self.sum()
        if self.at < len(self.tokens) or not cmath.isfinite(total):
            raise _NotPlainError
        return total

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.next()
        if not token or (wanted and token != wanted):
            raise _NotPlainError
        self.at += 1
        return token

    def sum(self) -> complex:
        total = 0j
        sign = 1
        if self.next() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
        total += sign * self.product()
        while self.next() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            total += sign * self.product()
        return total

    def product(self) -> complex:
        total = self.power()
        divided = False
        while (token := self.next()) and token not in "+-)]}":
            if token == "/":
                self.take()
                total, divided = total / self.power(), True
            elif token in ("*", "cdot", "times"):
                self.take()
                total *= self.power()
            elif divided or token.replace(".", "").isdigit():
                raise _NotPlainError  # 2/3x, and 2 3
            else:
                total *= self.power()
        return total

    def power(self) -> complex:
        base = self.atom()
        if self.next() not in ("^", "**"):
            return base
        self.take()
        if self.next() not in ("{", "(") and (len(self.next()) > 1 or not self.next().isalnum()):
            raise _NotPlainError  # x^12 is x^1 2 in LaTeX, and x^{12} elsewhere
        exponent = self.atom()
        if self.next() in ("^", "**"):
            raise _NotPlainError
        return complex(base**exponent)

    def atom(self) -> complex:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return complex(float(token))
        if token == "pi":
            return complex(math.pi)
        if token == "frac":
            return self.group() / self.group()
        if token == "sqrt":
            degree = 2 + 0j
            if self.next() == "[":
                self.take()
                degree = self.sum()
                self.take("]")
            inside = self.group()
            return complex(inside ** (1 / degree))
        if token in ("(", "{", "["):
            return self.closed({"(": ")", "{": "}", "[": "]"}[token])
        if len(token) == 1 and token.isalpha():
            return 1j if token == "i" else complex(math.e) if token == "e" else complex(1.1 + (ord(token) - 64) / 17)
        raise _NotPlainError

    def group(self) -> complex:
        """An argument of a command: in braces, or one digit or letter."""
        if self.next() == "{":
            self.take()
            return self.closed("}")
        token = self.next()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return complex(int(token[0]))
        if len(token) > 1 or not token.isalnum():
            raise _NotPlainError
        return self.atom()

    def closed(self, bracket: str) -> complex:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _NotPlainError
        total = self.sum()
        self.take(bracket)
        self.depth -= 1
        return total
