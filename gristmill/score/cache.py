"""The score cache: every verdict that was ever reached, by the content it was reached on. An SQLite file in the run.

Key: the score's name, version and parameters, prompt, response and reference (`Score.key`). The same pair is never
judged twice by the same score: within a batch, between threads, and between processes, which claim what they are about
to judge. The claims of a process hang on one lease that it renews while it works, so that they are void when it is
gone. A timeout, a crash or an error is never remembered.

Not covered: deleting single verdicts (delete the file: they are computed again).
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Protocol, runtime_checkable
from uuid import uuid4

from gristmill.database import Database, Migrations
from gristmill.disk import space_wanted
from gristmill.ledger import UNUSABLE, Owner, is_alive, this_process
from gristmill.models.budget import Budget
from gristmill.score.score import TRANSIENT, Item, Judge, Score, Verdict

FILE = "scores.sqlite"

LEASE_SECONDS = 60.0
"""How long the claims of a process hold that does not renew them; only those of another host wait that long."""

POLL_SECONDS = 0.05
ASKED = 500
"""Keys a query."""


def m001_scores(db: sqlite3.Connection) -> None:
    """Verdicts by key, the processes at work, and what they are judging."""
    db.execute(
        "CREATE TABLE scores (key BLOB NOT NULL UNIQUE, score TEXT NOT NULL, value REAL, verdict TEXT NOT NULL, "
        "why TEXT NOT NULL)"
    )
    db.execute("CREATE TABLE workers (token TEXT PRIMARY KEY, host TEXT, pid INTEGER, started TEXT, expires REAL)")
    db.execute("CREATE TABLE claims (key BLOB PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID")


MIGRATIONS: Migrations = [m001_scores]


class Scores:
    """The score cache of the run directory `directory`, which is created with it. Threads may share it.

    `hits` and `judged` count, by score, the items that were known and those that were judged; `budget` is what judges
    that are models may spend (a copy in another process has none). Raises UsageError for a file that is no cache or may
    not be written, OutOfSpace when the disk is full.
    """

    def __init__(self, directory: Path, budget: Budget | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self.budget = budget
        self.directory, self.path = directory, directory / FILE
        self.hits: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()
        self._db = Database(self.path, MIGRATIONS)
        self._token = uuid4().hex

    def __reduce__(self) -> tuple[type["Scores"], tuple[Path]]:
        return Scores, (self.directory,)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Verdict]:
        """The verdicts that are known among those keys."""
        found: dict[bytes, Verdict] = {}
        for some in _parts(keys):
            marks = ",".join("?" * len(some))
            rows = self._db.rows(f"SELECT key, value, verdict, why FROM scores WHERE key IN ({marks})", *some)
            found.update((key, Verdict(value, verdict, why)) for key, value, verdict, why in rows)
        return found

    def add(self, score: str, verdicts: Mapping[bytes, Verdict]) -> None:
        """Remember verdicts; the transient ones among them are passed over."""
        rows = [(key, score, *verdict) for key, verdict in verdicts.items() if verdict.verdict not in TRANSIENT]
        with space_wanted("the score cache", self.path), self._db.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def claimed(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Those of the keys that are now this caller's to judge: neither known nor claimed by another."""
        mine = self._claim(keys)
        try:
            with self._renewed():
                yield mine
        finally:
            with self._db.transaction() as db:
                db.executemany("DELETE FROM claims WHERE key = ? AND token = ?", [(key, self._token) for key in mine])

    def _claim(self, keys: Sequence[bytes]) -> list[bytes]:
        mine = []
        with space_wanted("the score cache", self.path), self._db.transaction() as db:
            self._renew(db)
            taken: set[bytes] = set()
            holders: dict[str, list[bytes]] = {}
            for some in _parts(keys):
                marks = ",".join("?" * len(some))
                taken.update(key for (key,) in db.execute(f"SELECT key FROM scores WHERE key IN ({marks})", some))
                for key, token in db.execute(f"SELECT key, token FROM claims WHERE key IN ({marks})", some):
                    holders.setdefault(token, []).append(key)
            for token, held in holders.items():
                if self._works(db, token):
                    taken.update(held)
                else:
                    db.execute("DELETE FROM claims WHERE token = ?", (token,))
                    db.execute("DELETE FROM workers WHERE token = ?", (token,))
            mine = [key for key in keys if key not in taken]
            db.executemany("INSERT INTO claims VALUES (?, ?)", [(key, self._token) for key in mine])
        return mine

    def _works(self, db: sqlite3.Connection, token: str) -> bool:
        """Whether the process behind a claim is still at work."""
        found = db.execute("SELECT host, pid, started, expires FROM workers WHERE token = ?", (token,)).fetchone()
        return token == self._token or (found is not None and found[3] > time.time() and is_alive(Owner(*found[:3])))

    def _renew(self, db: sqlite3.Connection) -> None:
        expires = time.time() + LEASE_SECONDS
        db.execute("REPLACE INTO workers VALUES (?, ?, ?, ?, ?)", (self._token, *this_process(), expires))

    @contextmanager
    def _renewed(self) -> Iterator[None]:
        """Renew the lease of this process while work goes on."""
        done = Event()

        def beat() -> None:
            while not done.wait(LEASE_SECONDS / 6):
                with suppress(*UNUSABLE), self._db.transaction() as db:  # the next beat, or the lease's end, settles it
                    self._renew(db)

        thread = Thread(target=beat, daemon=True, name="score claims")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@runtime_checkable
class Remembers(Protocol):
    """A judge that keeps something in the run: answers of models, verdicts of its parts."""

    def within(self, scores: Scores) -> Judge:
        """The same judge, keeping it in the run that `scores` belongs to."""


def cached(score: Score, scores: Scores) -> Score:
    """The score, asking `scores` first and telling it what was reached."""
    if isinstance(score.judge, Remembers):
        score = replace(score, judge=score.judge.within(scores))
    return replace(score, judge=partial(_judged, score, scores))


def _judged(score: Score, scores: Scores, items: Sequence[Item]) -> list[Verdict]:
    keys = [score.key(item) for item in items]
    different = dict(zip(keys, items, strict=True))
    known = scores.find(list(different))
    missing = [key for key in different if key not in known]
    judged = 0
    while missing:
        with scores.claimed(missing) as mine:
            if mine:
                reached = dict(zip(mine, score([different[key] for key in mine]), strict=True))
                scores.add(score.name, reached)
                known |= reached
                judged += len(mine)
        known |= scores.find([key for key in missing if key not in known])
        missing = [key for key in missing if key not in known]
        if missing:
            time.sleep(POLL_SECONDS)  # another process or thread is at them
    scores.judged[score.name] += judged
    scores.hits[score.name] += len(items) - judged
    return [known[key] for key in keys]


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), ASKED):
        yield keys[start : start + ASKED]
