"""How many calls to an endpoint and model are in the air at once, and when the next may be sent.

`Limits` holds a number of slots, given out in the order in which they are asked for: `concurrency`, or the number that
`knee.py` finds, from `START` up to `most`. Rejections (429, 5xx, a connection that was cut) count by their share of the
calls sent: up to `TOLERATED` nothing is done, for a provider drops some at any load; beyond it the number of slots
falls, and comes back slowly. Where one at once is turned away (429), nothing is sent for a while: what
Retry-After says, else `PAUSE` seconds and twice as long each time.

A call that is in the air for `PATIENCE` times the usual latency lends its slot until it ends: a server that forgets
some does not stop the others. No more slots are lent than there are, so at most twice `limit` calls are in the air.

When none was answered for `DEAD_SECONDS` while `DEAD_CALLS` failed, the endpoint counts as gone.

Not covered: what other processes send to the same endpoint; limits over several models of one key.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import sqrt

from gristmill.models.knee import Knee, Level

START = 32
MOST = 1_024
"""Slots that are tried at most where nobody says how many."""

TOLERATED = 0.1
CERTAIN = 4.0
"""Standard deviations (of a count of chance) beyond what is tolerated at which rejections count as too many."""
REJECTIONS = {"rate_limited", "server", "disconnected"}
"""Failures that may be the server's load. A timeout tells of it too late: the latency rose long before."""
PATIENCE, LEAST_PATIENCE = 4.0, 0.5
"""Usual latencies, and seconds at least; until the first answer there is no usual one, and nothing is lent."""
PAUSE, PAUSE_MOST = 1.0, 60.0

TICK = 0.001
"""Seconds that a timer lasts at least."""

DEAD_SECONDS, DEAD_CALLS, DEAD_TIMEOUTS = 60.0, 32, 4
BUSY_SECONDS = 300.0
"""Instead of DEAD_SECONDS while the answers are 429: the server is there, and a quota may take minutes to come back."""

Clock = Callable[[], float]

GOES_ON: ContextVar[bool] = ContextVar("goes_on", default=False)
"""Set where a call goes on with work that calls before it began: it gets the next slot, before fresh work. So a budget
that is spent leaves little that is half done."""


class Bucket:
    """At most `a_minute` units a minute, saved up for at most a second's worth (but one unit at least)."""

    def __init__(self, a_minute: float, now: float):
        self.rate = a_minute / 60
        self.most = self.level = max(self.rate, 1.0)
        self.since = now

    def wait(self, units: float, now: float) -> float:
        """Seconds until so many units are there, or as many as can be saved up."""
        self.level = min(self.most, self.level + (now - self.since) * self.rate)
        self.since = now
        return max(0.0, (min(units, self.most) - self.level - 1e-6) / self.rate)

    def take(self, units: float) -> None:
        """Take units, on credit if need be; give back where they are negative."""
        self.level -= units


@dataclass
class _Window:
    """What came of a number of slots."""

    since: int
    """The last ticket before it: calls with later ones were sent with that number."""
    sent: float = 0.0
    rejected: float = 0.0
    settled_at: float | None = None
    """When answers are counted from; None while there are more calls in the air than slots."""
    begun: float | None = None
    """When the first answer came that is not counted any more."""
    answers: int = 0
    seconds: float = 0.0
    air: int = 0
    """Sum, over the answers, of the calls that were in the air."""

    def go_on(self, now: float) -> None:
        """Count answers anew, with the same number of slots."""
        self.settled_at = self.begun = now
        self.answers, self.seconds, self.air = 0, 0.0, 0


