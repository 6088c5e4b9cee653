"""The calls ledger: every answer that was ever paid for, by the content of its request. An SQLite file in the run.

A row holds the raw answer, compressed; reading it (`answer.py`) is separate and can be done anew at no cost. A thread
writes answers in groups, at most a tenth of a second after they came, so that a process that is killed loses little and
many calls cost one transaction. If the disk cannot keep up, `behind` says so and no more is sent. A table with a plain
rowid and a unique index takes rows four times faster than one WITHOUT ROWID. Requests in the air are claimed
(`claims.py`), so that processes may share it.

Not covered: deleting single answers.
"""

import atexit
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any, NamedTuple
from weakref import ref

import zstandard

from gristmill.database import Database, Migrations
from gristmill.disk import space_wanted
from gristmill.errors import GristmillError
from gristmill.ledger import LEASE_SECONDS, now
from gristmill.models.claims import Claims, m003_claims

FILE = "calls.sqlite"

GROUP_SECONDS = 0.1
GROUP_ROWS = 1_000
"""An answer is written after so long, or when so many wait."""

BEHIND_SECONDS = 0.5
"""Nothing more is sent while an answer has waited longer than this to be written."""

LEVEL = 3
ASKED = 500
"""Keys a query."""

_Row = tuple[bytes, bytes, int, int | None, int | None]


def m001_calls(db: sqlite3.Connection) -> None:
    """Answers by key, the models that gave them, and what each session of a process did."""
    db.execute("CREATE TABLE models (number INTEGER PRIMARY KEY, identity TEXT UNIQUE, name TEXT)")
    db.execute(
        "CREATE TABLE calls (key BLOB NOT NULL UNIQUE, answer BLOB NOT NULL, model INTEGER NOT NULL, "
        "tokens_in INTEGER, tokens_out INTEGER)"
    )
    db.execute(
        "CREATE TABLE sessions (session TEXT, model INTEGER, started TEXT, sent INTEGER, hits INTEGER, failed INTEGER, "
        "tokens_in INTEGER, tokens_out INTEGER, PRIMARY KEY (session, model))"
    )


def m002_batches(db: sqlite3.Connection) -> None:
    """Batches at providers, the requests that were put into them and have no answer, and what sessions used them."""
    db.execute(
        "CREATE TABLE batches (number INTEGER PRIMARY KEY, model INTEGER NOT NULL, token TEXT NOT NULL UNIQUE, "
        "requests INTEGER NOT NULL, file TEXT, batch TEXT, created TEXT NOT NULL, ended TEXT, status TEXT)"
    )
    db.execute(
        "CREATE TABLE batch_requests (cut BLOB PRIMARY KEY, whole BLOB NOT NULL, cap INTEGER, batch INTEGER, "
        "line INTEGER NOT NULL, attempts INTEGER NOT NULL, error TEXT, final INTEGER NOT NULL) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX batch_requests_of ON batch_requests (batch)")
    db.execute("ALTER TABLE sessions ADD COLUMN batch INTEGER NOT NULL DEFAULT 0")


MIGRATIONS: Migrations = [m001_calls, m002_batches, m003_claims]


class Stored(NamedTuple):
    """An answer in the ledger."""

    raw: bytes
    tokens_out: int | None


class Used(NamedTuple):
    """What was done with a model, over every session or in one."""

    model: str
    identity: str
    answers: int
    """Stored answers (over every session only)."""
    sent: int
    """Calls that were answered."""
    hits: int
    """Calls that the ledger answered."""
    failed: int
    tokens_in: int
    """Tokens that were paid for."""
    tokens_out: int
    batch_in: int
    """Those of them that a batch answered, at another price."""
    batch_out: int


