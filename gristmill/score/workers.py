"""Worker processes for work that may never end: a deadline an item, kept by SIGKILL.

`outcomes("module:function", items)` gives one `Outcome` an item, in order: what the function returned, `timeout`, or
`crash`. The function is named and not passed, so that what it imports is imported by the workers alone.
The parent holds the clock, since a power of big integers runs in C and hears no signal handler; a worker that is late
is killed and another takes its place, while the others go on. Any number of threads may ask at once; from asyncio,
`await asyncio.to_thread(outcomes, …)`.

Workers are started by exec and never forked, on first use, and do not import the caller's `__main__`. They live until
the interpreter ends. If it is killed, an idle worker sees its pipe end, and one at work has an alarm set in the kernel.
What a worker sends back is JSON, so that nothing it says is ever unpickled.

Not covered: code that means harm (a worker may read files and the network), and work of more than one machine.
"""

import atexit
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

DEADLINE = 5.0
"""Seconds an item may take."""
START_SECONDS = 120.0
"""Seconds a worker may take to start and to import the function's module, which no item is charged for."""
MEMORY_BYTES = 4 << 30
"""Address space of a worker (Linux); an item that needs more is a crash."""
ITEMS_A_WORKER = 5_000
"""Items after which a worker is replaced, so that caches of the libraries it uses stay bounded."""
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONHASHSEED")
"""What a worker sees of the environment: no key of an endpoint."""

_MAIN = (
    "import json, sys; fd, sys.path[:] = int(sys.argv[1]), json.loads(sys.argv[2]); "
    "from gristmill.score.workers import serve; serve(fd)"
)


class Outcome(NamedTuple):
    """What became of an item."""

    kind: str
    """`done`, `timeout` or `crash`."""
    value: Any = None
    """What the function returned, as JSON has it (tuples are lists); of a timeout or crash, why, in words."""


class Workers:
    """At most `count` worker processes (default: the cores this process may use). Threads may share it."""

    def __init__(self, count: int | None = None):
        self._threads = ThreadPoolExecutor(count or _cores(), thread_name_prefix="gristmill worker")
        self._idle: list[_Worker] = []
        self._alive: set[_Worker] = set()
        self._closed = False

    def outcomes(self, function: str, items: Sequence[Any], *, deadline: float = DEADLINE) -> list[Outcome]:
        """What the function `module:name` makes of each item, in order; `deadline` is in seconds of an item's own time.

        The items must be picklable, the results JSON values. An item that raises is a `crash`.
        """
        futures = [self._threads.submit(self._outcome, function, pickle.dumps(item), deadline) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()  # so that an interrupt need not wait for all that was asked
            raise

    def close(self) -> None:
        """End the workers; what is not begun is cancelled."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        while self._idle:
            self._idle.pop().end()

    def forget(self) -> None:
        """In a forked child: let go of the parent's workers without a word to them."""
        for worker in self._alive:
            worker.pipe.close()
            worker.process.returncode = 0  # not this process's to wait for

    def _outcome(self, function: str, item: bytes, deadline: float) -> Outcome:
        worker = self._taken()
        outcome = worker.ask(function, item, deadline)
        if worker.is_alive and worker.served < ITEMS_A_WORKER and not self._closed:
            self._idle.append(worker)
        else:
            self._end(worker)
        return outcome

    def _taken(self) -> "_Worker":
        """An idle worker, or a new one. One that died while it was idle (the system was out of memory, somebody tidied
        up) died of no item."""
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                self._end(worker)
        worker = _Worker()
        self._alive.add(worker)
        return worker

    def _end(self, worker: "_Worker") -> None:
        worker.end()
        self._alive.discard(worker)


class _Worker:
    """One worker process and the parent's end of its pipe. One thread at a time."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        self.served = 0
        self.is_alive = True
        self._function = ""
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=kept,
            )

    def ask(self, function: str, item: bytes, deadline: float) -> Outcome:
        """Put one item to the worker; it is dead after a timeout, or when it died of the item."""
        try:
            if function != self._function:
                self.pipe.send_bytes(json.dumps({"function": function}).encode())
                if not self.pipe.poll(START_SECONDS):
                    return self._died("crash", f"the worker was not ready in {START_SECONDS:g} s")
                if problem := json.loads(self.pipe.recv_bytes()):
                    self._function = ""  # the worker has let go of the one before
                    return Outcome("crash", f"the worker cannot load the function: {problem}")
                self._function = function
            self.served += 1
            self.pipe.send_bytes(json.dumps({"deadline": deadline}).encode())
            self.pipe.send_bytes(item)
            if not self.pipe.poll(deadline):
                return self._died("timeout", f"no verdict in {deadline:g} s")
            return Outcome(*json.loads(self.pipe.recv_bytes()))
        except (EOFError, OSError, ValueError):  # the pipe ended: the worker is gone, perhaps in mid-word
            self.end(grace=1.0)
            code = self.process.returncode
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Outcome("crash", f"the worker died: {name}")

    def end(self, grace: float = 0.0) -> None:
        """Make sure that the process is gone and reaped; `grace` seconds to die by itself, so as to tell of what."""
        self.is_alive = False
        self.pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.process.kill()
        self.process.wait()

    def _died(self, kind: str, why: str) -> Outcome:
        self.end()
        return Outcome(kind, why)


def serve(fd: int) -> None:
    """The worker: a function, then items for it, until the parent's end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    pipe = Connection(fd)
    function: Callable[[Any], Any] | None = None
    with suppress(EOFError, OSError):
        while True:
            message = json.loads(pipe.recv_bytes())
            if name := message.get("function"):
                try:
                    function, problem = _imported(name), ""
                except Exception as error:  # noqa: BLE001  the parent is told, whatever importing it raises
                    function, problem = None, _told(error)
                pipe.send_bytes(json.dumps(problem).encode())
            elif function is not None:
                latest = 2 * message["deadline"] + 1
                signal.setitimer(signal.ITIMER_REAL, latest)  # kills this process if the parent is gone
                outcome = _done(function, pipe.recv_bytes())
                signal.setitimer(signal.ITIMER_REAL, 0)
                pipe.send_bytes(outcome)


def _imported(name: str) -> Callable[[Any], Any]:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]


def _done(function: Callable[[Any], Any], item: bytes) -> bytes:
    try:
        return json.dumps(["done", function(pickle.loads(item))]).encode()
    except BaseException as error:  # noqa: BLE001  whatever it raises is the item's outcome, not the worker's end
        return json.dumps(["crash", _told(error)]).encode()


def _told(error: BaseException) -> str:
    """The error in one line of bounded length; its own text may be what fails."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    except BaseException:  # noqa: BLE001
        return type(error).__name__


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_shared: Workers | None = None
_starting = threading.Lock()


def outcomes(function: str, items: Sequence[Any], *, deadline: float = DEADLINE) -> list[Outcome]:
    """`Workers.outcomes` of the workers that this process shares; they are started on first use and end with it."""
    global _shared
    with _starting:
        if _shared is None:
            _shared = Workers()
            atexit.register(close)
    return _shared.outcomes(function, items, deadline=deadline)


def close() -> None:
    """End the workers that this process shares; the next call of `outcomes` starts others."""
    global _shared
    with _starting:
        ended, _shared = _shared, None
    if ended is not None:
        ended.close()


def _forked() -> None:
    """A forked child has neither the threads nor, by right, the workers of its parent: it starts its own."""
    global _shared, _starting
    if _shared is not None:
        _shared.forget()
        atexit.unregister(close)
    _shared, _starting = None, threading.Lock()


os.register_at_fork(after_in_child=_forked)
