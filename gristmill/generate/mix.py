"""A mix with an exact share of reasoning: which rows change, and which are too many when some could not be changed.

Of N rows, round(share x N) (halves up) have reasoning; a practical share for multi-step tasks is about 40 %. The share
is the same in every stratum (source file and tags) as nearly as whole rows allow: each stratum gets the floor of its
quota, and what is left goes to the largest remainders (Hare's method), within what the stratum can give. Which rows of
a stratum change is drawn by (seed, id, copy).

Not covered: shares of other things than reasoning (`gristmill.mix`).
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from gristmill.errors import UsageError
from gristmill.shares import allotted, rounded


class Member(NamedTuple):
    """A row of the mix: its key, its source file and tags, and whether it has reasoning."""

    id: str
    copy: int
    stratum: Hashable
    reasons: bool


def chosen(members: Iterable[Member], share: float, *, adds: bool, seed: int) -> set[tuple[str, int]]:
    """The keys of the rows to change so that exactly `share` of all have reasoning afterwards.

    `adds`: the change adds reasoning to rows without; else it takes it from rows with it. Raises UsageError where that
    cannot reach the share.
    """
    strata = _strata(members)
    rows = sum(map(len, strata.values()))
    having = {stratum: sum(member.reasons for member in group) for stratum, group in strata.items()}
    wanted, there = rounded(share, rows), sum(having.values())
    if wanted < there if adds else wanted > there:
        way = "adds reasoning; use --op strip" if adds else "takes reasoning away; use --op reason"
        raise UsageError(
            f"--reason-share {share:g}: {there:,} of {rows:,} rows have reasoning ({there / max(rows, 1):.1%}), and "
            f"this transform {way}"
        )
    quotas = {stratum: share * len(group) for stratum, group in strata.items()}
    sizes = {stratum: len(group) for stratum, group in strata.items()}
    none = dict.fromkeys(strata, 0)
    shares = allotted(wanted, quotas, having, sizes) if adds else allotted(wanted, quotas, none, having)
    changed: set[tuple[str, int]] = set()
    for stratum, group in strata.items():
        ranked = _drawn([member for member in group if member.reasons != adds], seed)
        changed.update(ranked[: abs(shares[stratum] - having[stratum])])
    return changed


def surplus(members: Iterable[Member], share: float, *, seed: int) -> set[tuple[str, int]]:
    """The fewest rows without which exactly `share` of the others have reasoning."""
    strata = _strata(members)
    rows = sum(map(len, strata.values()))
    having = sum(member.reasons for group in strata.values() for member in group)
    more = having > rounded(share, rows)  # of which there are too many: rows with reasoning, or those without
    few = rows - having if more else having
    left = next(n for n in range(rows - few, -1, -1) if rounded(share, n + few) == (n if more else few))
    over = {stratum: [member for member in group if member.reasons == more] for stratum, group in strata.items()}
    ratio = (share if more else 1 - share) / max(1 - share if more else share, 1e-9)
    quotas = {stratum: ratio * (len(strata[stratum]) - len(group)) for stratum, group in over.items()}
    sizes = {stratum: len(group) for stratum, group in over.items()}
    stay = allotted(left, quotas, dict.fromkeys(over, 0), sizes)
    dropped: set[tuple[str, int]] = set()
    for stratum, group in over.items():
        dropped.update(_drawn(group, seed)[stay[stratum] :])
    return dropped


def told(members: Iterable[Member], share: float, *, dropped: int) -> dict[str, Any]:
    """What the mix is, as JSON: counts in all and by stratum, and how many rows were dropped to make it exact."""
    counts: dict[Hashable, Counter[bool]] = defaultdict(Counter)
    for member in members:
        counts[member.stratum][member.reasons] += 1
    reasoning = sum(count[True] for count in counts.values())
    rows = sum(count.total() for count in counts.values())
    listed: list[dict[str, Any]] = [
        {"stratum": name, "rows": c.total(), "with_reasoning": c[True]} for name, c in counts.items()
    ]
    listed.sort(key=lambda each: -each["rows"])
    return {
        "asked": share,
        "rows": rows,
        "with_reasoning": reasoning,
        "direct": rows - reasoning,
        "share": round(reasoning / rows, 6) if rows else None,
        "dropped": dropped,
        "strata": listed[:_SHOWN],
    }


_SHOWN = 20
"""Strata that `told` names, the largest first."""


def _strata(members: Iterable[Member]) -> dict[Hashable, list[Member]]:
    strata: dict[Hashable, list[Member]] = defaultdict(list)
    for member in members:
        strata[member.stratum].append(member)
    return strata


def _drawn(members: Sequence[Member], seed: int) -> list[tuple[str, int]]:
    """The keys of rows in an order drawn by (seed, id, copy)."""

    def rank(member: Member) -> bytes:
        return blake2b(f"{seed}:{member.id}:{member.copy}:reason_share".encode(), digest_size=8).digest()

    return [(member.id, member.copy) for member in sorted(members, key=rank)]
