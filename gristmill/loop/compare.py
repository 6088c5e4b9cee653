"""Two evaluations side by side: pairs of outcomes, item by item, overall and in slices.

Items are paired by suite and item; an item that one of the two lacks, or on which one could not be judged, is no pair
and is counted. Several samples of an item are one outcome, right if more than half are: counted one by one they would
pass for independent.

Not covered: what follows from the comparison (`gate.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gristmill.errors import UsageError
from gristmill.loop.evals import Evals, Key, default_slices, outcomes, solved_of
from gristmill.loop.paired import Pairs, holm, interval, mcnemar, pairs_of
from gristmill.rollout.groups import Solved


class Item(NamedTuple):
    """An item that both have: whether each is right (None: could not be judged), and its slices."""

    key: Key
    base: bool | None
    candidate: bool | None
    slices: frozenset[str]


class Compared(NamedTuple):
    """The items of both, in the order of their keys, and how many only one of them has."""

    items: list[Item]
    base_only: int
    candidate_only: int
    score: str
    least: float


def matched(
    base: Evals, candidate: Evals, *, solved: Solved | None = None, slices: Sequence[str] | None = None
) -> Compared:
    """Pair the items of two evaluations. Raises UsageError where they have no item, or not the score, in common."""
    by = solved_of(candidate, solved)
    solved_of(base, by)
    names = tuple(dict.fromkeys([*default_slices(base), *default_slices(candidate)]) if slices is None else slices)
    ours, theirs = outcomes(base.rows, by.score, names), outcomes(candidate.rows, by.score, names)
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise UsageError(
            f"the two have no item in common: the baseline's are like {_shown(ours)}, the candidate's like "
            f"{_shown(theirs)}; evaluate both on one suite"
        )
    items = [
        Item(key, ours[key].right(by.least), theirs[key].right(by.least), ours[key].slices | theirs[key].slices)
        for key in both
    ]
    return Compared(items, len(ours) - len(both), len(theirs) - len(both), by.score, by.least)


def _shown(keys: Mapping[Key, Any]) -> str:
    return " ".join(next(iter(keys), ("(none)",)))


def within(items: Sequence[Item], name: str) -> list[Item]:
    """The items of a slice; `all` is every item."""
    return [item for item in items if name == "all" or name in item.slices]


def judged_pairs(items: Sequence[Item]) -> Pairs:
    """The counts over the items that both were judged on."""
    judged = [(item.base, item.candidate) for item in items if item.base is not None and item.candidate is not None]
    return pairs_of([bool(b) for b, _ in judged], [bool(c) for _, c in judged])


def told(pairs: Pairs) -> dict[str, Any]:
    """Counts, difference with its 95 % interval, and the two-sided p-value, as JSON."""
    found = interval(pairs) if pairs.n else (-1.0, 1.0)
    return {**pairs._asdict(), "difference": pairs.difference, "interval": list(found), "p": mcnemar(pairs)}


def compared(
    base: Evals, candidate: Evals, *, solved: Solved | None = None, slices: Sequence[str] | None = None
) -> dict[str, Any]:
    """The candidate less the baseline, overall (`all`) and by slice, as JSON; slices have `p_holm` too, the p-value
    adjusted for their number. Raises UsageError where they have nothing in common."""
    found = matched(base, candidate, solved=solved, slices=slices)
    names = sorted({name for item in found.items for name in item.slices})
    by_slice = {name: told(judged_pairs(within(found.items, name))) for name in names}
    adjusted = holm({name: each["p"] for name, each in by_slice.items()})
    return {
        "score": found.score,
        "base_only": found.base_only,
        "candidate_only": found.candidate_only,
        "all": told(judged_pairs(found.items)),
        "slices": {name: {**each, "p_holm": adjusted[name]} for name, each in by_slice.items()},
    }
