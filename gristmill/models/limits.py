"""How many calls are in the air at once, and what becomes of one that fails.

`Limits` holds a number of slots per endpoint and model. Left to itself it looks for the knee: it starts at `START`, and
doubles while answers a second grow by `GAIN` a doubling; where they do not, it goes back to what their rate needs by
Little's law (calls in the air = rate x latency), and looks again from time to time. So a server that queues (and never
answers 429) is not flooded, and one that batches is filled. Rejections (429, 5xx) count by their share of a window:
up to `TOLERATED` they are retried and nothing else, for a provider drops some at any load; beyond it the number of
slots falls to what the server took at once, and comes back slowly. A call that is sent again waits without a slot, so
that fresh calls go on meanwhile; one that hangs lends its slot.

When nothing was answered for `DEAD_SECONDS` and `DEAD_CALLS` in a row failed, the endpoint counts as gone.

Not covered: what other processes send to the same endpoint; limits over several models of one key.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import sqrt

from gristmill.errors import CallFailed, GristmillError, Refused
from gristmill.models.protocol import Completion, Model, Request

START = 32
MOST = 1_024
"""Slots that are tried at most where nobody says how many."""

GAIN = 0.15
TOLERATED = 0.2
INFLATED = 2.5
"""Latency over that of the last good number of slots at which the number falls."""
LEAST_WINDOW = 48
"""Answers on which a window is judged, at least; else as many as there are slots."""
SETTLE = 2.5
"""Latencies that pass after a change before a window begins."""
AGREE = 2
"""Windows that must say the same before a search ends."""
LOOK_AGAIN = 30.0
"""Seconds after which a search is taken up again."""

ATTEMPTS = 8
REJECTED_ATTEMPTS = 64
"""Times a call is sent, and how often it may be turned away (429) before it counts as failed."""
AT_ONCE = 2
"""A connection that the server closed is worth as many new tries without a pause."""
BACKOFF, BACKOFF_MOST = 0.5, 30.0
"""Seconds: the pause after the n-th failure is random in 0.5 to 1 of BACKOFF x 2^n."""

PATIENCE, LEAST_PATIENCE = 4.0, 0.5
"""Usual latencies, and seconds, after which a call in the air may hang; its slot is lent to a fresh one."""
LENT = 0.2
"""The share of the slots that is lent at most."""

DEAD_SECONDS, DEAD_CALLS = 60.0, 32

Clock = Callable[[], float]

GOES_ON: ContextVar[bool] = ContextVar("goes_on", default=False)
"""Set where a call goes on with work that calls before it began: it gets the next slot, before fresh work. So a budget
that is spent leaves little that is half done."""


class Bucket:
    """At most `a_minute` units a minute, saved up for at most a second's worth (but one unit at least)."""

    def __init__(self, a_minute: float, clock: Clock):
        self.rate, self.clock = a_minute / 60, clock
        self.level, self.since = max(self.rate, 1.0), clock()

    def take(self, units: float) -> float:
        """Take units, and say how many seconds later they are there."""
        now = self.clock()
        self.level = min(max(self.rate, 1.0), self.level + (now - self.since) * self.rate) - units
        self.since = now
        return max(0.0, -self.level / self.rate)


@dataclass
class _Window:
    """What came back since a moment."""

    since: float
    answers: int = 0
    seconds: float = 0.0
    rejected: int = 0
    full: int = 0
    """Answers that came while all slots were in use."""


