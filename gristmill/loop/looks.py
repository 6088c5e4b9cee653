"""How often a set of items was looked at to decide on a model: each look makes the next one stricter.

Who tries candidates on one set until one passes will pass a bad one. So a set has a level of error for all looks
together, and the k-th spends alpha / (k (k + 1)) of it, whose sum over any number of looks is alpha. A look counts at
all items it had; one at other items with any of these among them counts too. The same comparison with the same settings
is one look, however often it is run. Looks are in `looks.sqlite` of the run, written down before the verdict is known.

Not covered: looks that were taken outside the run.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from gristmill.database import Database
from gristmill.disk import space_wanted
from gristmill.loop.evals import Key
from gristmill.run import Run

FILE = "looks.sqlite"


class Look(NamedTuple):
    """The `number`-th look at its items, from 1."""

    key: str
    number: int
    created: str
    told: dict[str, Any]
    """What was compared, and the verdict, once there was one."""


def m001_looks(db: sqlite3.Connection) -> None:
    """Looks with the items that were looked at: 8 bytes each."""
    db.execute("CREATE TABLE looks (key TEXT PRIMARY KEY, number INTEGER, created TEXT, items BLOB, told TEXT)")


def level_of(alpha: float, number: int) -> float:
    """What the look of that number may spend of `alpha`."""
    return alpha / (number * (number + 1))


class Looks:
    """The looks of a run."""

    def __init__(self, run: Run):
        with space_wanted("the ledger of looks", run.path):
            self._db = Database(run.path / FILE, [m001_looks])

    def take(self, key: str, items: Iterable[Key], told: Mapping[str, Any]) -> Look:
        """The look known by `key`: the one that was taken, or a new one at these items."""
        mine = np.unique(np.array([_number(each) for each in items], np.uint64))
        with self._db.transaction() as db:
            before = db.execute("SELECT key, number, created, items, told FROM looks ORDER BY rowid").fetchall()
            for known, number, created, _, words in before:
                if known == key:
                    return Look(key, number, created, json.loads(words))
            again = sum(bool(np.isin(mine, np.frombuffer(blob, np.uint64)).any()) for *_, blob, _ in before)
            look = Look(key, again + 1, datetime.now(UTC).isoformat(timespec="seconds"), dict(told))
            db.execute(
                "INSERT INTO looks VALUES (?, ?, ?, ?, ?)",
                (key, look.number, look.created, mine.tobytes(), json.dumps(look.told)),
            )
        return look

    def decided(self, look: Look, verdict: str) -> None:
        """Write down what a look came to."""
        with self._db.transaction() as db:
            told = json.dumps({**look.told, "verdict": verdict})
            db.execute("UPDATE looks SET told = ? WHERE key = ?", (told, look.key))

    def all(self) -> list[Look]:
        """Every look, oldest first."""
        rows = self._db.rows("SELECT key, number, created, told FROM looks ORDER BY rowid")
        return [Look(key, number, created, json.loads(told)) for key, number, created, told in rows]


def _number(key: Key) -> int:
    return int.from_bytes(blake2b("\0".join(key).encode(), digest_size=8).digest())
