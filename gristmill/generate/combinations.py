"""Combinations of slot values by number: which there are, how many, and a seeded order of them, without a list of them.

A *node* is a slot with its values and the slots that hang on it: followers take the row of the same number, children
have values of their own for each of its values. A *group* is nodes taken together, numbered by mixed radix
(https://en.wikipedia.org/wiki/Mixed_radix). Groups that a constraint ties together and that are small enough are
enumerated once: the constraint then costs nothing and the count is exact.

The order is a pseudo-random permutation of the numbers (`permutation.py`). Weights: the group of all weighted nodes is
drawn by weight, then the rest is the next of its own permutation for that draw; what is used up is drawn no more. So
combinations are distinct without a memory of them, and the first k of n draws are the first k of any more.

Not covered: constraints over more combinations than `ENUMERATED`; they are checked on each draw (`templates.py`).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import comb, prod
from random import Random
from typing import Any, Protocol

import numpy as np

from gristmill.generate.permutation import Permutation

ENUMERATED = 100_000
"""Combinations that are looked at one by one, in about a second."""

REJECTED = 32
"""Draws of used-up values after which the weights are summed anew."""

Values = dict[str, Any]
"""Slot names and what stands in them."""


class Indexed(Protocol):
    """Values by number; unlike a Sequence there may be more than 2^63."""

    def __getitem__(self, place: int, /) -> Any: ...


class Node:
    """A slot, its `size` values, and the slots that hang on it."""

    def __init__(
        self,
        name: str,
        values: Indexed,
        size: int,
        *,
        followers: Mapping[str, Indexed] | None = None,
        children: Sequence[Sequence["Node"]] | None = None,
        weights: Sequence[float] | None = None,
    ):
        self.name, self.values, self.followers = name, values, dict(followers or {})
        self.children, self.weights = children, weights
        self.starts: list[int] = []
        self.size = size
        if children is not None:
            ends = list(accumulate(prod(child.size for child in each) for each in children))
            self.starts, self.size = [0, *ends[:-1]], ends[-1]

    def names(self) -> set[str]:
        """The slots this node fills."""
        below = {name for each in self.children or () for child in each for name in child.names()}
        return {self.name, *self.followers} | below

    def fill(self, number: int, values: Values) -> None:
        """Put the values of combination `number` of this node into `values`."""
        place = number
        if self.children is not None:
            place = bisect_right(self.starts, number) - 1
            number -= self.starts[place]
            _fill(self.children[place], number, values)
        values[self.name] = self.values[place]
        for name, followed in self.followers.items():
            values[name] = followed[place]

    def mass(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """The weight of each of its combinations; those of one value share its weight."""
        if self.weights is None:
            return np.full(self.size, 1 / self.size)
        weights = np.asarray(self.weights, np.float64)
        if self.children is None:
            return weights
        sizes = np.diff([*self.starts, self.size])
        return np.repeat(weights / sizes, sizes)


class Subsets:
    """The k-element subsets of `rows` places of `values`, by number, each in an order of its own.

    Numbers are ranks in the combinatorial number system (D. Knuth, TAOCP 7.2.1.3, theorem L); the order within a subset
    is a shuffle that derives from its number, so that no value always stands first.
    """

    def __init__(self, values: Sequence[Any], rows: Sequence[int], k: int):
        self.values, self.rows, self.k = values, rows, k
        self.size = comb(len(rows), k)

    def __getitem__(self, number: int) -> list[Any]:
        rest, top, places = number, len(self.rows), []
        for count in range(self.k, 0, -1):
            # mypy cannot tell the type of a lambda with a default, which binds `count` as it is in this turn
            top = bisect_right(range(top), rest, key=lambda place, count=count: comb(place, count)) - 1  # type: ignore[misc]
            rest -= comb(top, count)
            places.append(top)
        mixed = int.from_bytes(blake2b(b"%d" % number, digest_size=64).digest())
        for place in range(self.k - 1, 0, -1):
            mixed, other = divmod(mixed, place + 1)
            places[place], places[other] = places[other], places[place]
        return [self.values[self.rows[place]] for place in places]


class Group:
    """Nodes taken together; with `allowed`, only those combinations."""

    def __init__(self, nodes: Sequence[Node]):
        self.nodes, self.possible = nodes, prod(node.size for node in nodes)
        self.allowed: np.ndarray[Any, np.dtype[np.int64]] | None = None

    @property
    def size(self) -> int:
        """How many combinations it has."""
        return self.possible if self.allowed is None else len(self.allowed)

    def names(self) -> set[str]:
        """The slots it fills."""
        return {name for node in self.nodes for name in node.names()}

    def fill(self, number: int, values: Values) -> None:
        """Put the values of combination `number` into `values`."""
        _fill(self.nodes, number if self.allowed is None else int(self.allowed[number]), values)

    def keep(self, holds: Callable[[Values], bool]) -> None:
        """Drop the combinations for which `holds` is false; looks at each."""
        kept = []
        for number in range(self.possible):
            values: Values = {}
            _fill(self.nodes, number, values)
            kept.append(holds(values))
        self.allowed = np.flatnonzero(kept)

    def mass(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """The weight of each combination."""
        mass = np.ones(1)
        for node in self.nodes:
            mass = np.multiply.outer(node.mass(), mass).ravel()  # the first node is the digit that moves fastest
        return mass if self.allowed is None else mass[self.allowed]


def _fill(parts: Sequence[Node] | Sequence[Group], number: int, values: Values) -> None:
    """Put the values of a number of mixed radix into `values`; the first part is the digit that moves fastest."""
    for part in parts:
        number, digit = divmod(number, part.size)
        part.fill(digit, values)


class Combinations:
    """All combinations of some groups, in the order of a seed; `weighted` is drawn by weight."""

    def __init__(self, groups: Sequence[Group], weighted: Group | None):
        self.groups, self.weighted = groups, weighted
        self.rest = prod(group.size for group in groups)
        self.size = self.rest * (weighted.size if weighted else 1)

    def drawn(self, seed: int) -> Iterator[Values]:
        """Every combination once, in the order of the seed."""
        for number, which in self._numbers(seed):
            values: Values = {}
            if self.weighted:
                self.weighted.fill(which, values)
            _fill(self.groups, number, values)
            yield values

    def _numbers(self, seed: int) -> Iterator[tuple[int, int]]:
        """The number among the combinations of `groups`, and that of the weighted group."""
        order = Permutation(self.rest, seed)
        if not self.weighted:
            place = 0
            while place < self.rest:  # not range: there may be more than 2^63
                yield order.at(place), 0
                place += 1
            return
        used: dict[int, int] = {}
        for which in _by_weight(self.weighted.mass(), seed, lambda which: used.get(which, 0) == self.rest):
            place = used.get(which, 0)
            used[which] = place + 1
            yield order.at(place, which), which


def _by_weight(
    mass: "np.ndarray[Any, np.dtype[np.float64]]", seed: int, is_used: Callable[[int], bool]
) -> Iterator[int]:
    """Numbers drawn by their mass, until all are used up."""
    random = Random(f"{seed}:weights")
    while len(alive := [number for number in np.flatnonzero(mass).tolist() if not is_used(number)]):
        sums = np.cumsum(mass[alive]).tolist()
        rejected = 0
        while rejected < REJECTED:
            which = alive[min(bisect_right(sums, random.random() * sums[-1]), len(alive) - 1)]
            if is_used(which):
                rejected += 1
            else:
                yield which
