"""What is under way, for people to watch: a live line on a terminal, elsewhere a plain one every half minute.

Work counts itself where its rows pass through Python (`advance`), into the one stage of the process that is under way.
A display (`shown`) looks at the count four times a second and nothing waits for it. Rate and time left are those of the
stage so far, from its first count on (what comes before is preparation); before there is a basis for them stands "…".

Not covered: an estimate over all stages; Ray, whose workers are other processes, so that a stage shows its time and
total alone; steps in two threads at once, which count as one stage.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_SECONDS = 30.0
"""How often a display that is no terminal writes a line, and how long a stage runs before its first."""
_LOOKS = 4
"""Times a second that a live line is drawn."""
_BASIS = 1.0
"""Seconds, and megabytes of files, before there is an estimate."""

Say = Callable[[str], None]


class Stage:
    """What was counted of one stage, in its present phase; `clock` gives seconds. The functions below hold the lock.

    Rows that pass several places are counted `at` the one named, without one at that which most have passed.
    """

    def __init__(
        self,
        name: str,
        total: int | None = None,
        *,
        at: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.at, self.clock, self.began = name, at, clock, clock()
        self.phase("rows", total)

    def phase(self, unit: str, total: int | None) -> None:
        """Count from 0 again, and something else."""
        self.unit, self.total = unit, total
        self.counts: dict[str, int] = {}
        self.bytes, self.all_bytes = 0, 0
        self.done, self.first, self.last = 0, (0.0, 0), 0.0

    def advance(self, count: int, at: str = "rows") -> None:
        """`count` more passed the place `at`."""
        self.counts[at] = self.counts.get(at, 0) + count
        done = self.counts.get(self.at, 0) if self.at else max(self.counts.values())
        if done > self.done:
            self.last = self.clock()
            self.first = self.first if self.done else (self.last, done)
            self.done = done

    @property
    def expected(self) -> int | None:
        """The rows there will be: known, or from the share of the files' bytes that the rows read so far took."""
        if self.total is not None or self.bytes < _BASIS * 2**20:
            return self.total
        rows = self.counts.get("read", 0)
        return max(rows, round(rows * self.all_bytes / self.bytes)) or None

    @property
    def rate(self) -> float | None:
        """How much passes a second; None before there is a basis."""
        (since, before), until = self.first, self._until()
        return (self.done - before) / (until - since) if self.done > before and until - since >= _BASIS else None

    @property
    def left(self) -> float | None:
        """Seconds left; None before there is a basis, and where they are over."""
        expected, rate = self.expected, self.rate
        if not expected or not rate:
            return None
        seconds = (expected - self.done) / rate - (self.clock() - self._until())
        return seconds if seconds > 0 else None

    def _until(self) -> float:
        """Up to when the rate is measured: counts come in lumps, so to the last, until too much time has passed."""
        now = self.clock()
        return self.last if now - self.last < self.last - self.first[0] else now

    def line(self) -> str:
        """The stage on one line: name, how much of how much, rate, seconds so far, time left."""
        done, expected, rate, left = self.done, self.expected, self.rate, self.left
        about = "" if self.total is not None else "~"
        words = [f"{self.name:<14}"]
        if done:
            words.append(f"{done:>11,}" + (f" of {about}{expected:,}" if expected else "") + f" {self.unit}")
            if expected:
                words.append(f"{min(done / expected, 1):4.0%}")
            if rate:
                words.append(f"{rate:,.0f} {self.unit}/s")
        elif expected:
            words.append(f"{f'{about}{expected:,}':>11} {self.unit}")
        words.append(duration(self.clock() - self.began))
        if self.total is None or done < self.total:
            words.append("…" if left is None else f"{duration(left)} left")
        return "  ".join(words)


