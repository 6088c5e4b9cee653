"""Servers that take no time: an event loop whose clock jumps to the next timer, and models that answer on it.

`at_once` runs a coroutine on such a loop, so that the real limits, retries and pauses are tried against minutes of
traffic in seconds. A `Server` is a Model: calls take a (random) latency, are served some at once and then queue, or are
turned away, or slow each other down as in a batch; some fail whatever the load. Nothing here uses the wall clock.
"""

import asyncio
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gristmill.errors import CallFailed
from gristmill.models.limits import Limits
from gristmill.models.protocol import Completion, Request
from gristmill.models.retries import Limited

T = TypeVar("T")
REQUEST = Request([{"role": "user", "content": "hello"}])
ANSWER = Completion(tokens_in=100, tokens_out=100)


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: moves the clock on by what it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits for something that will not come")
        self.now += max(timeout, 0.0)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop of timers alone."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def now() -> float:
    """The time of the running loop: the clock for `Limits`."""
    return asyncio.get_running_loop().time()


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine on a loop of jumping time, which begins at 0."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)


def lasting(seconds: float, sigma: float = 0.0) -> Callable[[random.Random, float], float]:
    """Latencies of that mean, lognormal if `sigma` > 0."""
    middle = math.log(seconds) - sigma**2 / 2
    return lambda chance, _: chance.lognormvariate(middle, sigma) if sigma else seconds


@dataclass
class Server:
    """Answers after `latency(chance, busy)` seconds. `slots(now)` calls are served at once; others queue, or are
    turned away (429) after `says_no` seconds. `fails` are shares of calls that end otherwise whatever the load:
    `rate_limited`, `server`, `disconnected` after `says_no`, `hang` after `timeout`."""

    latency: Callable[[random.Random, float], float]
    slots: Callable[[float], float] = lambda _: math.inf
    turns_away: bool = False
    says_no: float = 0.01
    after: float | None = None
    fails: dict[str, float] = field(default_factory=dict)
    timeout: float = 10.0
    seed: int = 0
    name = identity = "server"

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.busy = self.sent = self.air = self.most_air = 0
        self.queue: deque[asyncio.Future[None]] = deque()

    async def complete(self, request: Request) -> Completion:  # noqa: ARG002
        self.sent += 1
        self.air += 1
        self.most_air = max(self.most_air, self.air)
        try:
            return await self._served()
        finally:
            self.air -= 1

    async def _served(self) -> Completion:
        await self._unlucky()
        if self.busy >= self.slots(now()):
            if self.turns_away:
                await asyncio.sleep(self.says_no)
                raise CallFailed("rate_limited", "slow down", again=True, after=self.after)
            turn = asyncio.get_running_loop().create_future()
            self.queue.append(turn)
            await turn
        else:
            self.busy += 1
        try:
            await asyncio.sleep(self.latency(self.chance, self.busy))
        finally:
            self.busy -= 1
            slots = self.slots(now())
            while self.queue and self.busy < slots:
                turn = self.queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self.busy += 1
        return ANSWER

    async def _unlucky(self) -> None:
        draw = self.chance.random()
        for kind, share in self.fails.items():
            if draw < share:
                await asyncio.sleep(self.timeout if kind == "hang" else self.says_no)
                kind = "timeout" if kind == "hang" else kind
                raise CallFailed(kind, "no", again=True, after=self.after if kind == "rate_limited" else None)
            draw -= share

    async def close(self) -> None:
        pass


def queueing(slots: float, seconds: float, sigma: float = 0.0, **more: Any) -> Server:
    """Serves `slots` calls at once; the others wait, and nobody is told."""
    return Server(lasting(seconds, sigma), lambda _: slots, **more)


def refusing(slots: float, seconds: float, sigma: float = 0.0, **more: Any) -> Server:
    """Serves `slots` calls at once, and answers 429 to the others."""
    return Server(lasting(seconds, sigma), lambda _: slots, turns_away=True, **more)


def batching(half: float, seconds: float, sigma: float = 0.0, **more: Any) -> Server:
    """Each call in the air slows all down: n take `seconds` x (1 + n / `half`)."""
    one = lasting(1.0, sigma)
    return Server(lambda chance, busy: seconds * (1 + busy / half) * one(chance, busy), **more)


@dataclass
class Trace:
    """What happened: how things stood at the end of each `step` seconds."""

    step: float
    limit: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def rate(self, since: float, until: float | None = None) -> float:
        """Answers a second between two moments."""
        first, last = int(since / self.step), len(self.answered) - 1 if until is None else int(until / self.step)
        return (self.answered[last] - self.answered[first]) / ((last - first) * self.step)

    def mean(self, name: str, since: float, until: float | None = None) -> float:
        """The mean of a series between two moments."""
        part = getattr(self, name)[int(since / self.step) : None if until is None else int(until / self.step)]
        return float(sum(part) / len(part))

    def rejected_share(self, since: float) -> float:
        """The share of calls that were turned away after a moment."""
        first = int(since / self.step)
        rejected = self.rejected[-1] - self.rejected[first]
        return rejected / max(1, rejected + self.answered[-1] - self.answered[first])

    def settled(self, rate: float, over: float) -> float:
        """The moment from which on each stretch of `over` seconds has at least that rate; inf if there is none."""
        wide = max(1, round(over / self.step))
        moment = math.inf
        for end in range(len(self.answered) - 1, wide - 1, -1):
            if (self.answered[end] - self.answered[end - wide]) / over < rate:
                break
            moment = (end - wide) * self.step
        return moment


async def traffic(
    server: Server, limits: Limits, seconds: float, *, workers: int = 2_048, step: float = 0.1, source: Any = None
) -> Trace:
    """`workers` callers that ask one thing after the other for so many seconds. `source()` gives the seconds before
    the next question of a caller."""
    model, trace = Limited(server, limits), Trace(step)

    async def caller() -> None:
        while True:
            if source and (pause := source()):
                await asyncio.sleep(pause)
            try:
                await model.complete(REQUEST)
            except CallFailed as error:
                trace.failed.append(error.kind)

    tasks = [asyncio.ensure_future(caller()) for _ in range(workers)]
    try:
        while now() < seconds - step / 2:
            await asyncio.sleep(step)
            told = limits.told()
            trace.limit.append(int(told["limit"]))
            trace.in_flight.append(server.air)
            trace.answered.append(int(told["answered"]))
            trace.rejected.append(int(told["rejected"]))
            if ended := next((task for task in tasks if task.done()), None):
                ended.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return trace


def tried(server: Server, seconds: float, *, workers: int = 2_048, source: Any = None, **limits: Any) -> Trace:
    """`traffic` through `Limits(**limits)`."""

    async def run() -> Trace:
        return await traffic(server, Limits(clock=now, **limits), seconds, workers=workers, source=source)

    return at_once(run())
