"""Shares as whole numbers: what a share of so many rows is, and how a total is split by quotas.

Each part gets the floor of its quota and what is left goes to the largest remainders (Hare's method), within what a
part must and can have.
"""

import heapq
from collections.abc import Hashable, Mapping
from math import floor
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def rounded(share: float, rows: int) -> int:
    """How many of `rows` are that share; halves up."""
    return floor(share * rows + 0.5 + 1e-9)  # 0.35 * 10 is 3.4999999999999996


def allotted(
    total: int, quotas: Mapping[Name, float], least: Mapping[Name, int], most: Mapping[Name, int]
) -> dict[Name, int]:
    """`total` split by quotas into whole numbers from `least` to `most` (whose sums allow it): floors first, then one
    by one where most is missing or, if the floors are too many, where most is over."""
    shares = {name: min(max(floor(quota + 1e-9), least[name]), most[name]) for name, quota in quotas.items()}
    left = total - sum(shares.values())
    step, bound = (1, most) if left > 0 else (-1, least)
    order = {name: place for place, name in enumerate(quotas)}
    heap = [(step * (shares[name] - quotas[name]), order[name], name) for name in quotas if shares[name] != bound[name]]
    heapq.heapify(heap)
    for _ in range(abs(left)):
        missing, place, name = heapq.heappop(heap)
        shares[name] += step
        if shares[name] != bound[name]:
            heapq.heappush(heap, (missing + 1, place, name))
    return shares
