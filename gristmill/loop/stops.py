"""When a loop has done enough: each rule with the sentence that says so.

- *plateau*: rounds in a row gained less than so much, paired, on the gate's items
- *unseen*: a further item hardly shows a kind of failure that was not seen, and no kind that was seen is worth a round
- *budget*: the money of the calls, or the hours, are spent

The mass of what was not seen is Good and Turing's n1/N: of N observations, the share of those whose kind was seen
once (I. J. Good, "The Population Frequencies of Species and the Estimation of Population Parameters", Biometrika 40,
1953). An observation is an item of the mined suite. Its kind is its cluster; a failure that is in no cluster is a kind
of its own, seen once; an item that passes is of the kind seen most. What a further item would show is asked, so the
items count that pass. Departure: failures that are alike and too few to make a cluster count as different kinds, so
that the mass is rather too high.

Not covered: an upper bound of that mass.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gristmill.loop.clusters_table import UNCLUSTERED
from gristmill.loop.loop_file import StopEntry

Row = dict[str, Any]


def unseen_mass(clusters: Sequence[Row], items: int) -> float:
    """The mass of the kinds of failures that were not seen: 0 to 1. `clusters` are the rows of the table of clusters,
    the unclustered bin among them; `items` how many were mined."""
    once = 0
    for each in clusters:
        failed = sum(member["inside"] and member["failed"] > 0 for member in each["members"])
        once += failed if each["cluster"] == UNCLUSTERED else failed == 1
    return once / items


def plateau(stop: StopEntry, gains: Sequence[float]) -> str | None:
    """Whether the last rounds' gains (0 for one that was not promoted) were too small, in words."""
    last = list(gains[-stop.rounds :])
    if len(last) < stop.rounds or max(last) >= stop.gain:
        return None
    return f"plateau: {stop.rounds} rounds in a row gained less than {stop.gain:.1%} (stop: gain, rounds)"


def seen(stop: StopEntry, unseen: float, left: Sequence[Row]) -> str | None:
    """Whether hardly a kind of failure is unseen and none of the clusters `left` is worth a round, in words."""
    if stop.unseen is None or unseen >= stop.unseen:
        return None
    worth = max((each["frequency"] * each["severity"] for each in left), default=0.0)
    if worth > stop.worth:
        return None
    return (
        f"unseen: a further item shows a new kind of failure with a probability of {unseen:.1%}, under "
        f"{stop.unseen:.1%}, and frequency x severity of what is left is {worth:.3f}, at most {stop.worth:g} "
        "(stop: unseen, worth)"
    )


def spent(stop: StopEntry, took: Mapping[str, float]) -> str | None:
    """Whether the budget allows no further round, in words."""
    budget = stop.budget
    if budget.cost is not None and took["money"] >= budget.cost:
        return f"budget: {took['money']:.4f} of {budget.cost:g} is spent on calls (stop: budget: cost)"
    if budget.hours is not None and took["seconds"] >= 3_600 * budget.hours:
        return f"budget: {took['seconds'] / 3_600:.2f} of {budget.hours:g} hours are over (stop: budget: hours)"
    return None
