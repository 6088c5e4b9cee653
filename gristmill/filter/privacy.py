"""Personal data and secrets in texts: e-mail addresses, telephone and card numbers, keys.

Patterns with checks (for cards an issuer's first digit, in one piece or in groups of four, and Luhn's check digit,
https://patents.google.com/patent/US2950048A; 7 to 15 digits for telephones,
ITU-T E.164), for reporting, masking or dropping. Key formats are those their issuers publish (AWS, OpenAI, Anthropic,
GitHub, Google, Slack, Stripe, Hugging Face, JSON web tokens, PEM private keys). Not covered: names, addresses, dates of
birth, national identity numbers, telephone numbers without any separator or `+`, and passwords.
"""

import re
from collections.abc import Iterator

KINDS = ("email", "phone", "card", "secret")

PATTERNS = {
    "email": r"\b[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b",
    "phone": r"\+\d[\d ().-]{6,18}\d|\(\d{3}\) ?\d{3}[ .-]\d{4}\b|\b\d{3}[.-]\d{3}[.-]\d{4}\b",
    "card": (
        r"\b(?:[2-6]\d{12,18}|3[47]\d\d[ -]\d{6}[ -]\d{5}|[2-6]\d{3}(?:(?: \d{4}){3}|(?:-\d{4}){3})(?:[ -]\d{1,3})?)\b"
    ),
    "secret": (
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bsk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{36,}|"
        r"\bgithub_pat_[A-Za-z0-9_]{40,}|\bAIza[A-Za-z0-9_-]{35}|\bxox[abprs]-[A-Za-z0-9-]{10,}|"
        r"\b[rs]k_live_[A-Za-z0-9]{16,}|\bhf_[A-Za-z0-9]{30,}|"
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|"
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?s:.*?)(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|$)"
    ),
}
"""RE2 and `re` alike; what they match is checked further by `find_private`."""

_COMPILED = {kind: re.compile(pattern) for kind, pattern in PATTERNS.items()}


def find_private(kind: str, text: str) -> Iterator[tuple[int, int]]:
    """The spans (start, end in characters) of one kind of personal data or secret in a text, in order."""
    for found in _COMPILED[kind].finditer(text):
        digits = [int(c) for c in found.group(0) if c.isdecimal()]
        if kind == "card" and not (13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)):
            continue
        if kind == "phone" and not 7 <= len(digits) <= 15:
            continue
        yield found.span()


def luhn(digits: list[int]) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    doubled = [d * 2 - 9 * (d > 4) if place % 2 else d for place, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def mask(kinds: tuple[str, ...], text: str) -> str:
    """The text with every find of these kinds replaced by its kind in brackets: `[EMAIL]`, `[CARD]`, …

    Secrets and e-mail addresses are replaced before numbers, so that digits within them are not taken for numbers.
    """
    for kind in sorted(kinds, key=("secret", "email", "card", "phone").index):
        for start, end in reversed(list(find_private(kind, text))):
            text = f"{text[:start]}[{kind.upper()}]{text[end:]}"
    return text


def hidden(text: str) -> str:
    """A find as evidence may show it: its first and last two characters."""
    return f"{text[:2]}…{text[-2:]}"
