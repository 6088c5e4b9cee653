"""`--strict-gold`: references that a score cannot use are named before anything is judged.

A reference that its own verifier does not understand makes every response to it unjudged, or worse.

Not covered: references that are well formed and wrong.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from gristmill.errors import Refused, UsageError
from gristmill.score.score import Item, Score

NAMED = 10
"""Rows that the refusal names."""


def check_golds(scores: Sequence[Score], rows: Iterable[tuple[Sequence[str], Sequence[Item]]]) -> None:
    """Raises Refused with the rows whose reference one of the scores cannot use, UsageError if none of them looks at
    references. `rows` are batches: where each row is (FILE:ROW), and the row."""
    looking = [(score.name, score.gold) for score in scores if score.gold is not None]
    if not looking:
        names = ", ".join(score.name for score in scores)
        raise UsageError(f"--strict-gold: {names} has no way to check references; leave it out")
    failed: list[str] = []
    counts: Counter[str] = Counter()
    seen = 0
    for places, items in rows:
        seen += len(items)
        for name, gold in looking:
            for place, verdict in zip(places, gold(items), strict=True):
                if verdict.value != 1:
                    counts[verdict.verdict] += 1
                    failed.append(f"{place} ({name}: {verdict.verdict}{': ' if verdict.why else ''}{verdict.why})")
    if failed:
        kinds = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
        more = f" and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
        raise Refused(
            f"{len(failed):,} of {seen:,} references cannot be used ({kinds}): {'; '.join(failed[:NAMED])}{more}; "
            "mend or drop them, or leave --strict-gold out"
        )
