"""A judge compared with people: what it agrees on beyond chance, and what moves it that does not move them.

Verdicts are read as people write them: 1, A, "response 1" are `A`; 2, B are `B`; 0, tie, both are `tie`; anything else
is a failure and is counted as one, never as a tie. Numbers on a scale are compared as numbers (`numeric`).

Not covered: which judge to trust with which item (routing), drift over time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr

from gristmill.calibrate.agreement import ac1, agreement, alpha, bootstrap, cohen, crossed, fleiss, scott
from gristmill.calibrate.bias import JUDGED, length, length_controlled, position, survivors
from gristmill.intervals import wilson

Row = Mapping[str, Any]

WORDS = {
    "A": ("a", "1", "first", "response 1", "response_1", "response1", "model_a", "output_1", "chosen"),
    "B": ("b", "2", "second", "response 2", "response_2", "response2", "model_b", "output_2", "rejected"),
    "tie": ("tie", "0", "equal", "draw", "both good"),
    "both_bad": ("both_bad", "both bad", "tie (bothbad)", "neither"),
}
"""How each verdict is written."""

_VERDICTS = {word: verdict for verdict, words in WORDS.items() for word in words}

FAILED = "unparseable"


def verdict_of(value: Any) -> str:
    """A verdict as it is written anywhere; `unparseable` for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _VERDICTS.get(str(value).strip().lower(), FAILED)


def compare(
    judge: Sequence[Any],
    people: Mapping[str, Sequence[Any]],
    *,
    swapped: Sequence[Any] | None = None,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The report of a pairwise judge: its verdicts, people's by rater, and where there are some the judge's verdicts
    with the order changed (in terms of the same answers) and the two texts of each pair. One entry a pair, each.
    """
    first = [verdict_of(each) for each in judge]
    second = [verdict_of(each) for each in swapped] if swapped is not None else None
    final = survivors(first, second) if second else first
    raters = {name: [verdict_of(each) for each in given] for name, given in people.items()}
    gold = [_majority(votes) for votes in zip(*raters.values(), strict=True)]
    report: dict[str, Any] = {
        "pairs": len(first),
        "verdicts": dict(Counter(final).most_common()),
        "failures": sum(each not in JUDGED for each in final),
        "people": _people(raters, gold),
        "with_people": _with_people(final, gold),
    }
    if second:
        found = position(first, second)
        right = [np.mean([x == g for x, g in zip(each, gold, strict=True) if g]) for each in (first, second)]
        report["position"] = {**found._asdict(), "rate": found.rate}
        report["accuracy_by_order"] = [float(each) for each in right]
        report["accuracy"] = float(np.mean(right))
        report["both_orders_right"] = float(
            np.mean([x == y == g for x, y, g in zip(first, second, gold, strict=True) if g])
        )
    if texts:
        a, b = [[len(str(text)) for text in side] for side in texts]
        report["length"] = length(final, a, b, [each or FAILED for each in gold])._asdict()
        report["win_rate"] = length_controlled(final, a, b)._asdict()
    return report


def _majority(votes: Sequence[str]) -> str | None:
    """What more than half of the people say; None where they are divided."""
    usable = [vote for vote in votes if vote in JUDGED]
    if not usable:
        return None
    vote, count = Counter(usable).most_common(1)[0]
    return vote if count * 2 > len(usable) else None


def _people(raters: Mapping[str, Sequence[str]], gold: Sequence[str | None]) -> dict[str, Any]:
    """How far people agree among themselves: the ceiling of any judge."""
    ratings = [[vote if vote in JUDGED else None for vote in votes] for votes in zip(*raters.values(), strict=True)]
    pairs = []
    for one, other in combinations(raters, 2):
        both = [(a, b) for a, b in zip(raters[one], raters[other], strict=True) if a in JUDGED and b in JUDGED]
        if both:
            table = crossed(*map(list, zip(*both, strict=True)))
            pairs.append({"raters": [one, other], "agree": agreement(table), "kappa": cohen(table)})
    whole = [votes for votes in ratings if None not in votes]
    labels = sorted({vote for votes in whole for vote in votes if vote})
    counts = np.array([[votes.count(label) for label in labels] for votes in whole], float)
    return {
        "raters": list(raters),
        "majority": dict(Counter(each for each in gold if each).most_common()),
        "divided": sum(each is None for each in gold),
        "unanimous": sum(None not in votes and len(set(votes)) == 1 for votes in ratings),
        "alpha": alpha(ratings) if len(raters) > 1 else None,
        "fleiss": fleiss(counts) if len(raters) > 1 and whole else None,
        "pairs": pairs,
    }


def _with_people(verdicts: Sequence[str], gold: Sequence[str | None]) -> dict[str, Any]:
    """The judge against the majority of people, over the pairs that both decided on."""
    both = [(v, g) for v, g in zip(verdicts, gold, strict=True) if v in JUDGED and g]
    if not both:
        return {"pairs": 0}
    mine, theirs = (list(each) for each in zip(*both, strict=True))
    table = crossed(mine, theirs)
    same = np.array([v == g for v, g in both])
    decided = [v == g for v, g in both if v in ("A", "B") and g in ("A", "B")]
    return {
        "pairs": len(both),
        "agree": float(same.mean()),
        "interval": list(wilson(int(same.sum()), len(same))),
        "always_the_commonest": max(Counter(theirs).values()) / len(theirs),
        "kappa": cohen(table),
        "kappa_interval": list(_kappa_interval(mine, theirs)),
        "pi": scott(table),
        "ac1": ac1(table),
        "pairs_without_ties": len(decided),
        "agree_without_ties": float(np.mean(decided)) if decided else None,
    }


def _kappa_interval(mine: Sequence[str], theirs: Sequence[str]) -> tuple[float, float]:
    labels = {label: n for n, label in enumerate(sorted({*mine, *theirs}))}
    a, b = np.array([labels[each] for each in mine]), np.array([labels[each] for each in theirs])
    size = len(labels)

    def kappa(chosen: Any) -> float:
        return cohen(np.bincount(a[chosen] * size + b[chosen], minlength=size * size).reshape(size, size).astype(float))

    return bootstrap(kappa, len(a))


def compare_numbers(judge: Sequence[Any], people: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The report of a judge that gives numbers: its failures, its correlation with the mean of people, and
    Krippendorff's alpha (interval) among people and with the judge as one more rater."""
    mine = [_number(each) for each in judge]
    raters = [[_number(each) for each in given] for given in people.values()]
    rows = list(zip(mine, *raters, strict=True))
    means = [np.mean(known) if (known := [v for v in row[1:] if v is not None]) else None for row in rows]
    both = [(row[0], mean) for row, mean in zip(rows, means, strict=True) if row[0] is not None and mean is not None]
    a, b = np.array(both, float).T if both else (np.zeros(0), np.zeros(0))
    varied = len(both) > 2 and a.std() > 0 and b.std() > 0
    return {
        "items": len(mine),
        "failures": sum(each is None for each in mine),
        "people": {
            "raters": list(people),
            "alpha": alpha([row[1:] for row in rows], "interval") if len(raters) > 1 else None,
        },
        "with_people": {
            "items": len(both),
            "alpha": alpha(rows, "interval"),
            "pearson": float(pearsonr(a, b).statistic) if varied else None,
            "spearman": float(spearmanr(a, b).statistic) if varied else None,
            "mean_difference": float((a - b).mean()) if both else None,
        },
    }


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None
