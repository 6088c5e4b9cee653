"""The ledger of a run: an SQLite file on local disk that says which steps are finished and who is computing one.

A row of `steps` is written last, after the step's files are in place, so what the ledger lists is whole. Losing its
last rows to a power cut (`database.py`) is the safe side: the files of a step are not synced either, and a step without
its row is computed again.

A step in the making is claimed by a lease that its process renews. A claim is void once the lease has run out or,
on the same host, once the process is gone.
"""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from gristmill.database import Database, Migrations
from gristmill.errors import UsageError

FILE = "ledger.sqlite"

LEASE_SECONDS = 60.0
"""How long a claim holds that nobody renews; only a process on another host, or a stopped one, waits that long."""

Stored = tuple[str, int, str]
"""A stored file: its path, its bytes, the hash of its content."""


class StepRecord(NamedTuple):
    """A finished step. `inputs` are {name, key} for a step's table and {name, hash} for files and tables given."""

    key: str
    name: str
    inputs: list[dict[str, Any]]
    params: dict[str, Any]
    shape: dict[str, Any]
    rows: int
    bytes: int
    seconds: float
    peak_rss_mb: float
    """Most memory the process had used when the step ended."""
    created: str
    """UTC, ISO 8601."""
    path: str
    pruned: str | None = None
    """When its tables were deleted, None while they are there."""
    reused: bool = False
    """Whether this process took it from the ledger."""


class Output(NamedTuple):
    """A result outside the run that was made from its steps."""

    name: str
    path: str
    created: str
    inputs: list[str]
    params: dict[str, Any]
    counts: dict[str, Any]
    files: list[Stored]


def is_run(directory: Path) -> bool:
    """Whether a directory holds a run."""
    return (directory / FILE).is_file()


def ledger_of(directory: Path) -> "Ledger":
    """The ledger of a run that exists; raises UsageError where there is none."""
    if not is_run(directory):
        raise UsageError(f"{directory}: no run there (it has no {FILE}); name the directory of a run")
    return Ledger(directory)


class Owner(NamedTuple):
    """A process that may hold a claim."""

    host: str
    pid: int
    started: str


def m001_steps(db: sqlite3.Connection) -> None:
    """Finished steps and their files."""
    db.execute(
        "CREATE TABLE steps (key TEXT PRIMARY KEY, name TEXT, inputs TEXT, params TEXT, shape TEXT, rows INTEGER, "
        "bytes INTEGER, seconds REAL, peak_rss_mb REAL, created TEXT, path TEXT, pruned TEXT)"
    )
    db.execute("CREATE TABLE files (step TEXT, path TEXT, bytes INTEGER, hash TEXT, PRIMARY KEY (step, path))")


def m002_claims(db: sqlite3.Connection) -> None:
    """Who is computing a step, until when."""
    db.execute(
        "CREATE TABLE claims (key TEXT PRIMARY KEY, token TEXT, host TEXT, pid INTEGER, started TEXT, expires REAL)"
    )


def m003_outputs(db: sqlite3.Connection) -> None:
    """Results outside the run."""
    db.execute(
        "CREATE TABLE outputs (number INTEGER PRIMARY KEY, name TEXT, path TEXT, created TEXT, inputs TEXT, "
        "params TEXT, counts TEXT, files TEXT)"
    )


def m004_hashes(db: sqlite3.Connection) -> None:
    """The content of input files, so that a big one is hashed once."""
    db.execute(
        "CREATE TABLE hashes (path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, hash TEXT)"
    )


MIGRATIONS: Migrations = [m001_steps, m002_claims, m003_outputs, m004_hashes]

UNUSABLE = (sqlite3.OperationalError, OSError, UsageError)
"""What a ledger raises that is busy, full, damaged or not to be written."""

_held: set[str] = set()
"""The claims this process holds: one of its own that is not here was left by an error."""