def duration(seconds: float) -> str:
    """Seconds as people say them: 17 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


_lock = Lock()
_now: Stage | None = None


def begin(name: str, total: int | None = None, *, at: str | None = None) -> None:
    """A stage of `total` rows (None: not known yet) is under way from here on, counted `at` a place."""
    global _now
    with _lock:
        _now = Stage(name, total, at=at)


def end() -> None:
    """No stage is under way."""
    global _now
    with _lock:
        _now = None


def phase(unit: str, total: int | None) -> None:
    """The stage under way turns to something else, `total` of it if that is known: its count and rate begin anew."""
    with _lock:
        if _now:
            _now.phase(unit, total)


def advance(count: int, at: str = "rows") -> None:
    """`count` more passed the place `at`; without a stage under way, nothing is counted."""
    with _lock:
        if _now:
            _now.advance(count, at)


def expect(total: int | None = None, *, all_bytes: int = 0) -> None:
    """How many rows there are, or of how many bytes the files are that are read from here on."""
    with _lock:
        if _now:
            _now.total = total
            _now.bytes, _now.all_bytes = 0, all_bytes


def consume(count: int) -> None:
    """`count` more bytes of the files were read and turned into rows."""
    with _lock:
        if _now and _now.all_bytes:
            _now.bytes += count


def line() -> str:
    """The stage under way on one line; empty if there is none."""
    with _lock:
        return _now.line() if _now else ""


@contextmanager
def step(name: str, total: int | None = None, *, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """A step as a stage of its own, unless it is part of one that is under way. Gives what counts its `unit`s, which
    as a part of another stage are not counted."""
    if _now is not None:
        yield lambda _: None
        return
    begin(name, total)
    if unit != "rows":
        phase(unit, total)
    try:
        yield advance
    finally:
        end()


class Stages:
    """The stages of one piece of work in turn: counted from their beginning, told to `say` as each ends."""

    def __init__(self, say: Say | None = None):
        self.say, self.since = say, time.monotonic()

    def begin(self, name: str, total: int | None = None, *, at: str | None = None) -> None:
        """The next stage, of `total` rows if that is known."""
        self.name = name
        begin(name, total, at=at)

    def end(self, what: str, note: str = "") -> float:
        """Say what the stage did; returns the seconds since the one before it ended."""
        seconds, self.since = time.monotonic() - self.since, time.monotonic()
        end()
        if self.say:
            self.say(f"{self.name:<14}{what:<37}{seconds:>7.1f} s  {note}".rstrip())
        return round(seconds, 3)


@contextmanager
def shown(every: float = PLAIN_SECONDS) -> Iterator[Say]:
    """Show on stderr what is under way; gives a function that writes a finished line above it.

    On a terminal the line moves, and is gone at the end, however that comes. Elsewhere a stage that takes longer writes
    a line every `every` seconds. Where stderr cannot be written the work goes on unseen. Daft's own bars are off on a
    terminal, unless its variables say otherwise.
    """
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if sys.stderr and sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal:
        with _engine_quiet(), _live(console):
            yield lambda text: console.print(text, soft_wrap=True)
    else:
        with _plain(every):
            yield _write


_BARS = ("DAFT_PROGRESS_BAR", "DAFT_SHOW_QUERY_ID")


@contextmanager
def _engine_quiet() -> Iterator[None]:
    ours = [name for name in _BARS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "0"))
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _live(console: Console) -> Live:
    def drawn() -> Text:
        text = Text(line(), no_wrap=True)
        text.truncate(console.width - len("^C "), overflow="ellipsis")  # which the terminal writes after it
        return text

    return Live(
        console=console,
        get_renderable=drawn,
        refresh_per_second=_LOOKS,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def _plain(every: float) -> Iterator[None]:
    over = Event()

    def write() -> None:
        told = time.monotonic()
        while not over.wait(every / 30):
            now, stage = time.monotonic(), _now
            if stage and now - max(stage.began, told) >= every and (text := line()):
                _write(text)
                told = now

    thread = Thread(target=write, daemon=True, name="gristmill progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # a pipe whose reader is gone, a closed stream, none at all
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
