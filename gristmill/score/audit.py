"""How often a verifier is wrong, on rows whose right verdict is known.

False positives among what is wrong and false negatives among what is right, with exact (Clopper-Pearson 1934,
https://doi.org/10.1093/biomet/26.4.404) 95 % intervals; every disagreement; and responses that it calls right made
wrong on purpose (`mutations.py`). What it could not judge is in no rate, and counted beside.

Not covered: labels that are themselves wrong (look at the disagreements), scores that are not right or wrong: a value
of 1 is taken for *right*, all others for *wrong*.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zlib import crc32

from scipy.stats import binomtest

from gristmill.errors import BadInput, UsageError
from gristmill.files import BAD, batches
from gristmill.score.mutations import MUTATIONS, mutated
from gristmill.score.pipeline import items_of
from gristmill.score.score import Item, Score, Verdict

_RIGHT = frozenset({"true", "1", "1.0", "yes", "correct", "right"})
_WRONG = frozenset({"false", "0", "0.0", "no", "wrong", "incorrect"})


class Labelled(NamedTuple):
    """An item whose right verdict is known."""

    place: str
    """FILE:ROW."""
    item: Item
    right: bool


def labelled(
    paths: str | Sequence[str], label: str, *, columns: Mapping[str, str] | None = None, limit: int | None = None
) -> list[Labelled]:
    """The rows of readable files whose column `label` says whether the response is right; rows without a label are left
    out. Raises UsageError for a label that is neither, BadInput if there is none at all."""
    rows = []
    for batch in batches(paths, columns=columns, answer="reference", limit=limit)[2]:
        good = batch.filter(batch[BAD].is_null())
        own = good[label].to_pylist() if label in good.schema.names else None
        places = zip(good["source_file"].to_pylist(), good["source_row"].to_pylist(), strict=True)
        for number, ((file, row), item) in enumerate(zip(places, items_of(good), strict=True)):
            given = own[number] if own else item.meta.get(label)
            if given is None or item.response is None:
                continue
            rows.append(Labelled(f"{file}:{row}", item, _truth(given, label, f"{file}:{row}")))
    if not rows:
        raise BadInput(f"audit: no row has a label in {label!r} and a response; name the column with --label")
    return rows


def _truth(given: Any, label: str, place: str) -> bool:
    word = str(given).strip().lower()
    if word in _RIGHT or word in _WRONG:
        return word in _RIGHT
    raise UsageError(f"{place}: {label} is {given!r}; allowed are true, false, 1, 0, yes, no, correct, wrong")


def audit(score: Score, rows: Sequence[Labelled]) -> dict[str, Any]:
    """What there is to tell of a verifier by labelled rows, as JSON.

    Rates are {count, of, rate, low, high}; rate is None where `of` is 0.
    """
    verdicts = score([row.item for row in rows])
    judged = [(row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.value is not None]
    unjudged = Counter(verdict.verdict for verdict in verdicts if verdict.value is None)
    wrong = [verdict for row, verdict in judged if not row.right]
    right = [verdict for row, verdict in judged if row.right]
    made, survivors = _mutations(score, [row for row, verdict in judged if row.right and verdict.value == 1])
    return {
        "verifier": score.name,
        "version": score.version,
        "parameters": dict(score.parameters),
        "rows": len(rows),
        "labelled_right": sum(row.right for row in rows),
        "false_positives": rate(sum(verdict.value == 1 for verdict in wrong), len(wrong)),
        "false_negatives": rate(sum(verdict.value != 1 for verdict in right), len(right)),
        "unjudged": dict(unjudged.most_common()),
        "disagreements": [
            {
                "row": row.place,
                "label": "right" if row.right else "wrong",
                "verdict": verdict.verdict,
                "why": verdict.why,
            }
            for row, verdict in zip(rows, verdicts, strict=True)
            if (verdict.value == 1) != row.right
        ],
        "mutations": made,
        "survivors": survivors,
    }


def rate(count: int, of: int) -> dict[str, Any]:
    """A share with its exact 95 % interval."""
    if not of:
        return {"count": 0, "of": 0, "rate": None, "low": 0.0, "high": 1.0}
    interval = binomtest(count, of).proportion_ci(0.95, method="exact")
    return {"count": count, "of": of, "rate": count / of, "low": float(interval.low), "high": float(interval.high)}


def _mutations(score: Score, rows: Sequence[Labelled]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """How many of the responses that were right survive each mutation, and those that do."""
    made: dict[str, Any] = {}
    survivors = []
    for kind in MUTATIONS:
        changed = [(row, change) for row in rows if (change := _changed(row.item, kind)) is not None]
        verdicts = score([replace(row.item, response=change[0]) for row, change in changed]) if changed else []
        lived = [
            (row, change, verdict) for (row, change), verdict in zip(changed, verdicts, strict=True) if _lives(verdict)
        ]
        made[kind] = rate(len(lived), len(changed))
        survivors += [
            {"row": row.place, "mutation": kind, "before": before, "after": after, "why": verdict.why}
            for row, (_, before, after), verdict in lived
        ]
    return made, survivors


def _lives(verdict: Verdict) -> bool:
    return verdict.value == 1


def _changed(item: Item, kind: str) -> tuple[str, str, str] | None:
    """The mutated response; a unit is changed only where the reference has one, since it may be left out."""
    response = item.response or ""
    if kind == "unit" and (not item.reference or mutated(item.reference, kind) is None):
        return None
    return mutated(response, kind, crc32(response.encode(errors="replace")))
