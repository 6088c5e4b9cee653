"""Requests in the air, claimed in the calls ledger, so that processes that share it send each of them once.

The claims of a process hang on one lease, which it renews; they are void when the lease has run out or, on the same
host, when the process is gone. They are taken in groups, each a transaction, before the requests leave, and end no
earlier than the answer is written: who claims what another gave up finds its answer, if there is one.

Not covered: a process that was stopped for longer than its lease and goes on (its requests may be sent twice).
"""

import sqlite3
import time
from collections.abc import Sequence
from uuid import uuid4

from gristmill.ledger import LEASE_SECONDS, Owner, is_alive, this_process


def m003_claims(db: sqlite3.Connection) -> None:
    """The processes at work, and the requests they have in the air."""
    db.execute("CREATE TABLE workers (token TEXT PRIMARY KEY, host TEXT, pid INTEGER, started TEXT, expires REAL)")
    db.execute("CREATE TABLE claims (key BLOB PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID")


class Claims:
    """The claims of one `Calls` of this process. Each method is part of a transaction `db`."""

    def __init__(self) -> None:
        self.held = 0
        self._token = uuid4().hex
        self._renewed = float("-inf")

    def take(self, db: sqlite3.Connection, keys: Sequence[bytes]) -> set[bytes]:
        """Claim requests. Those that are now the caller's to send; the others are in the air already."""
        self.renew(db)
        marks = ",".join("?" * len(keys))
        holders = dict(db.execute(f"SELECT key, token FROM claims WHERE key IN ({marks})", keys).fetchall())
        for token in set(holders.values()):
            if not self._works(db, token):
                db.execute("DELETE FROM claims WHERE token = ?", (token,))
                db.execute("DELETE FROM workers WHERE token = ?", (token,))
                holders = {key: holder for key, holder in holders.items() if holder != token}
        mine = {key for key in keys if key not in holders}
        db.executemany("INSERT INTO claims VALUES (?, ?)", [(key, self._token) for key in mine])
        self.held += len(mine)
        return mine

    def end(self, db: sqlite3.Connection, keys: Sequence[bytes]) -> None:
        """Give claims up."""
        db.executemany("DELETE FROM claims WHERE key = ? AND token = ?", [(key, self._token) for key in keys])
        self.held -= len(keys)

    def renew(self, db: sqlite3.Connection) -> None:
        """Extend the lease, if a third of it is over."""
        if time.monotonic() - self._renewed > LEASE_SECONDS / 3:
            expires = time.time() + LEASE_SECONDS
            db.execute("REPLACE INTO workers VALUES (?, ?, ?, ?, ?)", (self._token, *this_process(), expires))
            self._renewed = time.monotonic()

    def _works(self, db: sqlite3.Connection, token: str) -> bool:
        found = db.execute("SELECT host, pid, started, expires FROM workers WHERE token = ?", (token,)).fetchone()
        return found is not None and found[3] > time.time() and is_alive(Owner(*found[:3]))
