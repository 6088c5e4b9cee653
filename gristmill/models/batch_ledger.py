"""What is written down about batches: each batch before it is sent, each request in one until it has an answer.

The tables lie in the calls ledger (`calls.sqlite`); the file of a batch lies in `batches/` of the run from before it is
written down until the provider has made a batch of it. So after a kill at any moment the ledger tells which requests
are in which batch, and how far that came: written (no file id), uploaded (no batch id), made, ended.

Not covered: what the provider says (`batch_api.py`), what to do about it (`batch.py`).
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import orjson

from gristmill.database import Database
from gristmill.disk import space_wanted
from gristmill.errors import Refused
from gristmill.ledger import now
from gristmill.models.calls import MIGRATIONS, Calls
from gristmill.models.request import Keys


class Record(NamedTuple):
    """A batch that was written down and has not ended."""

    number: int
    model: int
    token: str
    """By which it is found at the provider: the hash of its content, and a number of its own."""
    requests: int
    file: str | None
    """The provider's id of its file, once it is uploaded."""
    batch: str | None
    """The provider's id of the batch, once it is made."""


class Left(NamedTuple):
    """A request that has no answer: in the batch with this number, or (None) in one that ended without."""

    whole: bytes
    cap: int | None
    batch: int | None
    line: int
    """Its line in the file, from 1."""
    attempts: int
    """Batches that ended with an error for it."""
    error: str | None
    final: bool
    """It is not to be asked for again: `error` is what its row says."""


class Failure(NamedTuple):
    """Why a batch has no answer to a request; what does not `count` is the batch's fault, not the request's."""

    error: str
    final: bool = False
    counts: bool = True


