"""A sandbox for programs that nobody has read: workers, their deadline, and which isolation is in force.

`Sandbox.run` gives each job to a worker, a process that never runs a program itself but forks a run for it, behind new
user, process, mount, network and IPC namespaces (`sandboxed/`). This side holds the deadline: a worker that does not
answer is killed with all that it started, and another takes its place. Threads may share a sandbox.

Not covered: machines whose kernel can be broken from an ordinary process; programs that need packages.
"""

import atexit
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from gristmill.errors import UsageError
from gristmill.score import bubblewrap
from gristmill.score.sandboxed.channel import Channel, Closed, Late
from gristmill.score.sandboxed.runner import Limits

NAMESPACES, NONE = "namespaces", "none"
BUBBLEWRAP = bubblewrap.NAME

START_SECONDS = 30.0
STRONG = (NAMESPACES, BUBBLEWRAP)
"""What counts as a sandbox, in the order in which it is tried."""

GRACE_SECONDS = 1.0
"""What a worker has beyond the deadline, which it keeps itself, before it is killed."""


class Refused(Exception):
    """The kernel does not allow this isolation."""


class Worker:
    """A worker process. Raises Refused where its isolation cannot be had.

    Under bubblewrap it is two, and for one job only (`once`).
    """

    def __init__(self, mode: str, limits: Limits):
        ours, theirs = socket.socketpair()
        self.once = mode == BUBBLEWRAP
        self._place = tempfile.mkdtemp(prefix="gristmill-weak-") if mode == NONE else ""
        self._life: int | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channel = Channel(ours, time.monotonic() + START_SECONDS)
        try:
            with theirs:
                self._processes += bubblewrap.start(limits, theirs) if self.once else self._start(limits, theirs)
            word, *said = self._channel.receive()
        except (Closed, Late, OSError) as error:
            self.close()
            raise Refused(str(error) or f"it did not start: {type(error).__name__}") from error
        if word != "ready":
            self.close()
            raise Refused(said[0])

    def _start(self, limits: Limits, jobs: socket.socket) -> list[subprocess.Popen[bytes]]:
        life, self._life = os.pipe()
        try:
            arguments = [json.dumps(limits), str(jobs.fileno()), str(life), self._place]
            return [bubblewrap.started(bubblewrap.program("zygote", arguments), (jobs.fileno(), life))]
        finally:
            os.close(life)

    def ask(self, job: Mapping[str, Any]) -> tuple[str, str]:
        """The verdict on a job. Raises Closed and Late; the worker is of no more use then."""
        self._channel.deadline = time.monotonic() + job["deadline"] + GRACE_SECONDS
        self._channel.send(job)
        word, why = self._channel.receive()
        return str(word), str(why).encode("utf-8", "replace").decode()  # a program may say what is no text

    def close(self) -> None:
        """End it and all that it started."""
        self._channel.end.close()
        if self._life is not None:
            os.close(self._life)  # which it watches, and takes away what it made before it ends
            self._life = None
        for process in self._processes:
            try:
                process.wait(0 if self.once else 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._place:  # the keeper takes it away, unless it was killed
            shutil.rmtree(self._place, ignore_errors=True)


class Sandbox:
    """Up to `workers` workers with these limits. `isolation` says what is in force.

    Raises UsageError where there is no isolation that is among `modes`, tried in their order.
    """

    def __init__(self, limits: Limits, workers: int, modes: Sequence[str] = STRONG):
        self.limits = limits
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(workers - 1):
            self._idle.put(None)
        # bubblewrap dies with the thread that started it, and these last
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
        self.isolation, first = self._threads.submit(_first, limits, modes).result()
        self._idle.put(first)
        atexit.register(self.close)

    def run(self, jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        """A verdict and its evidence for each job."""
        return list(self._threads.map(self._run, jobs))

    def _run(self, job: Mapping[str, Any]) -> tuple[str, str]:
        for _ in range(2):  # a worker may have been ended from outside: that is no property of the job
            worker = self._idle.get()
            try:
                if worker is None:
                    worker = Worker(self.isolation, self.limits)
                answer = worker.ask(job)
            except Late:
                worker = _closed(worker)
                return "timeout", f"no verdict within {job['deadline']:g} s"
            except ValueError as error:  # nothing was sent
                return "unparseable_gold", f"the program and its tests are {error}"
            except (Closed, Refused):
                worker = _closed(worker)
            else:
                worker = _closed(worker) if worker.once else worker
                return answer
            finally:
                self._idle.put(worker)
        return "crash", "the sandbox ended without a verdict"

    def close(self) -> None:
        """End the workers that are idle."""
        with suppress(queue.Empty):
            while True:
                _closed(self._idle.get_nowait())


def _closed(worker: Worker | None) -> Worker | None:
    """Close a worker, if there is one. None: its place is free for another."""
    if worker is not None:
        worker.close()
    return None


def _first(limits: Limits, modes: Sequence[str]) -> tuple[str, Worker]:
    refused = {}
    for mode in modes:
        try:
            return mode, Worker(mode, limits)
        except Refused as error:
            refused[mode] = str(error)
    said = "; ".join(f"{mode}: {why}" for mode, why in refused.items())
    raise UsageError(
        f"score code: no sandbox here ({said}); allow namespaces to unprivileged users, install bubblewrap, "
        "or run programs unprotected with --allow-weak-sandbox"
    )


_making = threading.Lock()


def shared(limits: Limits, workers: int, modes: Sequence[str]) -> Sandbox:
    """The sandbox of this process with these settings."""
    with _making:
        return _made(os.getpid(), limits, workers, tuple(modes))


@cache
def _made(_: int, limits: Limits, workers: int, modes: tuple[str, ...]) -> Sandbox:
    return Sandbox(limits, workers, modes)
