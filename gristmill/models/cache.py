"""Never ask twice: a Model that looks into the calls ledger first, and writes down what it had to ask.

Equal requests in the air are one: the first is sent, the others wait for its answer. Requests that come in one turn of
the event loop are looked up in one query.

Not covered: two processes that send equal requests at the same time.
"""

import asyncio
import sqlite3
from typing import Any

from gristmill.errors import CallFailed, GristmillError
from gristmill.models.answer import parse_answer
from gristmill.models.calls import Calls, Stored
from gristmill.models.protocol import Completion, Model, Request
from gristmill.models.request import Keys, cap, keys


class Cached:
    """`inner`, whose answers are remembered in `calls`. Where it is not `counted`, somebody else counts hits and failed
    calls: requests that are looked up several times would count as often."""

    def __init__(self, inner: Model, calls: Calls, *, counted: bool = True):
        self.inner, self.calls, self.counted = inner, calls, counted
        self.name, self.identity = inner.name, inner.identity
        self._number = calls.model(inner.identity, inner.name)
        self._air: dict[bytes, asyncio.Future[Completion]] = {}
        self._asked: list[tuple[Keys, asyncio.Future[dict[bytes, Stored]]]] = []

    async def complete(self, request: Request) -> Completion:
        """The answer, from the ledger where it is there. Raises what `inner` raises, and OutOfSpace."""
        known = keys(request, self.identity)
        while in_air := self._air.get(known.cut):
            try:
                return _again(await asyncio.shield(in_air))
            except asyncio.CancelledError:
                if not in_air.cancelled():  # it is this call that was cancelled, not the one it waits for
                    raise
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._air[known.cut] = answer
        try:
            completion = await self._found(known, request) or await self._paid(known, request)
            answer.set_result(completion)
            return completion
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except BaseException as error:
            answer.set_exception(error)
            answer.exception()  # seen: nobody else may be waiting
            raise
        finally:
            del self._air[known.cut]

    async def close(self) -> None:
        """Write down what is not yet written, and close `inner`."""
        await asyncio.to_thread(self.calls.flush)
        await self.inner.close()

    async def _found(self, known: Keys, request: Request) -> Completion | None:
        """The stored answer: the complete one where it fits the limit, else the one that was cut at this limit."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._look_up)
        found: asyncio.Future[dict[bytes, Stored]] = loop.create_future()
        self._asked.append((known, found))
        stored = await found
        whole, most = stored.get(known.whole), cap(request)
        if whole and (most is None or (whole.tokens_out or 0) <= most):
            raw = whole.raw
        elif known.cut in stored:
            raw = stored[known.cut].raw
        else:
            return None
        self.calls.count(self._number).hits += self.counted
        return parse_answer(raw, hit=True)

    def _look_up(self) -> None:
        asked, self._asked = self._asked, []
        try:
            stored = self.calls.find([key for each, _ in asked for key in each])
        except (GristmillError, sqlite3.Error) as error:
            for _, found in asked:
                if not found.done():
                    found.set_exception(error)
            return
        for _, found in asked:
            if not found.done():
                found.set_result(stored)

    async def _paid(self, known: Keys, request: Request) -> Completion:
        while self.calls.behind():
            await asyncio.sleep(0.01)
        try:
            completion = await self.inner.complete(request)
        except CallFailed:
            self.calls.count(self._number).failed += self.counted
            raise
        key = known.whole if fits(completion, cap(request)) else known.cut
        self.calls.add(key, completion.raw, self._number, completion.tokens_in, completion.tokens_out)
        return completion


def fits(completion: Completion, most: int | None) -> bool:
    """Whether an answer of at most so many tokens is known to be complete, and how long it is: of several choices only
    the sum is told."""
    length = completion.tokens_out
    is_cut = len(completion.choices) != 1 or completion.choices[0].finish_reason == "length"
    return not is_cut and length is not None and (most is None or length <= most)


def _again(completion: Completion) -> Completion:
    """The answer as those get it who waited for another's."""
    fields: dict[str, Any] = {name: getattr(completion, name) for name in completion.__slots__}
    return Completion(**{**fields, "hit": True})
