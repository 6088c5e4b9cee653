"""Which cluster first: frequency × severity × headroom ÷ effort, with every factor in sight.

- *frequency*: the lower 90 % Wilson bound of the share of all items that are in the cluster and fail
- *severity*: 1 to 5, by hand; else the mean of a field `severity` of its failed items; else 3
- *headroom*: the teacher's share of solved items in the cluster, where it was evaluated on them; else 1 (there is no
  point in generating what the teacher fails too)
- *effort*: what one counterexample takes against others, by hand; else 1

Not covered: samples of traffic that are not uniform (weigh them first), scores that are themselves uncertain.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gristmill.intervals import wilson
from gristmill.loop.clusters import exact_interval
from gristmill.loop.found import Cluster
from gristmill.loop.scan import Floats

Row = dict[str, Any]

SEVERITY = 3.0
"""What a failure weighs when nobody says."""

CONFIDENCE = 0.8
"""Of the two-sided interval, so that its lower bound is the 90 % one."""


class Factors(NamedTuple):
    """What the priority of a cluster is made of, and the rates behind it."""

    items: int
    failures: float
    rate: float
    low: float
    """The exact 95 % interval of the rate."""
    high: float
    rest: float
    """The failure rate of the items in no cluster."""
    frequency: float
    severity: float
    headroom: float
    effort: float

    @property
    def priority(self) -> float:
        """frequency × severity × headroom ÷ effort."""
        return self.frequency * self.severity * self.headroom / self.effort


def factors(
    cluster: Cluster,
    items: Sequence[Row],
    failed: Floats,
    *,
    rest: float,
    teacher: Mapping[str, float] | None = None,
) -> Factors:
    """The factors of a cluster; `rest` is the failure rate of the items in none, `teacher` are the failure shares of
    another model by the items' keys."""
    members, by_hand = cluster.members, cluster.set_by_hand
    failures = float(failed[members].sum())
    said = [value for n in members.tolist() if failed[n] > 0 and (value := _severity(items[n])) is not None]
    severity = by_hand.get("severity", float(np.mean(said)) if said else SEVERITY)
    known = [teacher[items[n]["key"]] for n in members.tolist() if items[n]["key"] in teacher] if teacher else []
    headroom = by_hand.get("headroom", 1 - float(np.mean(known)) if known else 1.0)
    return Factors(
        len(members),
        failures,
        failures / len(members),
        *exact_interval(failures, len(members)),
        rest,
        wilson(round(failures), len(failed), CONFIDENCE)[0],
        float(severity),
        float(headroom),
        float(by_hand.get("effort", 1.0)),
    )


def _severity(item: Row) -> float | None:
    value = item["facts"].get("severity")
    return float(value) if isinstance(value, int | float) and 1 <= value <= 5 else None