class Part:
    """A file of requests that grows until it is full, in the order in which they come."""

    def __init__(self, directory: Path, most_requests: int, most_bytes: int):
        directory.mkdir(parents=True, exist_ok=True)
        self.most_requests, self.most_bytes = most_requests, most_bytes
        self.path = directory / f"{uuid4().hex}.partial"
        self.requests: dict[bytes, tuple[bytes, int | None]] = {}
        self._file = self.path.open("wb")
        self._size = 0
        self._hash = blake2b(digest_size=16)

    def takes(self, line: bytes) -> bool:
        """Whether there is room for one more."""
        return len(self.requests) < self.most_requests and self._size + len(line) <= self.most_bytes

    def add(self, known: Keys, cap: int | None, line: bytes) -> None:
        """Append a request."""
        self.requests[known.cut] = (known.whole, cap)
        self._file.write(line)
        self._hash.update(line)
        self._size += len(line)

    def closed(self) -> str:
        """The token of the finished file, under which it lies from here on."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        token = f"{self._hash.hexdigest()}-{uuid4().hex[:8]}"
        self.path.rename(self.path.with_name(f"{token}.jsonl"))
        return token

    def discard(self) -> None:
        """Remove a file that was not finished."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class BatchLedger:
    """The batches in the ledger `calls`, and their files."""

    def __init__(self, calls: Calls):
        self.directory = calls.path.parent / "batches"
        self._path = calls.path
        self._db = Database(calls.path, MIGRATIONS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that is at the batches of this run. Raises Refused while another is."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    f"{self.directory}: another process is at the batches of this run; wait until it is done, "
                    "or name another --run"
                ) from None
            unmade = {
                token for (token,) in self._db.rows("SELECT token FROM batches WHERE batch IS NULL AND ended IS NULL")
            }
            for left in self.directory.iterdir():
                if left.stem not in unmade:  # of a process that was killed
                    left.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def file(self, token: str) -> Path:
        """Where the file of a batch lies, until it is made."""
        return self.directory / f"{token}.jsonl"

    def add(self, part: Part, model: int) -> Record:
        """Write a full part down as a batch, with every request in it; nothing was sent yet."""
        with space_wanted("a batch", self.directory):
            token = part.closed()
        values = [(cut, *each, line) for line, (cut, each) in enumerate(part.requests.items(), 1)]
        with space_wanted("the calls ledger", self._path), self._db.transaction() as db:
            added = db.execute(
                "INSERT INTO batches (model, token, requests, created) VALUES (?, ?, ?, ?)",
                (model, token, len(values), now()),
            )
            number = added.lastrowid or 0
            db.executemany(
                "INSERT INTO batch_requests VALUES (?1, ?2, ?3, ?5, ?4, 0, NULL, 0) "
                "ON CONFLICT (cut) DO UPDATE SET batch = ?5, line = ?4",
                [(*each, number) for each in values],
            )
        return Record(number, model, token, len(values), None, None)

    def left(self, cut: bytes) -> Left | None:
        """What is known of a request without an answer; None for one that was in no batch."""
        found = self._db.rows(
            "SELECT whole, cap, batch, line, attempts, error, final FROM batch_requests WHERE cut = ?", cut
        )
        return Left(*found[0]) if found else None

    def open(self, numbers: Iterable[int]) -> list[Record]:
        """Those of these batches that have not ended, in order."""
        wanted = set(numbers)
        return [record for record in self.all_open() if record.number in wanted]

    def all_open(self) -> list[Record]:
        """The batches that have not ended, in order."""
        query = "SELECT number, model, token, requests, file, batch FROM batches WHERE ended IS NULL ORDER BY number"
        return [Record(*row) for row in self._db.rows(query)]

    def requests(self, number: int) -> dict[bytes, Left]:
        """The requests in a batch that have no answer."""
        query = "SELECT cut, whole, cap, batch, line, attempts, error, final FROM batch_requests WHERE batch = ?"
        return {cut: Left(*rest) for cut, *rest in self._db.rows(query, number)}

    def uploaded(self, number: int, file: str) -> None:
        """The provider has the file of a batch."""
        self._set("UPDATE batches SET file = ? WHERE number = ?", file, number)

    def made(self, record: Record, batch: str) -> None:
        """The provider has made the batch."""
        self._set("UPDATE batches SET batch = ? WHERE number = ?", batch, record.number)
        self.file(record.token).unlink(missing_ok=True)

    def ended(self, record: Record, status: str, answered: Iterable[bytes], failed: dict[bytes, Failure]) -> None:
        """A batch has ended: what was answered is in the ledger; every other request in it is free to be asked again,
        unless its failure is final."""
        failures = [(f.error, f.final, f.counts, cut) for cut, f in failed.items()]
        with space_wanted("the calls ledger", self._path), self._db.transaction() as db:
            db.executemany("DELETE FROM batch_requests WHERE cut = ?", [(cut,) for cut in answered])
            db.executemany(
                "UPDATE batch_requests SET error = ?, final = ?, attempts = attempts + ? WHERE cut = ?", failures
            )
            db.execute("UPDATE batch_requests SET batch = NULL WHERE batch = ?", (record.number,))
            db.execute("UPDATE batches SET ended = ?, status = ? WHERE number = ?", (now(), status, record.number))
        self.file(record.token).unlink(missing_ok=True)

    def settle(self) -> None:
        """Write down as ended the batches whose every request has an answer: those of a process that was killed between
        the last answer and that note."""
        if not self.all_open():
            return
        with space_wanted("the calls ledger", self._path), self._db.transaction() as db:
            db.execute(
                "DELETE FROM batch_requests WHERE batch IS NOT NULL AND EXISTS (SELECT 1 FROM calls WHERE key = cut "
                "OR (key = whole AND (cap IS NULL OR tokens_out <= cap)))"
            )
            db.execute(
                "UPDATE batches SET ended = ?, status = 'answered' WHERE ended IS NULL AND batch IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM batch_requests WHERE batch_requests.batch = number)",
                (now(),),
            )

    def forget(self, cuts: Sequence[bytes]) -> None:
        """Let requests whose failure was told be asked for again, as if they were new."""
        with space_wanted("the calls ledger", self._path), self._db.transaction() as db:
            db.executemany("DELETE FROM batch_requests WHERE cut = ? AND final", [(cut,) for cut in cuts])

    def mean_answer(self, model: int, least: int) -> float | None:
        """The mean tokens of a model's answers, None while there are fewer than `least`."""
        query = "SELECT avg(tokens_out), count(tokens_out) FROM (SELECT tokens_out FROM calls WHERE model = ? LIMIT ?)"
        mean, count = self._db.rows(query, model, 10_000)[0]
        return mean if count >= least else None

    def _set(self, statement: str, *values: object) -> None:
        with space_wanted("the calls ledger", self._path), self._db.transaction() as db:
            db.execute(statement, values)


def line_of(custom_id: str, body: bytes) -> bytes:
    """A line of a batch's file (https://platform.openai.com/docs/api-reference/batch/request-input)."""
    head = orjson.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"})
    return head[:-1] + b',"body":' + body + b"}\n"


def cut_of(custom_id: object) -> bytes:
    """The key of a custom id; empty for one that is not ours."""
    with suppress(ValueError, TypeError):
        return bytes.fromhex(str(custom_id))
    return b""
