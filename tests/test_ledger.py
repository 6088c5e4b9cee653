"""The ledger: migrations, claims and their leases, hashes of input files."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass

import pytest

import gristmill.ledger as ledgers
from gristmill.errors import UsageError
from gristmill.keys import hashed_files
from gristmill.ledger import FILE, MIGRATIONS, Ledger, Owner, StepRecord, ledger_of

RECORD = StepRecord("k", "made", [], {}, {"tuple": None, "fields": {}}, 3, 10, 0.1, 50.0, "2026-01-01", "steps/made-k")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def applied(path):
    return [name for (name,) in sqlite3.connect(path).execute("SELECT name FROM migrations ORDER BY rowid")]


def test_migrations_are_applied_once_and_in_order(tmp_path, monkeypatch, ledger):
    assert applied(tmp_path / FILE) == [migration.__name__ for migration in MIGRATIONS]

    def m999_note(db):
        db.execute("ALTER TABLE steps ADD COLUMN note TEXT")

    monkeypatch.setattr(ledgers, "MIGRATIONS", [*MIGRATIONS, m999_note])
    ledger.finish(RECORD, [], ledger.claim("k"))
    for _ in range(2):
        assert Ledger(tmp_path).step("k") == RECORD
    assert applied(tmp_path / FILE)[-1] == "m999_note"
    monkeypatch.setattr(ledgers, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(UsageError, match=r"a newer Gristmill wrote it \(m999_note\); upgrade"):
        Ledger(tmp_path)


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path, monkeypatch, ledger):
    def m998_half(db):
        db.execute("CREATE TABLE half (x)")
        raise RuntimeError("stopped")

    monkeypatch.setattr(ledgers, "MIGRATIONS", [*MIGRATIONS, m998_half])
    with pytest.raises(RuntimeError):
        Ledger(tmp_path)
    assert sqlite3.connect(tmp_path / FILE).execute("SELECT * FROM sqlite_master WHERE name = 'half'").fetchall() == []
    assert ledger.steps() == []


def test_what_is_no_ledger_is_one_line(tmp_path):
    (tmp_path / FILE).write_text("not a database at all " * 100)
    with pytest.raises(UsageError, match="not a database"):
        Ledger(tmp_path)
    with pytest.raises(UsageError, match="no run there"):
        ledger_of(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_claim_is_one_processs_until_it_is_released(ledger):
    token = ledger.claim("k")
    assert token and ledger.claim("k") is None and ledger.claim("other")
    ledger.release(token)
    assert ledger.claim("k")


def test_a_finished_step_cannot_be_claimed(ledger):
    token = ledger.claim("k")
    assert ledger.finish(RECORD, [("rows.parquet", 10, "h")], token)
    assert ledger.claim("k") is None and ledger.claimed() == []
    assert ledger.step("k") == RECORD and ledger.files("k") == [("rows.parquet", 10, "h")]
    ledger.mark_pruned(["k"])
    assert ledger.step("k") is None and ledger.claim("k")


def test_a_claim_that_was_lost_writes_nothing_down(ledger):
    token = ledger.claim("k")
    ledger.release(token)
    assert ledger.claim("k")
    assert not ledger.renew(token) and not ledger.finish(RECORD, [], token)
    assert ledger.step("k") is None


@dataclass
class Elsewhere:
    """Another process, as the ledger sees it."""

    host: str
    pid: int
    started: str

    def claims(self, ledger, monkeypatch, lease):
        with monkeypatch.context() as patched:
            patched.setattr(ledgers, "this_process", lambda: Owner(self.host, self.pid, self.started))
            patched.setattr(ledgers, "LEASE_SECONDS", lease)
            return ledger.claim("k")


def test_a_claim_is_void_once_its_process_is_gone_or_its_lease_is_over(ledger, monkeypatch):
    me = ledgers.this_process()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    parent = Owner(me.host, os.getppid(), ledgers._started(os.getppid()) or "")
    for other, lease, stands in [
        (Elsewhere(*parent), 60, True),
        (Elsewhere(*parent), -1, False),
        (Elsewhere(me.host, gone.pid, "1"), 60, False),
        (Elsewhere(me.host, parent.pid, "another time"), 60, False),  # the number was given to another process
        (Elsewhere("another host", gone.pid, "1"), 60, True),
        (Elsewhere("another host", gone.pid, "1"), -1, False),
    ]:
        assert other.claims(ledger, monkeypatch, lease)
        token = ledger.claim("k")
        assert (token is None) == stands, (other, lease)
        with ledger._transaction() as db:
            db.execute("DELETE FROM claims")


def test_a_claim_of_this_process_that_an_error_left_is_void(ledger, monkeypatch):
    token = ledger.claim("k")
    monkeypatch.setattr(ledgers, "_held", set())
    assert ledger.claim("k") not in (None, token)


def test_an_input_file_is_hashed_once_while_it_stays_as_it_is(tmp_path, ledger, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_text("{}\n")
    monkeypatch.setattr("gristmill.keys.SETTLED", -1)
    first = hashed_files([str(path)], ledger)
    read = []
    monkeypatch.setattr("gristmill.keys.file_hash", lambda path: read.append(path) or "hashed again")
    assert hashed_files([str(path)], ledger) == first and read == []
    path.write_text("[]\n")
    assert hashed_files([str(path)], ledger) == [{"name": str(path), "hash": "hashed again"}]


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path, ledger):
    path = tmp_path / "data.jsonl"
    path.write_text("{}\n")
    os.utime(path, (1e9, 1e9))
    hashed_files([str(path)], ledger)
    assert ledger.known_hash(str(path), path.stat()) is None


def test_a_directory_and_a_url_name_their_files(tmp_path, ledger):
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("{}\n")
    found = hashed_files([str(tmp_path / "data")], ledger)
    assert [each["name"][-7:] for each in found] == ["a.jsonl", "b.jsonl"]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.bin").write_bytes(b"1")
    assert len(hashed_files([str(tmp_path / "weights")], ledger)) == 1

    import fsspec

    with fsspec.open("memory://ledger/a.jsonl", "w") as file:
        file.write("{}\n")
    (first,) = hashed_files(["memory://ledger/a.jsonl"], ledger)
    with fsspec.open("memory://ledger/a.jsonl", "w") as file:
        file.write("[]]\n")
    assert hashed_files(["memory://ledger/a.jsonl"], ledger) != [first]
