"""`--strict-gold`: references that a score cannot use are named before anything is judged.

A reference that its own verifier does not understand makes every response to it unjudged, or worse.

Not covered: references that are well formed and wrong.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from gristmill.errors import Refused, UsageError
from gristmill.files import BAD
from gristmill.score.score import Item, Score

NAMED = 10
"""Rows that the refusal names."""


def check_golds(scores: Sequence[Score], read: Iterable[pa.RecordBatch]) -> None:
    """Raises Refused with the rows whose reference one of the scores cannot use, UsageError if none of them looks at
    references."""
    looking = [score for score in scores if score.gold is not None]
    if not looking:
        names = ", ".join(score.name for score in scores)
        raise UsageError(f"--strict-gold: {names} has no way to check references; leave it out")
    failed: list[str] = []
    counts: Counter[str] = Counter()
    rows = 0
    for batch in read:
        good = batch.filter(batch[BAD].is_null())
        empty = [None] * good.num_rows
        references = good["reference"].to_pylist() if "reference" in good.schema.names else empty
        items = [Item(None, reference) for reference in references]
        places = zip(good["source_file"].to_pylist(), good["source_row"].to_pylist(), strict=True)
        named = [f"{file}:{row}" for file, row in places]
        rows += len(items)
        for score in looking:
            assert score.gold is not None
            for place, verdict in zip(named, score.gold(items), strict=True):
                if verdict.value != 1:
                    counts[verdict.verdict] += 1
                    failed.append(f"{place} ({score.name}: {verdict.verdict}: {verdict.why})")
    if failed:
        kinds = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
        more = f" and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
        raise Refused(
            f"{len(failed):,} of {rows:,} references cannot be used ({kinds}): {'; '.join(failed[:NAMED])}{more}; "
            "mend or drop them, or leave --strict-gold out"
        )
