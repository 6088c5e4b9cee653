"""`gristmill runs`: the tree, verification, pruning."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gristmill.cli.main
from gristmill.keys import file_hash
from gristmill.models.calls import Calls
from gristmill.run import Run
from tests.tables import samples


def read(path):
    return samples((line, f"the answer to {line}") for line in Path(path).read_text().splitlines())


def shortened(table, most):
    return table.where(f"length(response) < {most}")


@pytest.fixture
def gristmill_(capsys):
    def called(*arguments):
        with pytest.raises(SystemExit) as ended:
            gristmill.cli.main.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return called


@pytest.fixture
def run(tmp_path):
    (tmp_path / "data.txt").write_text("one\ntwo\nthree")
    run = Run(tmp_path / "run")
    table = run.step(read, str(tmp_path / "data.txt"))
    for most in (18, 19):  # the second supersedes the first
        short = run.step(shortened, table, most=most)
    (tmp_path / "out").mkdir(exist_ok=True)
    pq.write_table(short.to_arrow(), tmp_path / "out" / "rows.parquet")
    run.output(tmp_path / "out", "filter", inputs=[short], params={}, counts={"rows_in": 3})
    return run


def test_the_tree_shows_what_came_from_what(run, gristmill_):
    code, out, _ = gristmill_("runs", run.path)
    assert code == 0
    lines = [line.lstrip("│├└─ ") for line in out.splitlines()]
    first, second, third = (step.key[:8] for step in run.steps)
    shown = [line.split("  ")[0] for line in lines[1:]]
    out, data = str(run.path.parent / "out"), str(run.path.parent / "data.txt")
    assert shown == [out, "shortened", "read", data, "shortened", "read"]
    assert lines[2].endswith(third) and "2 rows" in lines[2]
    assert lines[3].endswith(first) and lines[5].endswith(second)
    assert lines[6] == f"read  {first}  as above"


def test_json_holds_every_step_and_output(run, gristmill_):
    code, out, _ = gristmill_("runs", "--run", run.path, "--json")
    found = json.loads(out)
    assert code == 0 and [step["name"] for step in found["steps"]] == ["read", "shortened", "shortened"]
    assert found["outputs"][0]["inputs"] == [run.steps[2].key] and found["outputs"][0]["counts"] == {"rows_in": 3}
    assert found["bytes"] == sum(step["bytes"] for step in found["steps"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no run there"),
        (["run", "--run", "other"], "name one run"),
        (["run", "--all"], "--all: only with --prune"),
        (["run", "--verify", "--prune"], "one at a time"),
    ],
)
def test_misuse_is_one_line_and_exit_2(run, gristmill_, monkeypatch, arguments, message):
    monkeypatch.chdir(run.path.parent)
    code, _, err = gristmill_("runs", *arguments)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not Path("nowhere").exists()


def test_verify_looks_at_every_file_and_id(run, gristmill_):
    code, out, _ = gristmill_("runs", run.path, "--verify")
    assert code == 0 and "9 ids verified" in out.replace("\n", " ")  # 3 + 2 + 2 in steps, 2 in the output


def test_verify_finds_a_flipped_byte(run, gristmill_):
    path = next((run.path / run.steps[1].path).rglob("*.parquet"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    code, out, err = gristmill_("runs", run.path, "--verify")
    assert code == 1 and str(path) in out
    assert f"step shortened {run.steps[1].key[:8]}: {path}: expected the hash " in err
    assert f"found {file_hash(path)}; delete {run.steps[1].path}, and run again what made it" in err
    told = json.loads(gristmill_("runs", run.path, "--verify", "--json")[1])
    assert [(each["path"], each["found"]) for each in told["damaged"]] == [(str(path), file_hash(path))]


def test_verify_finds_a_missing_file_and_an_output_that_is_gone_is_no_damage(run, gristmill_, tmp_path):
    (tmp_path / "out" / "rows.parquet").unlink()
    code, _, err = gristmill_("runs", run.path, "--verify")
    assert code == 1 and "output filter" in err and "found none; run again what wrote it" in err
    (tmp_path / "out").rmdir()
    code, out, _ = gristmill_("runs", run.path, "--verify")
    assert code == 0 and f"{tmp_path / 'out'}: gone" in out


def test_verify_finds_a_row_whose_content_has_another_id(run, gristmill_):
    path = next((run.path / run.steps[0].path).rglob("*.parquet"))
    table = pq.read_table(path)
    place = table.schema.get_field_index("response")
    responses = table["response"].to_pylist()
    field = table.schema.field(place)
    changed = table.set_column(place, field, pa.array(["another answer", *responses[1:]], field.type))
    pq.write_table(changed, path)
    relative = path.relative_to(run.steps[0].path).as_posix()
    with run.ledger._transaction() as db:  # a defect that writes a wrong row writes its true hash
        db.execute(
            "UPDATE files SET bytes = ?, hash = ? WHERE step = ? AND path = ?",
            (path.stat().st_size, file_hash(path), run.steps[0].key, relative),
        )
    code, _, err = gristmill_("runs", run.path, "--verify")
    assert code == 1 and "step read" in err and f"found {table['id'][0].as_py()} (1 such rows)" in err


def test_prune_deletes_what_is_superseded_and_what_was_left(run, gristmill_):
    first, second, third = run.steps
    (run.path / "steps" / "orphan-0123").mkdir()
    (run.path / "steps" / ".read-0123.1-ab.partial").mkdir()
    code, out, _ = gristmill_("runs", run.path, "--prune", "--dry-run")
    assert code == 0 and "would be freed" in out and Path(second.path).exists()
    code, out, _ = gristmill_("runs", run.path, "--prune")
    assert code == 0 and out.splitlines()[0].startswith(f"shortened  {second.key[:8]}")
    assert sorted(run.path.glob("steps/*")) == sorted(map(Path, (first.path, third.path)))
    assert not list(run.path.glob("steps/.*"))
    assert [step.pruned is not None for step in run.ledger.steps()] == [False, True, False]
    assert "pruned" in gristmill_("runs", run.path)[1]
    again = Run(run.path)
    table = again.step(read, str(run.path.parent / "data.txt"))
    assert again.step(shortened, table, most=18).count_rows() == 2
    assert [step.reused for step in again.steps] == [True, False]


def test_prune_keeps_what_is_newer_than_every_output(run, gristmill_):
    table = run.step(read, str(run.path.parent / "data.txt"))
    run.step(shortened, table, most=20)
    gristmill_("runs", run.path, "--prune")
    assert [step.pruned is None for step in run.ledger.steps()] == [True, False, True, True]


def test_without_an_output_nothing_is_superseded(run, gristmill_):
    (run.path.parent / "out" / "rows.parquet").unlink()
    (run.path.parent / "out").rmdir()
    gristmill_("runs", run.path, "--prune")
    assert all(step.pruned is None for step in run.ledger.steps())
    gristmill_("runs", run.path, "--prune", "--all")
    assert all(step.pruned for step in run.ledger.steps()) and not list(run.path.glob("steps/*"))


def test_prune_waits_for_a_step_that_is_being_computed(run, gristmill_):
    token = run.ledger.claim("k")
    code, _, err = gristmill_("runs", run.path, "--prune")
    assert code == 1 and "is computing a step" in err
    run.ledger.release(token)


@pytest.mark.parametrize("arguments", [["run"], ["--run", "run"], ["run", "--run", "run"]])
def test_calls_takes_a_run_as_runs_does(run, gristmill_, monkeypatch, arguments):
    Calls(run.path)
    monkeypatch.chdir(run.path.parent)
    code, out, _ = gristmill_("calls", *arguments, "--json")
    assert code == 0 and json.loads(out)["run"] == "run"
    code, _, err = gristmill_("calls", "run", "--run", "other")
    assert code == 2 and "name one run" in err
