"""What becomes of a call that fails: sent again where that may help, beside fresh calls, until its attempts are spent.

A call waits without a slot of its `Limits`, for as long as Retry-After says or for `BACKOFF` and twice as long each
time, at random, so that calls that were turned away together do not come back together. What no call would survive (a
wrong key, an endpoint that is gone) ends all of them at once. While so many fail that the endpoint may be gone,
attempts do not run out: it is decided for all calls together (`Limits.is_dead`). A prompt that the server cannot take
may be a 500 as well as a server that is out; so where all are 500, a plain question decides, and if it is answered each
call ends with its own reason.
"""

import asyncio
import random

from gristmill.errors import CallFailed, GristmillError, Refused
from gristmill.models.limits import Limits
from gristmill.models.protocol import Completion, Model, Request

ATTEMPTS = 8
REJECTED_ATTEMPTS = 64
"""Times a call is sent, and how often it may be turned away (429) before it counts as failed."""
PLAIN = Request([{"role": "user", "content": "Hello"}], {"max_tokens": 1})
"""What an endpoint is asked before it counts as gone; the answer is not kept."""
AT_ONCE = 2
"""A connection that the server closed is worth as many new tries without a pause."""
BACKOFF, BACKOFF_MOST = 0.5, 30.0
"""Seconds: the pause after the n-th failure is random in 0.5 to 1 of BACKOFF x 2^(n-1)."""


class Limited:
    """`inner` under `limits`; a call that failed is sent again where that may help."""

    def __init__(self, inner: Model, limits: Limits):
        self.inner, self.limits = inner, limits
        self.name, self.identity = inner.name, inner.identity
        self._over: GristmillError | None = None
        self._sleeping: set[asyncio.Future[None]] = set()

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises CallFailed when attempts are spent, Refused when the endpoint is gone, and what makes
        every call fail: that is raised at once for all calls that wait or come later."""
        failures = rejections = 0
        while True:
            try:
                return await self._attempt(request)
            except CallFailed as error:
                if self._over:
                    raise self._over from None
                rejected = error.kind == "rate_limited"
                failures, rejections = failures + (not rejected), rejections + rejected
                if error.again and self.limits.is_dead(error.kind) and not await self._answers(error.kind):
                    raise self._end(self._gone(error)) from None
                is_spent = failures >= ATTEMPTS or rejections >= REJECTED_ATTEMPTS
                if not error.again or (is_spent and not self.limits.in_doubt(error.kind)):
                    raise _counted(error, failures + rejections) from error
                again = error
            self.limits.retried += 1
            if again.kind == "disconnected" and failures <= AT_ONCE:
                continue
            pause = min(BACKOFF * 2 ** min(failures + rejections - 1, 10), BACKOFF_MOST) * random.uniform(0.5, 1)
            if again.after is not None:
                pause = again.after * random.uniform(1, 1.25)
            await self._sleep(pause)

    async def _attempt(self, request: Request) -> Completion:
        ticket = await self.limits.acquire()
        kind, tokens, after = None, 0, None
        try:
            if self._over:
                raise self._over
            completion = await self.inner.complete(request)
            kind, tokens = "answer", (completion.tokens_in or 0) + (completion.tokens_out or 0)
            return completion
        except CallFailed as error:
            kind, after = error.kind, error.after
            raise
        except GristmillError as error:
            raise self._end(error) from None
        finally:
            self.limits.release(ticket, kind, tokens=tokens, after=after)

    async def _sleep(self, seconds: float) -> None:
        """Return after so many seconds, or when everything is over."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, turn)
        self._sleeping.add(turn)
        try:
            await turn
        finally:
            timer.cancel()
            self._sleeping.discard(turn)

    async def _answers(self, kind: str) -> bool:
        """Whether an endpoint whose every call fails with a 5xx answers a plain question."""
        if kind != "server":
            return False
        limits, since = self.limits, self.limits.failing_since
        limits.failing_since = limits.clock()  # one call asks; the others go on
        try:
            await self.inner.complete(PLAIN)
        except CallFailed:
            limits.failing_since = since
            return False
        limits.trust()
        return True

    def _gone(self, error: CallFailed) -> Refused:
        limits = self.limits
        seconds = limits.clock() - limits.failing_since
        return Refused(
            f"model {self.name}: {limits.in_a_row:,} calls in a row failed, none answered for {seconds:.0f} s "
            f"(last: {error}); what was answered is kept: start again when it is back"
        )

    def _end(self, error: GristmillError) -> GristmillError:
        """End every call with `error`, those included that wait to be sent again."""
        if self._over is None:
            self._over = error
            self.limits.in_a_row = 0  # who starts again has all the time there is
            for turn in self._sleeping:
                _wake(turn)
        return self._over

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _counted(error: CallFailed, attempts: int) -> CallFailed:
    if attempts < 2:
        return error
    message = str(error).partition(": ")[2]
    return CallFailed(error.kind, f"{message} (after {attempts} attempts)", after=error.after)
