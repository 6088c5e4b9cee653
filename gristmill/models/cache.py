"""Never ask twice: a Model that looks into the calls ledger first, and writes down what it had to ask.

Equal requests in the air are one, in this process and in others that share the ledger: the first is sent, the others
wait for its answer. Requests that come in one turn of the event loop are looked up, and claimed, in one query.

Not covered: waiting for another process's equal request with a larger or smaller limit of length.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any

from gristmill.errors import CallFailed, GristmillError
from gristmill.models.answer import parse_answer
from gristmill.models.calls import Calls
from gristmill.models.protocol import Completion, Model, Request
from gristmill.models.request import Keys, cap, keys

_Found = tuple[bytes | None, bool]
"""A stored answer, or whether the request is ours to send."""

POLL_SECONDS = 0.2
"""Until a request that another process has in the air is looked up again."""


class Cached:
    """`inner`, whose answers are remembered in `calls`. Where it is not `counted`, somebody else counts hits and failed
    calls: requests that are looked up several times would count as often."""

    def __init__(self, inner: Model, calls: Calls, *, counted: bool = True):
        self.inner, self.calls, self.counted = inner, calls, counted
        self.name, self.identity = inner.name, inner.identity
        self._number = calls.model(inner.identity, inner.name)
        self._air: dict[bytes, asyncio.Future[Completion]] = {}
        self._asked: list[tuple[Keys, int | None, asyncio.Future[_Found]]] = []

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
        """The stored answer; None if the request is now claimed and to be sent."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._asked:
                loop.call_soon(self._look_up)
            found: asyncio.Future[_Found] = loop.create_future()
            self._asked.append((known, cap(request), found))
            try:
                raw, is_ours = await found
            except asyncio.CancelledError:
                if found.done() and not found.cancelled() and found.result()[1]:
                    self.calls.give_up(known.cut)
                raise
            if raw:
                self.calls.count(self._number).hits += self.counted
                return parse_answer(raw, hit=True)
            if is_ours:
                return None
            await asyncio.sleep(POLL_SECONDS)

    def _look_up(self) -> None:
        asked, self._asked = self._asked, []
        asked = [each for each in asked if not each[2].done()]  # those that were cancelled
        try:
            before = self.calls.version()
            answers = self._answers(asked)
            unknown = [known.cut for known, _, _ in asked if known.cut not in answers]
            ours = self.calls.claim(unknown) if unknown else set()
            late: dict[bytes, bytes] = {}
            if ours and self.calls.version() != before:  # what another gave up meanwhile was answered meanwhile
                late = self._answers([each for each in asked if each[0].cut in ours])
        except (GristmillError, sqlite3.Error) as error:
            for _, _, found in asked:
                found.set_exception(error)
            return
        for key in late:
            self.calls.give_up(key)
        for known, _, found in asked:
            found.set_result((answers.get(known.cut) or late.get(known.cut), known.cut in ours))

    def _answers(self, asked: Sequence[tuple[Keys, int | None, object]]) -> dict[bytes, bytes]:
        """The stored answers by `cut` key: the complete one where it fits the limit, else the one cut at this limit."""
        stored = self.calls.find([key for known, _, _ in asked for key in known])
        answers = {}
        for known, most, _ in asked:
            whole = stored.get(known.whole)
            if whole and (most is None or (whole.tokens_out or 0) <= most):
                answers[known.cut] = whole.raw
            elif known.cut in stored:
                answers[known.cut] = stored[known.cut].raw
        return answers

    async def _paid(self, known: Keys, request: Request) -> Completion:
        try:
            while self.calls.behind():
                await asyncio.sleep(0.01)
            completion = await self.inner.complete(request)
            key = known.whole if fits(completion, cap(request)) else known.cut
            self.calls.add(key, completion.raw, self._number, completion.tokens_in, completion.tokens_out)
            return completion
        except CallFailed:
            self.calls.count(self._number).failed += self.counted
            raise
        finally:
            self.calls.give_up(known.cut)


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
