"""An SQLite file that processes share: opened, migrated, and its errors said in one line.

WAL mode, in which readers do not block the writer (https://www.sqlite.org/wal.html), with synchronous=NORMAL: a process
that is killed loses nothing; a machine that loses power may lose the last rows, never the file.

Not covered: files on network file systems, where SQLite's locks do not hold.
"""

import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from gristmill.disk import FULL, try_writing
from gristmill.errors import UsageError

BUSY_SECONDS = 60.0
"""How long a transaction waits for another process's."""

Migrations = Sequence[Callable[[sqlite3.Connection], None]]
"""Applied in order, each once and whole; a new one goes to the end and none is ever changed."""


class Database:
    """The SQLite file `path`, created if it is not there, after its `migrations`. Threads may share it.

    Raises UsageError for a file that is no database, is damaged, may not be written, or that a newer Gristmill wrote.
    """

    def __init__(self, path: Path, migrations: Migrations):
        self.path = path
        self._lock = RLock()
        with usable(path):
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._db.close)
            _use_wal(self._db)
            self._db.execute("PRAGMA synchronous=NORMAL")
        with self.transaction() as db:
            _migrate(db, path, migrations)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; one at a time among all processes."""
        with self._lock, usable(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds."""
        with self._lock, usable(self.path):
            return self._db.execute(query, values).fetchall()


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Say in one line what is wrong with a ledger; a full disk passes as an error that says so."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        _, kind, *_ = f"{getattr(error, 'sqlite_errorname', '')}__".split("_")
        if kind in ("NOTADB", "CORRUPT") or path.is_dir():
            raise UsageError(
                f"{path}: {error}; name the directory of a run, or delete it: what it lists is lost"
            ) from error
        if kind in ("READONLY", "CANTOPEN", "IOERR", "PERM"):  # SQLite does not tell why; the system does
            try:
                try_writing(path.parent)
            except OSError as reason:
                if reason.errno in FULL:
                    raise
                raise UsageError(
                    f"{path}: {error} ({reason.strerror}); make it writable, or name another run directory"
                ) from error
        if kind in ("READONLY", "CANTOPEN", "IOERR", "PERM", "BUSY"):
            raise UsageError(f"{path}: {error}; end what else uses it, or name another run directory") from error
        raise


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait for its lock here, so two processes that start together try again."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _migrate(db: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied TEXT)")
    applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
    if unknown := applied - {migration.__name__ for migration in migrations}:
        raise UsageError(f"{path}: a newer Gristmill wrote it ({min(unknown)}); upgrade, or name another run directory")
    for migration in migrations:
        if migration.__name__ not in applied:
            migration(db)
            db.execute(
                "INSERT INTO migrations VALUES (?, ?)",
                (migration.__name__, datetime.now(UTC).isoformat(timespec="milliseconds")),
            )