@dataclass
class Limits:
    """The slots of one endpoint and model, shared by all that call it, on one event loop.

    `concurrency` holds that many and lowers them on rejections alone; None finds the number out, up to `most`. The
    rates a minute are those that a provider grants; a call's tokens are counted when it ends, and until then expected
    to be as many as calls took so far.
    """

    concurrency: int | None = None
    most: int = MOST
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    clock: Clock = time.monotonic
    in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        now = self.clock()
        most = self.concurrency or self.most
        self.knee = Knee(self.concurrency or min(START, most), most, search=self.concurrency is None)
        self.answered = self.rejected = self.retried = 0
        self.paused = 0.0
        self.in_a_row, self.failing_since, self.trusted_until = 0, now, now
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._air: OrderedDict[int, float] = OrderedDict()  # when the calls in the air were sent, the oldest first
        self._lent: dict[int, float] = {}  # the same of those whose slots are lent
        self._ticket = 0
        self._requests = Bucket(self.requests_per_minute, now) if self.requests_per_minute else None
        self._tokens = Bucket(self.tokens_per_minute, now) if self.tokens_per_minute else None
        self._expected = 0.0  # tokens of a call
        self._latency = 0.0  # usual seconds of an answer
        self._window = _Window(0)
        self._pauses = 0  # since the last answer
        self._paused_until = now
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """Slots there are now."""
        return self.knee.limit

    async def acquire(self) -> int:
        """Wait for a slot, in the order in which they are asked for; what goes on with begun work comes first. The
        ticket to give back with `release`."""
        if not self._waiting and self._has_room() and not self._delay():
            return self._take()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if GOES_ON.get():
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was given as the call was cancelled
                self.release(turn.result())
            raise

    def release(self, ticket: int, kind: str | None = None, *, tokens: int = 0, after: float | None = None) -> None:
        """Give a slot back, to whoever waits.

        `kind` is `answer`, the kind of a failure, or None for a call that was cancelled; `tokens` what an answer took,
        `after` the seconds that the server wants to be left alone.
        """
        now = self.clock()
        self.in_flight -= 1
        sent = self._air.pop(ticket, None)
        if sent is None:
            sent = self._lent.pop(ticket)
        if self._tokens:
            self._tokens.take(tokens - self._expected)
        if kind == "answer":
            self._answered(now - sent, tokens, now)
        elif kind in REJECTIONS or kind == "timeout":
            self.rejected += 1
            self.failing_since = self.failing_since if self.in_a_row else now
            self.in_a_row += 1
            if kind != "timeout":
                self._rejected(ticket, after, now, pause=kind == "rate_limited" or after is not None)
        self._admit()

    def in_doubt(self, kind: str) -> bool:
        """Whether so many calls failed in a row, none answered, that the endpoint may be gone; `kind` is that of the
        last failure."""
        least = DEAD_TIMEOUTS if kind == "timeout" else DEAD_CALLS
        return self.in_a_row >= least and self.clock() >= self.trusted_until

    def is_dead(self, kind: str) -> bool:
        """Whether the endpoint answers nothing any more."""
        seconds = BUSY_SECONDS if kind == "rate_limited" else DEAD_SECONDS
        return self.in_doubt(kind) and self.clock() - self.failing_since >= seconds

    def trust(self) -> None:
        """The endpoint was seen to answer: calls that fail for a while from now do so by themselves."""
        self.in_a_row, self.trusted_until = 0, self.clock() + DEAD_SECONDS

    def told(self) -> dict[str, int | float]:
        """How things stand, as JSON: slots, calls in the air (of which hang), calls that wait for a slot, answers,
        calls that were turned away or timed out, calls sent again, seconds in which nothing was sent."""
        return {
            "limit": self.limit,
            "in_flight": self.in_flight,
            "hanging": len(self._lent),
            "waiting": len(self._waiting),
            "answered": self.answered,
            "rejected": self.rejected,
            "retried": self.retried,
            "seconds_paused": round(self.paused, 1),
        }

    def _has_room(self) -> bool:
        return len(self._air) < self.knee.limit and self.in_flight < 2 * self.knee.limit

    def _delay(self) -> float:
        """Seconds until the next call may be sent."""
        now = self.clock()
        delay = self._paused_until - now
        if self._requests:
            delay = max(delay, self._requests.wait(1, now))
        if self._tokens:
            delay = max(delay, self._tokens.wait(self._expected, now))
        return max(0.0, delay)

    def _take(self) -> int:
        self._ticket += 1
        self.in_flight += 1
        self._air[self._ticket] = self.clock()
        window = self._window
        window.sent += 1
        if window.sent > 4 * max(256, self.knee.limit):  # of what is long ago, remember half
            window.sent, window.rejected = window.sent / 2, window.rejected / 2
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(self._expected)
        return self._ticket

    def _admit(self) -> None:
        """Let in those that wait while there is room; look again when there may be some."""
        while self._waiting:
            pause = self._delay() if self._has_room() else self._lend()
            if pause:
                if not self._timer:
                    self._timer = asyncio.get_running_loop().call_later(max(pause, TICK), self._look_again)
                return
            if not self._has_room():
                return
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._take())

    def _look_again(self) -> None:
        self._timer = None
        self._admit()

    def _lend(self) -> float:
        """Lend the slots of calls that have been in the air for too long. The seconds until the next one has been, 0
        where there is room now or nobody knows."""
        patience = max(LEAST_PATIENCE, PATIENCE * self._latency)
        now = self.clock()
        while self._latency and self._air and self.in_flight < 2 * self.knee.limit:
            ticket = next(iter(self._air))
            left = self._air[ticket] + patience - now
            if left > 0:
                return 0.0 if self._has_room() else left
            self._lent[ticket] = self._air.pop(ticket)
        return 0.0

    def _answered(self, seconds: float, tokens: int, now: float) -> None:
        self.answered += 1
        self.in_a_row = self._pauses = 0
        self._latency += (seconds - self._latency) / min(self.answered, 50)
        self._expected += (tokens - self._expected) / min(self.answered, 50)
        window, air = self._window, len(self._air)
        if window.settled_at is None and air <= self.knee.limit:
            window.settled_at = now + self.knee.settle
        if window.settled_at is None or now < window.settled_at:
            return
        if window.begun is None:
            window.begun = now
            return
        window.answers += 1
        window.seconds += seconds
        window.air += air + 1
        if window.answers >= self.knee.window():
            self._measured(now)

    def _measured(self, now: float) -> None:
        """Enough answers have come to tell what the number of slots is worth."""
        window, limit = self._window, self.knee.limit
        latency, air = max(window.seconds / window.answers, 1e-6), window.air / window.answers
        if air < 0.9 * limit and self.knee.state != "edge":  # too little work to learn from
            window.go_on(now)
            return
        assert window.begun is not None
        rate = window.answers / max(now - window.begun, 1e-6)
        if self.knee.state == "up":  # waves, and calls that have not felt the change yet, raise one of the two each
            rate = min(rate, air / latency)
        else:  # by Little's law: calls that waited in a longer queue still come in
            latency = air / rate
        if self.knee.measured(Level(limit, rate, latency), now):
            self._window = _Window(self._ticket)
        elif self.knee.state not in ("up", "down"):
            window.go_on(now)

    def _rejected(self, ticket: int, after: float | None, now: float, *, pause: bool) -> None:
        window = self._window
        if ticket <= window.since:  # sent when things were otherwise
            return
        window.rejected += 1
        tolerated = TOLERATED * window.sent
        if window.rejected > tolerated + CERTAIN * sqrt(tolerated):
            if pause and self.knee.limit == 1:
                self._pause(now, after)
            self.knee.turned_away(now)
            self._window = _Window(self._ticket)

    def _pause(self, now: float, after: float | None) -> None:
        """Send nothing for a while."""
        seconds = min(PAUSE_MOST, PAUSE * 2 ** min(self._pauses, 10) if after is None else after)
        self._pauses += 1
        self.paused += max(0.0, now + seconds - max(now, self._paused_until))
        self._paused_until = max(self._paused_until, now + seconds)
