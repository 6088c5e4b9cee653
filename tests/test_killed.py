"""The filter survives kills at any moment, a second process, and a damaged run: the same rows, nothing done twice."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing

import pytest

from gristmill.ledger import Ledger
from tests.started import ROWS, STAGES, command, ended, environment, home, killed_at, left_behind, reached, start, told


@pytest.fixture(scope="module")
def milled(tmp_path_factory):
    place = home(tmp_path_factory.mktemp("undisturbed"))
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert code == 0, said
    return place


@pytest.fixture(scope="module")
def undisturbed(milled):
    return told(milled / "out")


def finished(place):
    return {step.key: (step.name, step.created) for step in Ledger(place / "run").steps()}


def lineage(out):
    return {step["key"]: step for step in json.loads((out / "summary.json").read_text())["lineage"]}


def test_the_filter_that_is_killed_has_something_to_do_in_every_stage(undisturbed):
    summary = undisturbed[-1]
    dropped = {stage["name"]: stage["dropped"] for stage in summary["stages"]}
    assert set(dropped) == STAGES and all(dropped.values()), dropped
    assert len(undisturbed[2]) > 50 and summary["rows_in"] == ROWS


def test_killed_at_moment_after_moment_it_ends_with_the_same_rows(tmp_path, undisturbed):
    place = home(tmp_path / "home")
    arguments = ("-o", "out", "--run", "run")
    before: dict[str, tuple[str, str]] = {}
    for moment, done in [
        ("read", set()),
        ("near", {"read", "contamination", "signatures", "exact"}),
        ("write", {"read", "contamination", "signatures", "exact", "near", "openings"}),
        ("commit", {"read", "contamination", "signatures", "exact", "near", "openings"}),
    ]:
        killed_at(place, moment, *arguments)
        after = finished(place)
        assert {name for name, _ in after.values()} == done and not (place / "out").exists()
        assert before.items() <= after.items()
        before = after
    code, said = ended(start(place, *arguments))
    assert code == 0, said
    assert told(place / "out") == undisturbed
    assert finished(place) == before and all(step["reused"] for step in lineage(place / "out").values())

    killed_at(place, "aside", *arguments)  # the earlier output has moved aside, the new one is not there yet
    assert not (place / "out").exists()
    code, said = ended(start(place, *arguments))
    assert code == 0, said
    assert told(place / "out") == undisturbed and finished(place) == before
    assert left_behind(place) == []


@pytest.mark.parametrize("outs", [("out-a", "out-b"), ("out", "out")])
def test_two_filters_on_one_run_compute_each_step_once(tmp_path, undisturbed, outs):
    place = home(tmp_path / "home")
    (place / "hold-read").touch()
    both = [start(place, "-o", out, "--run", "run") for out in outs]
    partials = {f".{out}.*.partial" for out in outs}
    while sum(len(list(place.glob(pattern))) for pattern in partials) < 2:  # one reads, the other waits for it
        reached(place, both[0], *partials)
        assert both[1].poll() is None, ended(both[1])
    reached(place, both[0], "at-read")
    (place / "hold-read").unlink()
    for process in both:
        code, said = ended(process)
        assert code == 0, said
    for out in outs:
        assert told(place / out) == undisturbed
    if outs[0] != outs[1]:
        steps = [step for out in outs for step in lineage(place / out).values()]
        assert set(Counter(step["key"] for step in steps if not step["reused"]).values()) == {1}
        assert {step["key"] for step in steps if not step["reused"]} == set(finished(place))
    ledger = Ledger(place / "run")
    assert len(finished(place)) == 6 and len(ledger.outputs()) == 2 and ledger.claimed() == []
    assert left_behind(place) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def damage(run):
    (part,) = run.glob("steps/read-*/rows/*.parquet")
    cut(part)
    (values,) = run.glob("steps/near-*/values.json")
    cut(values)
    (directory,) = run.glob("steps/exact-*")
    shutil.rmtree(directory)


@pytest.mark.parametrize("lost", ["some", "ledger"])
def test_what_is_damaged_is_computed_again_and_the_rest_is_not(tmp_path, milled, undisturbed, lost):
    place = shutil.copytree(milled, tmp_path / "home")
    before = finished(place)
    if lost == "some":
        damage(place / "run")
    else:
        (place / "run" / "ledger.sqlite").write_bytes(b"")
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert code == 0, said
    assert told(place / "out") == undisturbed
    changed = {name for key, (name, created) in finished(place).items() if before[key] != (name, created)}
    assert changed == ({"read", "near", "exact"} if lost == "some" else {name for name, _ in before.values()})
    assert len(list((place / "run" / "steps").iterdir())) == len(before) and left_behind(place) == []


def text(ledger):
    ledger.write_text("no ledger at all\n" * 1_000)


def directory(ledger):
    ledger.unlink()
    ledger.mkdir()


def torn(ledger):
    ledger.write_bytes(ledger.read_bytes()[:4096] + bytes(ledger.stat().st_size - 4096))


def newer(ledger):
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("INSERT INTO migrations VALUES ('m999_shelves', '2030-01-01')")
        db.commit()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (text, "file is not a database; name the directory of a run, or delete it: what it lists is lost"),
        (directory, "unable to open database file; name the directory of a run, or delete it: what it lists is lost"),
        (torn, "database disk image is malformed; name the directory of a run, or delete it: what it lists is lost"),
        (newer, "a newer Gristmill wrote it (m999_shelves); upgrade, or name another run directory"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_one_line(tmp_path, milled, spoil, line):
    place = shutil.copytree(milled, tmp_path / "home")
    spoil(place / "run" / "ledger.sqlite")
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert (code, said) == (2, f"gristmill: {place / 'run' / 'ledger.sqlite'}: {line}\n")
    assert left_behind(place) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_without_permission_is_one_line(tmp_path, milled):
    place = shutil.copytree(milled, tmp_path / "home")
    for path in (place / "run", *(place / "run").glob("ledger*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    (place / "run").chmod(0o755)
    assert code == 2 and said.count("\n") == 1 and "Permission denied); make it writable, or name another" in said


def test_a_run_on_a_disk_that_may_only_be_read_is_one_line(tmp_path, milled):
    place = shutil.copytree(milled, tmp_path / "home")
    mount = "mount --bind run run && mount -o remount,bind,ro run"
    alone = ["unshare", "-rm", "sh", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, mount], cwd=place, capture_output=True, check=False).returncode
    ):
        pytest.skip("no user and mount namespaces here, so no disk that may only be read")
    whole = [*alone, f'{mount} && exec "$@"', "sh", *command("-o", "out", "--run", "run")]
    done = subprocess.run(whole, cwd=place, env=environment(place), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        f"gristmill: {place / 'run' / 'ledger.sqlite'}: unable to open database file (Read-only file system); "
        "make it writable, or name another run directory\n",
    )