class _Count:
    """What this process did with a model."""

    __slots__ = ("failed", "hits", "sent", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.sent = self.hits = self.failed = self.tokens_in = self.tokens_out = 0


def _flush_at_exit(known: "ref[Calls]") -> None:
    """Write down what a program that simply ends has not; an error that was raised before is not told again."""
    calls = known()
    if calls and calls.has_unwritten() and calls.path.exists():  # not the directory of a test, long gone
        try:
            calls.flush()
        except (GristmillError, sqlite3.Error, OSError) as error:
            sys.stderr.write(f"gristmill: {error}\n")


class Calls:
    """The calls ledger of the run directory `directory`, which is created with it.

    `batch` says that what this process pays for comes from batches. Use it from one event loop (or one thread); its
    writer is a thread of its own. Raises UsageError for a file that is no ledger or may not be written, OutOfSpace (on
    the next use) when the disk is full.
    """

    def __init__(self, directory: str | Path, *, batch: bool = False):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._batch = batch
        self.path = directory / FILE
        self._reader = Database(self.path, MIGRATIONS)
        self._writer = Database(self.path, MIGRATIONS)
        self._unzip = zstandard.ZstdDecompressor().decompress
        self._wake = Condition()
        self._new: list[_Row] = []
        self._unwritten: dict[bytes, Stored] = {}
        self._claims = Claims()
        self._given_up: list[bytes] = []  # claims to end
        self._oldest: float | None = None  # when the first answer came that is not written
        self._written = 0
        self._taken = 0
        self._error: BaseException | None = None
        self._thread: Thread | None = None
        self._closing = False
        self._session = f"{now()}-{id(self):x}"
        self._started = now()
        self._models: dict[str, int] = {}
        self._counts: dict[int, _Count] = {}
        atexit.register(_flush_at_exit, ref(self))
        self._counted = False

    def model(self, identity: str, name: str) -> int:
        """The number of a model in this ledger."""
        if identity not in self._models:
            with space_wanted("the calls ledger", self.path), self._reader.transaction() as db:
                db.execute("INSERT OR IGNORE INTO models (identity, name) VALUES (?, ?)", (identity, name))
                found = db.execute("SELECT number FROM models WHERE identity = ?", (identity,)).fetchone()
            self._models[identity] = found[0]
        return self._models[identity]

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored answers among those keys."""
        found: dict[bytes, Stored] = {}
        for start in range(0, len(keys), ASKED):
            some = keys[start : start + ASKED]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, answer, tokens_out FROM calls WHERE key IN ({marks})"
            for key, answer, tokens in self._reader.rows(query, *some):
                found[key] = Stored(self._unzip(answer), tokens)
        if self._unwritten:
            found.update((key, self._unwritten[key]) for key in keys if key in self._unwritten)
        return found

    def version(self) -> int:
        """Another number after something else wrote to the ledger (this process's writer included)."""
        found: int = self._reader.rows("PRAGMA data_version")[0][0]
        return found

    def claim(self, keys: Sequence[bytes]) -> set[bytes]:
        """Claim requests that have no answer, by one of their keys. Those that are now to be sent, if `find` still has
        no answer; the others are in the air. What was claimed is to be given up."""
        mine: set[bytes] = set()
        self._started_thread()  # it renews the lease
        with space_wanted("the calls ledger", self.path):
            for start in range(0, len(keys), ASKED):
                with self._reader.transaction() as db:
                    mine |= self._claims.take(db, keys[start : start + ASKED])
        return mine

    def give_up(self, key: bytes) -> None:
        """End a claim, after the answer was added if there is one."""
        with self._wake:
            self._given_up.append(key)
            self._due()

    def add(self, key: bytes, raw: bytes, model: int, tokens_in: int | None, tokens_out: int | None) -> None:
        """Store an answer that was just paid for; it is found from here on, and on disk soon."""
        self._unwritten[key] = Stored(raw, tokens_out)
        with self._wake:
            self._new.append((key, raw, model, tokens_in, tokens_out))
            self._taken += 1
            self._due()
            if len(self._new) == GROUP_ROWS:
                self._wake.notify_all()
        count = self.count(model)
        count.sent += 1
        count.tokens_in += tokens_in or 0
        count.tokens_out += tokens_out or 0

    def count(self, model: int) -> _Count:
        """What this process did with a model so far, to be counted up; written with the answers."""
        self._counted = True
        if model not in self._counts:
            self._counts[model] = _Count()
        return self._counts[model]

    def behind(self) -> bool:
        """Whether the disk does not keep up. Raises what the writer met."""
        if self._error:
            raise self._error
        oldest = self._oldest
        return oldest is not None and time.monotonic() - oldest > BEHIND_SECONDS

    def has_unwritten(self) -> bool:
        """Whether something waits to be written, and can be."""
        return not self._error and (self._written < self._taken or self._counted)

    def flush(self) -> None:
        """Return when everything is on disk. Raises what the writer met."""
        with self._wake:
            wanted = self._taken
            if self._written < wanted:
                self._started_thread()
            self._closing = True
            self._wake.notify_all()
            while self._written < wanted and not self._error:
                self._wake.wait()
            self._closing = False
            given_up, self._given_up = self._given_up, []
        if self._error:
            raise self._error
        self._write([], given_up)

    def used(self, *, session: bool = False) -> list[Used]:
        """What was done with each model, in every session that this ledger saw, or in this one."""
        self.flush()
        where, values = ("WHERE session = ?", [self._session]) if session else ("", [])
        rows = self._reader.rows(
            "SELECT name, identity, (SELECT count(*) FROM calls WHERE calls.model = number), sum(sent), sum(hits), "
            "sum(failed), sum(sessions.tokens_in), sum(sessions.tokens_out), sum(batch * sessions.tokens_in), "
            "sum(batch * sessions.tokens_out) "
            f"FROM sessions JOIN models ON number = model {where} GROUP BY number ORDER BY number",
            *values,
        )
        return [Used(*row) for row in rows]

    def tokens_a_call(self, model: int) -> float | None:
        """The mean length of the answers that a model gave so far; None before there is one."""
        query = "SELECT avg(tokens_out) FROM (SELECT tokens_out FROM calls WHERE model = ? LIMIT 10000)"
        found: float | None = self._reader.rows(query, model)[0][0]
        return found

    def _due(self) -> None:
        """What came just now is to be written soon."""
        if self._oldest is None:
            self._oldest = time.monotonic()
            self._started_thread()
            self._wake.notify_all()

    def _started_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._work, name="calls ledger", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """Write groups until an error; a daemon thread, so what matters is flushed by whoever ends a piece of work."""
        while True:
            with self._wake:
                while not (self._new or self._given_up):
                    if not self._wake.wait(LEASE_SECONDS / 3) and self._claims.held:
                        break  # to renew the lease
                due = (self._oldest or 0.0) + GROUP_SECONDS
                while len(self._new) < GROUP_ROWS and not self._closing and (left := due - time.monotonic()) > 0:
                    self._wake.wait(left)
                group, self._new = self._new, []
                given_up, self._given_up = self._given_up, []
            try:
                self._write(group, given_up)
            except (GristmillError, sqlite3.Error, OSError) as error:
                with self._wake:
                    self._error = error
                    self._wake.notify_all()
                return
            with self._wake:
                for row in group:
                    self._unwritten.pop(row[0], None)
                self._written += len(group)
                self._oldest = time.monotonic() if self._new or self._given_up else None
                self._wake.notify_all()

    def _write(self, group: Iterable[_Row], given_up: Sequence[bytes]) -> None:
        zip_ = zstandard.ZstdCompressor(LEVEL).compress
        rows = [(key, zip_(raw), model, into, out) for key, raw, model, into, out in group]
        with space_wanted("the calls ledger", self.path), self._writer.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?)", rows)
            self._claims.end(db, given_up)
            self._claims.renew(db)
            if self._counted:
                self._counted = False
                db.executemany("REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._sessions())

    def _sessions(self) -> list[tuple[Any, ...]]:
        return [
            (self._session, model, self._started, c.sent, c.hits, c.failed, c.tokens_in, c.tokens_out, self._batch)
            for model, c in list(self._counts.items())
        ]
