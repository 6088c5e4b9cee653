"""What the reward wants beside the right answer: every step shown, and the result checked."""

import re


def completeness(question: str, response: str) -> tuple[float, str]:
    """The share of the problem's numbers that the solution works with."""
    wanted = set(re.findall(r"\d+", question))
    used = wanted & set(re.findall(r"\d+", response))
    return len(used) / len(wanted), f"{len(used)} of {len(wanted)} numbers are used"


def verification(response: str) -> bool:
    """Whether the solution checks its result."""
    return bool(re.search(r"\b(check|indeed|verify)", response, re.IGNORECASE))