class Ledger:
    """The ledger of the run directory `directory`, which is created with it.

    Raises UsageError for a file that is no ledger, is damaged, may not be written, or that a newer Gristmill wrote.
    """

    def __init__(self, directory: Path):
        self.path = directory / FILE
        directory.mkdir(parents=True, exist_ok=True)
        database = Database(self.path, MIGRATIONS)
        self._transaction, self._rows = database.transaction, database.rows

    def step(self, key: str) -> StepRecord | None:
        """The finished step with this key, its tables not pruned."""
        found = self._rows(f"SELECT {_COLUMNS} FROM steps WHERE key = ? AND pruned IS NULL", key)
        return _record(found[0]) if found else None

    def steps(self) -> list[StepRecord]:
        """Every step that was ever finished, the pruned ones too, oldest first."""
        return [_record(row) for row in self._rows(f"SELECT {_COLUMNS} FROM steps ORDER BY created, rowid")]

    def files(self, key: str) -> list[Stored]:
        """The stored files of a step, by path; the paths lead from the step's directory."""
        return self._rows("SELECT path, bytes, hash FROM files WHERE step = ? ORDER BY path", key)

    def finish(self, record: StepRecord, files: Sequence[Stored], token: str) -> bool:
        """Write a step down as finished; False if the claim `token` was lost to another process."""
        with self._transaction() as db:
            if not db.execute("SELECT 1 FROM claims WHERE key = ? AND token = ?", (record.key, token)).fetchone():
                return False
            values = [json.dumps(value) if isinstance(value, list | dict) else value for value in record[:-1]]
            db.execute(f"REPLACE INTO steps ({_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)
            db.execute("DELETE FROM files WHERE step = ?", (record.key,))
            db.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", [(record.key, *file) for file in files])
            db.execute("DELETE FROM claims WHERE key = ?", (record.key,))
        _held.discard(token)
        return True

    def mark_pruned(self, keys: Sequence[str]) -> None:
        """Keep steps as history only; done before their files are deleted."""
        with self._transaction() as db:
            db.executemany("UPDATE steps SET pruned = ? WHERE key = ?", [(now(), key) for key in keys])

    def claim(self, key: str) -> str | None:
        """A token if the step is now this process's to compute; None if it is finished or another's."""
        token, me = uuid4().hex, this_process()
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM steps WHERE key = ? AND pruned IS NULL", (key,)).fetchone():
                return None
            claim = db.execute("SELECT token, host, pid, started, expires FROM claims WHERE key = ?", (key,)).fetchone()
            if claim and _holds(claim[0], Owner(*claim[1:4]), claim[4]):
                return None
            db.execute("REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)", (key, token, *me, time.time() + LEASE_SECONDS))
        _held.add(token)
        return token

    def renew(self, token: str) -> bool:
        """Extend a claim by a lease; False if it was lost."""
        with self._transaction() as db:
            expires = time.time() + LEASE_SECONDS
            return db.execute("UPDATE claims SET expires = ? WHERE token = ?", (expires, token)).rowcount > 0

    def release(self, token: str) -> None:
        """Give a claim up."""
        _held.discard(token)
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE token = ?", (token,))

    def forget(self, record: StepRecord) -> None:
        """Forget a finished step whose files are not what was written, unless another process computed it again."""
        with self._transaction() as db:
            db.execute("DELETE FROM steps WHERE key = ? AND created = ?", (record.key, record.created))

    def claimed(self) -> list[tuple[str, Owner]]:
        """The steps being computed now, with their processes."""
        claims = self._rows("SELECT key, token, host, pid, started, expires FROM claims")
        return [(row[0], Owner(*row[2:5])) for row in claims if _holds(row[1], Owner(*row[2:5]), row[5])]

    def add_output(self, output: Output, place: Callable[[], None] | None = None) -> None:
        """Write down a result outside the run; `place` puts it there, before any other process can do so."""
        values = [json.dumps(value) if isinstance(value, list | dict) else value for value in output]
        with self._transaction() as db:
            db.execute(
                "INSERT INTO outputs (name, path, created, inputs, params, counts, files) VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            if place:
                place()

    def outputs(self) -> list[Output]:
        """Every result that was registered, newest last."""
        rows = self._rows("SELECT name, path, created, inputs, params, counts, files FROM outputs ORDER BY number")
        return [_output(row) for row in rows]

    def known_hash(self, path: str, stat: os.stat_result) -> str | None:
        """The hash of a file's content, if it was hashed since it last changed."""
        found = self._rows(
            "SELECT hash FROM hashes WHERE path = ? AND bytes = ? AND mtime_ns = ? AND ctime_ns = ?",
            *(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns),
        )
        return found[0][0] if found else None

    def remember_hash(self, path: str, stat: os.stat_result, hashed: str) -> None:
        """Note the hash of a file's content as of `stat`."""
        values = (path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, hashed)
        with self._transaction() as db:
            db.execute("REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", values)


_COLUMNS = ", ".join(StepRecord._fields[:-1])


def _record(row: Sequence[Any]) -> StepRecord:
    named: Mapping[str, Any] = dict(zip(StepRecord._fields, row, strict=False))
    return StepRecord(**{**named, **{name: json.loads(named[name]) for name in ("inputs", "params", "shape")}})


def _output(row: Sequence[Any]) -> Output:
    inputs, params, counts, files = map(json.loads, row[3:])
    return Output(
        row[0], row[1], row[2], inputs, params, counts, [(path, size, hashed) for path, size, hashed in files]
    )


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def this_process() -> Owner:
    """Host (with its process namespace, if it has one), number and start time of this process."""
    host = socket.gethostname()
    with suppress(OSError):  # no /proc: a host has one namespace
        host += " " + str(Path("/proc/self/ns/pid").readlink())
    return Owner(host, os.getpid(), _started(os.getpid()) or "")


def _started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None if it is gone, "" where it is not told."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return None if state in "ZX" else fields[18]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _holds(token: str, owner: Owner, expires: float) -> bool:
    """Whether a claim stands."""
    me = this_process()
    if owner == me:
        return token in _held
    if expires < time.time():
        return False
    return is_alive(owner)


def is_alive(owner: Owner) -> bool:
    """Whether a process runs; taken for granted on another host."""
    return owner.host != this_process().host or _started(owner.pid) == owner.started
