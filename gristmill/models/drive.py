"""Many calls at once, from ordinary code: a background event loop, and answers in the order of the requests.

One event loop per process does the waiting, in a thread of its own, so that scripts, notebooks and trainers can all
call models. `completions` hands it requests in small groups, keeps as many unfinished as the models can use, and
gives back answers in order. A slow call does not hold the others up: up to `WAITING` finished ones wait in memory.

Not covered: how many calls are in the air at once (`limits.py`), what they cost (`budget.py`).
"""

import asyncio
import gc
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from threading import Condition, Lock, Thread
from typing import Any, TypeVar

from gristmill.errors import CallFailed, GristmillError
from gristmill.models.protocol import Completion, Model, Request

T = TypeVar("T")
Job = tuple[Model, Request]

GROUP = 64
"""Requests handed to the loop at once."""

UNFINISHED = 4_096
"""Requests that are with the loop: in the air, waiting for their turn or to be asked again."""

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
    """Requests handed over together, and what became of each: an answer, or an error that ends the stream."""

    def __init__(self, size: int):
        self.results: list[Completion | BaseException | None] = [None] * size
        self.missing = size


class _Stream:
    """The state that the consumer's thread and the loop share, under `changed`."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.groups: deque[_Group] = deque()
        self.unfinished = self.waiting = 0
        self.ended = False  # an error came that no later call survives
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, jobs: list[Job], group: _Group) -> None:
        """On the loop: begin the calls of a group."""
        loop = asyncio.get_running_loop()
        for place, job in enumerate(jobs):
            task = loop.create_task(self._call(job, group, place))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _call(self, job: Job, group: _Group, place: int) -> None:
        model, request = job
        result: Completion | BaseException
        try:
            result = await model.complete(request)
        except CallFailed as error:
            result = Completion(error=str(error))
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


def completions(jobs: Iterable[Job], *, unfinished: int = UNFINISHED) -> Iterator[Completion]:
    """The answer to each request, in their order; a call that failed gives a completion with an `error`.

    `jobs` is read as far ahead as calls can be made. Raises, where the first call that has no answer would be, what
    ended the stream: UsageError, Refused, OutOfSpace; calls in the air are answered first. What `jobs` raises comes
    after the answers to all that it gave before. Closing the iterator early cancels what is in the air.
    """
    with _rare_collections():
        yield from _completions(jobs, unfinished)


def _completions(jobs: Iterable[Job], unfinished: int) -> Iterator[Completion]:
    loop, stream = background(), _Stream()
    source, over = iter(jobs), False
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
                group_jobs, failure = _taken(source)
                over = len(group_jobs) < GROUP
                if group_jobs:
                    group = _Group(len(group_jobs))
                    with stream.changed:
                        stream.groups.append(group)
                        stream.unfinished += len(group_jobs)
                    loop.call_soon_threadsafe(stream.start, group_jobs, group)
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


def _taken(source: Iterator[Job]) -> tuple[list[Job], Exception | None]:
    """The next group of jobs: fewer than a group at the end, or before what the source raised."""
    jobs: list[Job] = []
    try:
        jobs.extend(islice(source, GROUP))  # keeps what came before an error
    except Exception as error:  # noqa: BLE001  raised again when those before it are answered
        return jobs, error
    return jobs, None


def _may_go_on(stream: _Stream, over: bool, unfinished: int) -> bool:
    """Whether there is something for the consumer to do."""
    if not stream.groups or not stream.groups[0].missing:
        return True
    return not (over or stream.ended) and stream.unfinished <= unfinished - GROUP and stream.waiting <= WAITING


def _checked(group: _Group) -> Iterator[Completion]:
    """The answers of a group, up to the error that ended the stream."""
    for result in group.results:
        if isinstance(result, Completion):
            yield result
        elif isinstance(result, asyncio.CancelledError):
            raise GristmillError("a call was cancelled")
        elif result is not None:
            raise result
