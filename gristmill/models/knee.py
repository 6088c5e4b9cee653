"""How many calls to hold in the air: where more would not bring more answers, and where none are turned away.

`Knee` knows no clock, loop or network: `Limits` tells it what came of a number of slots, and it says how many to hold.
Answers a second are counted over whole multiples of the slots, so that answers that come in waves count right, after
`SETTLE` latencies. The rules, in the order in which they act:

Search. Double the slots while the rate grows by `GAIN` or more; where not even the first step paid, halve while that
costs less than half of it. The knee then lies between two levels, and below it the latency is that of an idle server,
so a server that queues needs rate x latency there (Little's law): that many and `ROOM` more are tried, and kept if the
rate is the same. If it is not, the server is one that slows down gradually (a batch), and the higher level is kept.

Watch. Latency beyond `INFLATED` times what it was when the search ended, or `LOOK_AGAIN` seconds, begin a new search.

Edge. Where more calls are turned away than `Limits` tolerates, fall by `FALL`; halve the distance (in proportion)
between the last level that did and the last that did not pass, to within `NEAR`; then, ever less often, try a little
more, and search again well above it.

No rule on the minimum of latency is used (as TCP Vegas has it): the lengths of answers differ by more than queueing
adds, and with lognormal latencies such rules fell to a few slots.

Not covered: telling a server that slows down from a workload whose answers got longer (both begin a search).
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

GAIN = 0.12
"""Growth of the rate for which twice the calls in the air are worth it."""
PLAIN = 0.5
"""Growth that a short measurement shows well enough; less is measured for longer."""
SHORT, SURE = 128, 400
"""Answers of a first measurement, and of one that decides."""
SETTLE = 1.25
"""Latencies that pass after a change before a measurement begins."""
ROOM = 1.1
SAME = 0.9
"""Share of a rate that counts as the same."""
INFLATED = 2.5
LOOK_AGAIN = 30.0
"""Seconds (and no fewer than 30 latencies) until a search is taken up again."""
FALL, NEAR = 0.75, 1.1
EDGE_WAIT, EDGE_WAIT_MOST = 5.0, 60.0
"""Seconds until more is tried, doubled each time it is turned away."""
STEP = 0.05
"""The first step beyond; each is twice the last."""


class Level(NamedTuple):
    """What came of a number of slots: answers a second, mean latency in seconds."""

    slots: int
    rate: float
    latency: float


@dataclass
class Knee:
    """The slots to hold are `limit`: from 1 to `most`, `start` at first. Without `search` it is `start` wherever no
    calls are turned away."""

    start: int
    most: int
    search: bool = True
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        self.limit = self.start
        self.state = "up" if self.search else "edge"
        self.good: Level | None = None  # the best level so far
        self.below: Level | None = None  # the next lower one that was measured; its rate is worse
        self.top = 0.0
        self.found: Level | None = None  # what the last search ended with
        self.windows = 0  # measurements of the present level
        self.settle = 0.0  # seconds from a change of level to its measurement
        self.safe, self.failed = 0, math.inf  # levels at which calls were not and were turned away
        self.step, self.edge_wait, self.edge_until = STEP, EDGE_WAIT, 0.0
        self.edge = 0.0  # what `failed` was when more was last tried
        self.look_at = math.inf

    def window(self) -> int:
        """Answers that the next measurement takes: a multiple of the slots."""
        is_first = self.state == "edge" or (self.state in ("up", "down") and not self.windows)
        least = min(SHORT, 8 * self.limit) if is_first else SURE
        return -(-least // self.limit) * self.limit

    def measured(self, level: Level, now: float) -> bool:
        """A level was measured, with few calls turned away; true when another is to be measured, `settle` seconds from
        when no more calls than slots are in the air. Else the measurement goes on."""
        before = (self.state, self.limit)
        self.windows += 1
        self.safe = max(self.safe, level.slots)
        getattr(self, f"_{self.state}")(level, now)
        if (self.state, self.limit) == before:
            return False
        self.windows = 0
        self.settle = SETTLE * min(level.latency, self.limit / level.rate)
        return True

    def turned_away(self, now: float) -> None:
        """More calls than tolerated were turned away."""
        self.failed = self.limit
        if self.safe >= self.limit:
            self.safe = 0
        if self.edge_until <= now and self.state == "edge":
            self.edge_wait = min(2 * self.edge_wait, EDGE_WAIT_MOST)
        self.state, self.windows = "edge", 0
        self.step, self.edge_until = STEP, now + self.edge_wait
        if self.limit == 1:  # one at once cannot be too many: it was out, and what was known of it no longer holds
            self.safe, self.failed, self.edge, self.step, self.edge_until = 0, math.inf, 0.0, 1.0, now
        elif self.safe:
            self.limit = self._between() or self.safe
        else:  # by no more: calls turned away at once leave room for more of them, so that their share says little
            self.limit = max(1, int(self.limit * FALL))

    def _up(self, level: Level, _now: float) -> None:
        if self.good is None or level.slots <= self.good.slots:
            self.good = level
            self._raise()
            return
        doublings = math.log2(level.slots / self.good.slots)
        gain = (level.rate / self.good.rate) ** (1 / doublings) - 1
        if gain < PLAIN and self.windows < 2:
            return
        if gain >= GAIN:
            self.below, self.good = self.good, level
            self._raise()
            return
        # Of what is much the same, twice as sure.
        self.good = self.good._replace(rate=(level.rate + self.good.rate) / 2)
        self._turn(level.rate)

    def _raise(self) -> None:
        assert self.good
        if self.good.slots < self.most:
            self.limit = min(self.most, 2 * self.good.slots)
        else:
            self._turn(self.good.rate)

    def _turn(self, top: float) -> None:
        """More slots than `good` has do not pay: `top` answers a second are what can be had."""
        assert self.good
        self.top = top
        if self.below:
            self._refine()
        else:
            self._lower()

    def _lower(self) -> None:
        """Look for the knee below what was measured so far."""
        assert self.good
        if self.good.slots == 1:
            self._settle(1)
            return
        self.state, self.limit = "down", self.good.slots // 2

    def _down(self, level: Level, _now: float) -> None:
        assert self.good
        costs = 1 + GAIN / 2  # less than a step up must bring: a slot too many is cheaper than one too few
        if self.good.rate > (1 + PLAIN) * level.rate or (self.windows > 1 and self.good.rate > costs * level.rate):
            self.below = level
            self._refine()
        elif self.windows > 1:
            self.good = level
            self._lower()

    def _refine(self) -> None:
        assert self.good and self.below
        knee = round(ROOM * self.top * self.below.latency)
        knee = max(self.below.slots, min(knee, math.ceil(1.3 * self.good.slots), self.most))
        if knee * NEAR < self.good.slots:
            self.state, self.limit = "check", knee
        else:
            self._settle(max(knee, self.good.slots))

    def _check(self, level: Level, _now: float) -> None:
        assert self.good
        self._settle(level.slots if level.rate >= SAME * self.good.rate else self.good.slots)

    def _settle(self, slots: int) -> None:
        self.state, self.limit, self.found = "watch", slots, None

    def _watch(self, level: Level, now: float) -> None:
        if self.found is None:
            self.found, self.windows = level, 0
            self.look_at = now + max(LOOK_AGAIN, 30 * level.latency)
        elif level.latency > INFLATED * self.found.latency:
            if self.windows > 1:
                needed = round(ROOM * level.rate * self.found.latency)
                self._begin(max(1, self.limit // 2, min(needed, self.limit)))
        else:
            self.windows = 0
            if now >= self.look_at:
                self._begin(self.limit)
                self._up(level, now)

    def _begin(self, slots: int) -> None:
        """Search from here."""
        self.state, self.limit, self.good, self.below = "up", slots, None, None

    def _between(self) -> int:
        """The level between the last that did and the last that did not pass; 0 where that is near enough."""
        middle = int(math.sqrt(self.safe * self.failed)) if self.failed < math.inf else 0
        return middle if self.failed > NEAR * self.safe and middle > self.safe else 0

    def _edge(self, _level: Level, now: float) -> None:
        if between := self._between():
            self.limit = between
            return
        if now < self.edge_until or self.limit >= self.most:
            return
        if self.failed < math.inf:
            self.edge, self.failed = self.failed, math.inf
        elif self.search and self.limit > 1.25 * self.edge:
            self.edge_wait = EDGE_WAIT
            self._begin(self.limit)
            return
        self.limit = min(self.most, self.limit + max(1, round(self.step * self.limit)))
        self.step *= 2
