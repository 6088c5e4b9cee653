"""A directory (or a file in it) that is written beside its place and renamed into it: there whole, or not at all.

Every process writes into a directory of its own, `.NAME.XXXXXXXX.partial`, and holds a lock on it (flock), which the
system gives up with the process, however that ends. One that nobody holds was left by a process that was killed; the
next that writes to the same place removes it. Of processes that write to one place at once, the last rename wins.

Not covered: file systems that cannot lock a directory (NFS). There nothing that was left is removed.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from gristmill.errors import UsageError


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A new, empty directory beside `place`, removed at the end if it is still there."""
    _tidy(place)
    while True:
        partial = _named(place, "partial")
        partial.mkdir(parents=True)
        try:
            held = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:  # another process tidied it before it was locked
            continue
        if _is_locked(held) and partial.exists():
            break
        os.close(held)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)


def move(partial: Path, place: Path) -> None:
    """Rename a directory or a file to `place`. A directory that is there moves aside first, and is removed when the new
    one is in place."""
    if partial.is_file() and not place.is_dir():
        partial.replace(place)
        return
    aside = _named(place, "before")
    while True:
        with suppress(FileNotFoundError):
            place.rename(aside)
        try:
            partial.rename(place)
            break
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process moved its own there meanwhile
                shutil.rmtree(aside, ignore_errors=True)
                continue
            with suppress(OSError):
                aside.rename(place)
            raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def alone(directory: Path, what: str) -> Iterator[int]:
    """Hold a directory, which is created, by a lock on `.lock` in it; gives the descriptor. A child that inherits it
    holds the directory too, also when this process is killed.

    Raises UsageError, which says `what` is under way, if another process has it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{directory}: another process is at this {what}; wait for it") from None
        yield lock.fileno()


def _tidy(place: Path) -> None:
    """Remove what killed processes left beside `place`; one killed in `move` leaves what was there, to be put back."""
    pattern = f".{escape(place.name)}.{'[0-9a-f]' * 8}"  # so exact that a place named NAME.X is not meant
    for left in place.parent.glob(f"{pattern}.before"):
        if not place.exists():
            with suppress(OSError):
                left.rename(place)
        shutil.rmtree(left, ignore_errors=True)
    for left in place.parent.glob(f"{pattern}.partial"):
        with suppress(OSError):  # held, not to be locked here, or gone already
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def _is_locked(held: int) -> bool:
    """Lock a directory of one's own; False if a process that tidies has it. Where none can lock, none tidies."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _named(place: Path, kind: str) -> Path:
    return place.with_name(f".{place.name}.{uuid4().hex[:8]}.{kind}")
