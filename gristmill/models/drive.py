"""Many calls at once, from ordinary code: a background event loop, and answers in the order of the requests.

`completions` is for work that is one call; `finished` for work that needs several, one after the other.

One event loop per process does the waiting, in a thread of its own, so that scripts, notebooks and trainers can all
call models. `completions` hands it requests in small groups, keeps as many unfinished as the models can use, and
gives back answers in order. A slow call does not hold the others up: up to `WAITING` finished ones wait in memory.

Not covered: how many calls are in the air at once (`limits.py`), what they cost (`budget.py`).
"""

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from threading import Condition, Lock, Thread
from typing import Any, TypeVar

from gristmill.errors import CallFailed, GristmillError
from gristmill.models.protocol import Completion, Model, Request

T = TypeVar("T")
Job = tuple[Model, Request]
Work = Callable[[], Coroutine[Any, Any, T]]

GROUP = 64
"""Pieces of work handed to the loop at once."""

UNFINISHED = 4_096
"""Pieces of work that are with the loop: calls in the air, waiting for their turn or to be asked again."""

WAITING = 65_536
"""Answers that may wait for an earlier one; some 2 KB each."""

_loop: asyncio.AbstractEventLoop | None = None
_lock = Lock()


def background() -> asyncio.AbstractEventLoop:
    """The event loop of this process, started when it is first needed."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            Thread(target=_loop.run_forever, name="model calls", daemon=True).start()
    return _loop


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine on the background loop; an interrupt cancels it. Not to be called on that loop."""
    future = asyncio.run_coroutine_threadsafe(work, background())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _Group:
    """Work handed over together, and what became of each piece: a result, or an error that ends the stream."""

    def __init__(self, size: int):
        self.results: list[Any] = [None] * size
        self.missing = size


class _Stream:
    """The state that the consumer's thread and the loop share, under `changed`."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.groups: deque[_Group] = deque()
        self.unfinished = self.waiting = 0
        self.ended = False  # an error came that no later call survives
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, works: list[Work[Any]], group: _Group) -> None:
        """On the loop: begin the work of a group."""
        loop = asyncio.get_running_loop()
        for place, work in enumerate(works):
            task = loop.create_task(self._do(work, group, place))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _do(self, work: Work[Any], group: _Group, place: int) -> None:
        try:
            result = await work()
        except BaseException as error:  # noqa: BLE001  raised again by the consumer, in its thread
            result = error
        with self.changed:
            group.results[place] = result
            group.missing -= 1
            self.unfinished -= 1
            self.waiting += 1
            self.ended |= isinstance(result, BaseException)
            if self.ended or self.unfinished % GROUP == 0 or (not group.missing and group is self.groups[0]):
                self.changed.notify()

    async def stop(self) -> None:
        """On the loop: cancel what is not finished, and return when it has ended."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the collector of cycles look at thousands of calls in the air less often: they are alive, all of them, and
    looking at them again and again takes a third of the time of a call."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def answer(model: Model, request: Request) -> Completion:
    """The answer to a request; a call that failed gives a completion with an `error`."""
    try:
        return await model.complete(request)
    except CallFailed as error:
        return Completion(error=str(error))


def completions(jobs: Iterable[Job], *, unfinished: int = UNFINISHED) -> Generator[Completion, None, None]:
    """The `answer` to each request, in their order. `jobs` and errors: as `finished` has it."""
    return finished((partial(answer, *job) for job in jobs), unfinished=unfinished)


def finished(works: Iterable[Work[T]], *, unfinished: int = UNFINISHED) -> Generator[T, None, None]:
    """The result of each piece of work, in their order; a piece is a function that begins it on the loop.

    `works` is read as far ahead as calls can be made. Raises, where the first piece without a result would be, what
    ended the stream: UsageError, Refused, OutOfSpace; calls in the air are answered first. What `works` raises comes
    after the results of all that it gave before. Closing the iterator early cancels what is in the air.
    """
    with _rare_collections():
        yield from _finished(works, unfinished)


def _finished(works: Iterable[Work[T]], unfinished: int) -> Iterator[T]:
    loop, stream = background(), _Stream()
    source, over = iter(works), False
    failure: Exception | None = None
    try:
        while True:
            with stream.changed:
                while not _may_go_on(stream, over, unfinished):
                    stream.changed.wait()
                more = not (over or stream.ended) and stream.unfinished <= unfinished - GROUP
                more = more and stream.waiting <= WAITING
                head = stream.groups[0] if stream.groups and not stream.groups[0].missing else None
            if more:
                some, failure = _taken(source)
                over = len(some) < GROUP
                if some:
                    group = _Group(len(some))
                    with stream.changed:
                        stream.groups.append(group)
                        stream.unfinished += len(some)
                    loop.call_soon_threadsafe(stream.start, some, group)
            if head:
                with stream.changed:
                    stream.groups.popleft()
                    stream.waiting -= len(head.results)
                yield from _checked(head)
            if (over or stream.ended) and not stream.groups:
                break
    finally:
        wait(stream.stop())
    if failure:
        raise failure


def _taken(source: Iterator[Work[T]]) -> tuple[list[Work[T]], Exception | None]:
    """The next group of works: fewer than a group at the end, or before what the source raised."""
    works: list[Work[T]] = []
    try:
        works.extend(islice(source, GROUP))  # keeps what came before an error
    except Exception as error:  # noqa: BLE001  raised again when those before it are answered
        return works, error
    return works, None


def _may_go_on(stream: _Stream, over: bool, unfinished: int) -> bool:
    """Whether there is something for the consumer to do."""
    if not stream.groups or not stream.groups[0].missing:
        return True
    return not (over or stream.ended) and stream.unfinished <= unfinished - GROUP and stream.waiting <= WAITING


def _checked(group: _Group) -> Iterator[Any]:
    """The results of a group, up to the error that ended the stream."""
    for result in group.results:
        if isinstance(result, asyncio.CancelledError):
            raise GristmillError("a call was cancelled")
        if isinstance(result, BaseException):
            raise result
        yield result