@dataclass
class Limits:
    """The slots of one endpoint and model, shared by all that call it. `concurrency` holds that many, and lowers them
    on rejections alone; None finds the number out. Use it on one event loop."""

    concurrency: int | None = None
    most: int = MOST
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    clock: Clock = time.monotonic
    limit: int = field(init=False)
    in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.limit = self.concurrency or min(START, self.most)
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.answered = self.rejected = self.retried = 0
        self.in_a_row = 0
        self.last_answer = self.clock()
        rates = (self.requests_per_minute, self.tokens_per_minute)
        self._buckets = [None if rate is None else Bucket(rate, self.clock) for rate in rates]
        self._window = _Window(self.clock())
        self._searching = self.concurrency is None
        self._no_gain = self._inflated = 0
        self._good: tuple[int, float, float] | None = None  # slots, answers a second, latency
        self._recent: deque[float] = deque()  # when the answers of the last latency came
        self._edge: int | None = None  # slots at which calls were turned away
        self._settled_at = self._lowered_at = self.clock()
        self.latency = 0.0
        self.lent = 0

    async def acquire(self) -> None:
        """A slot, in the order in which they are asked for; what goes on with begun work comes first."""
        if self.in_flight < self.limit and not self.waiting:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if GOES_ON.get():
            self.waiting.appendleft(turn)
        else:
            self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was given as the call was cancelled
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back, to whoever waits."""
        self.in_flight -= 1
        while self.waiting and self.in_flight < self.limit:
            turn = self.waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    async def paced(self) -> None:
        """Return when another request may leave by the rates a minute."""
        requests, tokens = self._buckets
        pause = max(requests.take(1) if requests else 0.0, tokens.take(0) if tokens else 0.0)
        if pause:
            await asyncio.sleep(pause)

    def answer(self, seconds: float, tokens: int = 0) -> None:
        """A call was answered after so many seconds."""
        self.answered += 1
        self.in_a_row, self.last_answer = 0, self.clock()
        if self._buckets[1]:
            self._buckets[1].take(tokens)
        window = self._window
        if self.last_answer - seconds >= window.since or not window.answers:
            self.latency = seconds if not self.latency else 0.95 * self.latency + 0.05 * seconds
        self._recent.append(self.last_answer)
        while self._recent[0] < self.last_answer - self.latency:
            self._recent.popleft()
        if self.last_answer - seconds < window.since:  # sent when things were otherwise
            return
        window.answers += 1
        window.seconds += seconds
        window.full += self.in_flight >= 0.9 * self.limit
        if window.answers + window.rejected >= max(LEAST_WINDOW, self.limit):
            self._judge()

    def failure(self, kind: str) -> None:
        """A call failed in a way that may be the server's load: `rate_limited`, `server`, `disconnected`, `timeout`."""
        self.in_a_row += 1
        if kind == "timeout":
            return
        self.rejected += 1
        window = self._window
        if self.clock() < window.since:
            return
        window.rejected += 1
        if window.answers + window.rejected >= max(LEAST_WINDOW, self.limit):
            self._judge()

    def is_dead(self) -> bool:
        """Whether the endpoint answers nothing any more."""
        return self.in_a_row >= DEAD_CALLS and self.clock() - self.last_answer >= DEAD_SECONDS

    def _judge(self) -> None:
        """A window is full: raise, keep or lower the number of slots."""
        window, now = self._window, self.clock()
        latency = window.seconds / max(window.answers, 1)
        rate = self.limit / max(latency, 1e-9)  # Little's law; answers that are counted come in waves
        if _too_many(window):
            # All that were in the air at once tell of one moment: once a latency is enough.
            if now - self._lowered_at >= self.latency:
                served = round(1.02 * len(self._recent))  # by Little's law, what the server takes at once
                self._lowered_at, self._edge = now, self.limit
                self._good, self._searching = None, False
                self._set(max(1, self.limit // 2, min(served, round(0.95 * self.limit))))
            self._begin(now)
            return
        if self._edge is not None or self.concurrency is not None:
            self._rise()
            self._begin(now)
            return
        if window.full < 0.5 * window.answers:  # too little work to learn from
            self._begin(now)
            return
        if self._searching:
            self._search(rate, latency, now)
        else:
            self._watch(rate, latency, now)

    def _rise(self) -> None:
        """Come back slowly to where calls were turned away, or to what was asked for; well beyond it, search again."""
        most = self.concurrency or self.most
        if self.limit < most:
            self._set(min(most, self.limit + max(1, self.limit // 20)))
        if self.concurrency is None and self._edge is not None and self.limit >= min(2 * self._edge, most):
            self._edge, self._searching = None, True

    def _search(self, rate: float, latency: float, now: float) -> None:
        """Double while it pays; go back to the knee when it no longer does."""
        if self._good is None or rate >= self._good[1] * (1 + GAIN):
            self._good, self._no_gain = (self.limit, rate, latency), 0
            if self.limit >= self.most:
                self._searching, self._settled_at = False, now
                self._begin(now)
                return
            self._set(min(self.most, 2 * self.limit))
            self._begin(now + SETTLE * latency)
            return
        self._no_gain += 1
        if self._no_gain >= AGREE:
            slots, _, before = self._good
            self._set(min(self.limit, max(slots, round(1.1 * rate * before))))
            self._searching, self._settled_at, self._no_gain = False, now, 0
            self._begin(now + SETTLE * latency)
            return
        self._begin(now)

    def _watch(self, rate: float, latency: float, now: float) -> None:
        """Settled: fall when the latency says that calls queue, and look again from time to time."""
        if self._good and latency > INFLATED * self._good[2]:
            self._inflated += 1
            if self._inflated >= AGREE:
                self._set(max(1, self.limit // 2, round(1.1 * rate * self._good[2])))
                self._inflated, self._settled_at = 0, now - LOOK_AGAIN + 5
                self._begin(now + SETTLE * latency)
                return
        else:
            self._inflated = 0
        if now - self._settled_at >= LOOK_AGAIN:
            self._good, self._searching = (self.limit, rate, latency), True
            self._set(min(self.most, 2 * self.limit))
            self._begin(now + SETTLE * latency)
            return
        self._begin(now)

    def _begin(self, since: float) -> None:
        self._window = _Window(since)

    def _set(self, limit: int) -> None:
        self.limit = limit
        self.in_flight += 1
        self.release()  # let those in for whom there is room now

    def told(self) -> dict[str, int]:
        """How things stand, as JSON."""
        return {
            "limit": self.limit,
            "in_flight": self.in_flight,
            "waiting": len(self.waiting),
            "answered": self.answered,
            "rejected": self.rejected,
            "retried": self.retried,
        }


class _Slot:
    """The slot of one call. A call that takes several times as long as others lends it to a fresh one."""

    def __init__(self, limits: Limits):
        self.limits, self.is_lent = limits, False
        patience = max(LEAST_PATIENCE, PATIENCE * limits.latency)
        self._timer = asyncio.get_running_loop().call_later(patience, self._lend)

    def _lend(self) -> None:
        if self.limits.lent < LENT * self.limits.limit:
            self.is_lent = True
            self.limits.lent += 1
            self.limits.release()

    def end(self) -> None:
        """The call has ended."""
        self._timer.cancel()
        if self.is_lent:
            self.limits.lent -= 1
        else:
            self.limits.release()


def _too_many(window: _Window) -> bool:
    """Whether more are turned away than is tolerated, by more than chance (three standard deviations) would have it."""
    expected = TOLERATED * (window.answers + window.rejected)
    return window.rejected > expected + 3 * sqrt(expected)


class Limited:
    """`inner` under `limits`; a call that failed is sent again where that may help."""

    def __init__(self, inner: Model, limits: Limits):
        self.inner, self.limits = inner, limits
        self.name, self.identity = inner.name, inner.identity
        self._over: GristmillError | None = None

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises CallFailed when attempts are spent, Refused when the endpoint is gone, and what makes
        every call fail: that is raised at once for all calls that come later."""
        failures = rejections = 0
        while True:
            try:
                return await self._attempt(request)
            except CallFailed as error:
                rejected = error.kind == "rate_limited"
                failures, rejections = failures + (not rejected), rejections + rejected
                if not error.again or failures >= ATTEMPTS or rejections >= REJECTED_ATTEMPTS:
                    raise _counted(error, failures + rejections) from error
                if self.limits.is_dead():
                    self._over = Refused(
                        f"model {self.name}: {self.limits.in_a_row:,} calls in a row failed, none answered for "
                        f"{DEAD_SECONDS:g} s (last: {error}); what was answered is kept: start again when it is back"
                    )
                    raise self._over from None
                again = error
            self.limits.retried += 1
            if again.kind == "disconnected" and failures <= AT_ONCE:
                continue
            pause = min(BACKOFF * 2 ** min(failures + rejections - 1, 10), BACKOFF_MOST) * random.uniform(0.5, 1)
            if again.after is not None:
                pause = again.after * random.uniform(1, 1.25)
            await asyncio.sleep(pause)

    async def _attempt(self, request: Request) -> Completion:
        limits = self.limits
        await limits.acquire()
        slot = _Slot(limits)
        try:
            if self._over:
                raise self._over
            await limits.paced()
            started = limits.clock()
            try:
                completion = await self.inner.complete(request)
            except CallFailed as error:
                if error.again:
                    limits.failure(error.kind)
                raise
            except GristmillError as error:
                self._over = error
                raise
            limits.answer(limits.clock() - started, (completion.tokens_in or 0) + (completion.tokens_out or 0))
            return completion
        finally:
            slot.end()

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()


def _counted(error: CallFailed, attempts: int) -> CallFailed:
    if attempts < 2:
        return error
    message = str(error).partition(": ")[2]
    return CallFailed(error.kind, f"{message} (after {attempts} attempts)", after=error.after)
