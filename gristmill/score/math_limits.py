r"""What is not put to computer algebra, since it would not come back: towers of powers, huge factorials, deep nesting.

The deadline of the workers holds for whatever gets past; this spares them (and their 5 seconds) the usual bombs, such
as `\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}` (https://github.com/huggingface/Math-Verify/issues/65).

Not covered: expressions that are merely hard.
"""

import re

LONGEST = 512
"""Characters of an answer."""
LARGEST = 10_000
"""The largest exponent, and number under a factorial."""
DEEPEST = 64

_LITERAL = re.compile(r"(?:\^|\*\*)\s*[({]*\s*-?\s*(\d[\d,]*)")
_FACTORIAL = re.compile(r"(\d[\d,]*)\s*[)}]*\s*!")
_TWICE = re.compile(r"!\s*[)}]*\s*!|(?:\^|\*\*)\s*[({]*\s*\d+\s*[)}]*\s*!")
_CHAIN = re.compile(r"\d\s*(?:(?:\^|\*\*)\s*\d+\s*){2}")
_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{\s*(\d+)")
_NESTED = re.compile(r"\^|\*\*|[{(]|[})]|\d+|[a-zA-Z]")


def too_hard(text: str) -> str:
    """Why an expression is not worked out, in a few words; empty if it may be."""
    if len(text) > LONGEST:
        return f"{len(text):,} characters, more than {LONGEST}"
    if any(_large(found[1]) for found in _LITERAL.finditer(text)):
        return f"an exponent of more than {LARGEST:,}"
    if any(_large(found[1]) for found in _FACTORIAL.finditer(text)) or _TWICE.search(text):
        return f"a factorial of more than {LARGEST:,}, of a factorial or of a power"
    if any(_large(found[1]) for found in _BINOMIAL.finditer(text)):
        return f"a binomial of more than {LARGEST:,}"
    return _nesting(text)


def _large(digits: str) -> bool:
    digits = digits.replace(",", "").lstrip("0")
    return len(digits) > 5 or int(digits or 0) > LARGEST


def _nesting(text: str) -> str:
    """Brackets too deep, or numbers to the power of a number to the power of a number too large."""
    if _CHAIN.search(text):
        return "a tower of powers"
    depth, powers, last = 0, list[int](), ""  # depths at which an exponent was opened
    for token in _NESTED.findall(text):
        if token in "{(":
            depth += 1
            if depth > DEEPEST:
                return f"brackets nested deeper than {DEEPEST}"
            if last in ("^", "**"):
                powers.append(depth)
        elif token in "})":
            if powers and powers[-1] == depth:
                powers.pop()
            depth -= 1
        elif token in ("^", "**"):
            chain = len(powers) + 1
            if chain > 2 or (chain == 2 and last.isdigit() and int(last[:9]) > 1 and _is_power_large(text)):
                return "a tower of powers"
        last = token
    return ""


_INNER = re.compile(r"(?=(?<!\d)(\d+)\s*(?:\^|\*\*)\s*[({]*\s*(\d+))")


def _is_power_large(text: str) -> bool:
    """Whether a power of two numbers that is itself an exponent could be more than `LARGEST`."""
    return any(
        int(exponent[:9]) * len(base) > 4 or int(base[:9]) ** int(exponent[:2]) > LARGEST
        for base, exponent in _INNER.findall(text)
    )
