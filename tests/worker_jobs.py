"""What test_workers.py has workers do."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def echo(item: Any) -> Any:
    return item


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def power(tower: int) -> int:
    """An integer power that runs in C, deaf to signal handlers, if `tower` is large."""
    return (7 ** (7**tower)) % 10


def do(what: str) -> Any:
    """Misbehave as asked."""
    if what == "raise":
        raise ValueError("two\nlines")
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "stop":
        sys.exit(0)
    if what == "memory":
        return len(bytearray(1 << 40))
    if what == "print":
        sys.stdout.write("noise\n" * 10_000)
        os.write(1, b"noise")
    if what == "unserialisable":
        return object()
    if what == "pid":
        return os.getpid()
    if what == "environment":
        return sorted(os.environ)
    return what


def leave_a_trace(path: str) -> None:
    """Say where this worker is, then work for ever."""
    Path(path).write_text(str(os.getpid()))
    power(9)


def equal_or_never(task: Any) -> str:
    """A stand-in for computer algebra that hangs on `never` and dies of `die`."""
    if "never" in task[1][0]:
        power(9)
    if "die" in task[1][0]:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "same"
