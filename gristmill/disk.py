"""What a full disk does to those who write: recognised whatever library met it, and said in one line.

Daft, Arrow and SQLite each have classes of their own for it. Most keep the system's words; where they are lost, only an
attempt to write tells (`try_writing`).
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from gristmill.errors import OutOfSpace

FULL = (errno.ENOSPC, errno.EDQUOT)
PROBE_BYTES = 1 << 20


@contextmanager
def space_wanted(what: str, where: Path | str, *, kept: bool = True) -> Iterator[None]:
    """Raise OutOfSpace for a full disk, which says what was being written and what to do.

    `kept`: whether finished steps are. If so, a step's OutOfSpace passes, which says it more exactly.
    """
    try:
        yield
    except Exception as error:  # classes of Daft, Arrow and SQLite, and the system's own
        if not is_full_disk(error) or (kept and isinstance(error, OutOfSpace)):
            raise
        saved = "finished steps are kept: " if kept else ""
        raise OutOfSpace(
            f"no space left while writing {what} in {where}; {saved}free space, and run the same again"
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that the disk (or the quota) is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        if any(text in str(seen) for text in ("No space left on device", "Disk quota exceeded", "disk is full")):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def try_writing(directory: Path) -> None:
    """Write a file of `PROBE_BYTES` into a directory and remove it; raises the system's OSError where that fails."""
    probe = directory / f".{uuid4().hex}.partial"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
