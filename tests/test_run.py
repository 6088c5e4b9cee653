"""A run computes a step once, knows it by its content, and survives kills, a second process and a full disk."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import daft
import numpy as np
import pyarrow as pa
import pytest

from gristmill.errors import BadInput, OutOfSpace, UsageError
from gristmill.keys import arrow_hash, canonical, rows_hash
from gristmill.run import Run

ROOT = Path(__file__).parent.parent


class Both(NamedTuple):
    table: daft.DataFrame
    arrow: pa.Table
    counts: dict[str, Any]


def numbers(calls, n=3):
    with Path(calls).open("a") as file:
        file.write("x")
    return pa.table({"a": list(range(n))})


def counted(_calls, n=3, **more):  # noqa: ARG001
    return numbers(_calls, n)


def lines(path, _calls):
    numbers(_calls)
    return daft.from_pydict({"text": Path(path).read_text().split()})


def doubled(table):
    return table.with_column("b", daft.col("a") * 2)


def both(n):
    return Both(daft.from_pydict({"a": list(range(n))}).where("a > 1"), pa.table({"z": [1, None]}), {"n": n, "l": [1]})


def in_order(n):
    return daft.from_pydict({"a": list(range(n))[::-1]}).sort("a")


def empty(table):
    return table.where("a > 100")


def broken(n):
    raise RuntimeError(f"no {n}")


def full(n):
    raise OSError(errno.ENOSPC, "No space left on device", str(n))


def nothing():
    return 3


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "calls"
    path.touch()
    return path


def partials(run):
    return sorted(path.name for path in (run.path / "steps").glob(".*"))


def test_a_step_is_computed_once(run, calls):
    first = run.step(counted, _calls=str(calls), n=4)
    again = Run(run.path)
    assert again.step(counted, _calls=str(calls), n=4) == first == pa.table({"a": [0, 1, 2, 3]})
    assert calls.read_text() == "x"
    assert [step.reused for step in run.steps + again.steps] == [False, True]
    record = again.steps[0]
    assert (record.name, record.rows, record.params) == ("counted", 4, {"n": 4})
    assert record.bytes > 0 and record.peak_rss_mb > 0 and record.created == run.steps[0].created


def test_the_parameters_decide_and_their_order_does_not(run, calls):
    for more in ({"d": {"x": 1, "y": 2}}, {"d": {"y": 2, "x": 1}}, {"d": {"x": 1, "y": 3}}, {"d": {"x": 1}, "e": None}):
        run.step(counted, _calls=str(calls), **more)
    assert [step.reused for step in run.steps] == [False, True, False, False]
    run.step(counted, _calls=calls, d={"x": 1, "y": 2})  # `_calls` stays out of the key
    assert run.steps[-1].reused


def test_the_content_of_a_file_decides_and_its_time_does_not(run, calls, tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("one two")
    os.utime(data, (1e9, 1e9))
    assert run.step(lines, data, _calls=calls).to_pydict() == {"text": ["one", "two"]}
    os.utime(data, (2e9, 2e9))
    run.step(lines, str(data), _calls=calls)
    data.write_text("one 2wo")  # as long as before
    os.utime(data, (2e9, 2e9))
    assert run.step(lines, data, _calls=calls).to_pydict() == {"text": ["one", "2wo"]}
    other = tmp_path / "other.txt"
    other.write_text("one 2wo")
    run.step(lines, other, _calls=calls)  # rows carry the name of their file
    assert [step.reused for step in run.steps] == [False, True, False, False]
    assert run.steps[0].inputs[0]["name"] == str(data)


def test_a_missing_file_is_bad_input(run, calls, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        run.step(lines, tmp_path / "nope.txt", _calls=calls)


def test_an_input_table_decides_by_its_rows_in_any_order(run):
    one = daft.from_pydict({"a": [1, 2, 3], "s": ["x", None, ""]})
    for table in (one, one.sort("a", desc=True), one.where("a > 1"), one.with_column("s", daft.lit("x"))):
        run.step(doubled, table)
    steps = [step for step in run.steps if step.name == "doubled"]
    assert [step.reused for step in steps] == [False, True, False, False]
    assert steps[0].inputs[0]["name"] == "given"


def test_a_table_of_a_step_is_known_by_that_step(run):
    table = run.step(both, n=5).table
    run.step(doubled, table)
    assert run.steps[1].inputs == [{"name": "both", "key": run.steps[0].key, "field": "table"}]
    assert run.key(table) == run.steps[0].key
    assert [Path(path).name for path in run.files(table)] == ["part-00000.parquet"]
    with pytest.raises(UsageError, match="not one that a step of this run returned"):
        run.files(table.where("a > 1"))


def test_every_shape_comes_back_as_it_was(run):
    first = run.step(both, n=5)
    again = Run(run.path).step(both, n=5)
    for result in (first, again):
        assert isinstance(result, Both)
        assert result.table.to_pydict() == {"a": [2, 3, 4]}
        assert result.arrow == pa.table({"z": [1, None]})
        assert result.counts == {"n": 5, "l": [1]}
    nothing_left = run.step(empty, first.table)
    assert nothing_left.to_pydict() == {"a": []}
    assert nothing_left.schema() == first.table.schema()


def test_a_large_table_is_stored_in_parts_that_keep_its_order(run, monkeypatch):
    monkeypatch.setattr("gristmill.stored.PARTS_BYTES", 1 << 16)
    table = run.step(in_order, n=200_000)
    assert len(run.files(table)) > 1
    assert table.to_pydict()["a"] == list(range(200_000))


def test_what_is_not_known_by_its_content_is_refused(run):
    with pytest.raises(UsageError, match="counted: thing: a object has no content"):
        run.step(counted, thing=object())
    with pytest.raises(UsageError, match="input 1 is a int"):
        run.step(counted, 3)
    with pytest.raises(UsageError, match="give it a name"):
        run.step(lambda: pa.table({}))
    for fn in (partial(both, 3), "text".upper, len):
        with pytest.raises(UsageError, match="a step is a plain function, not a"):
            run.step(fn)
    with pytest.raises(UsageError, match="nothing: returned a int"):
        run.step(nothing)
    captured = object()

    def inner():
        return pa.table({"a": [str(captured)]})

    with pytest.raises(UsageError, match="captures 'captured'"):
        run.step(inner)


def test_a_captured_value_is_part_of_the_key(run):
    def step_of(value):
        def inner():
            return pa.table({"a": [value]})

        return inner

    assert [run.step(step_of(value))["a"].to_pylist() for value in (1, 2, 1)] == [[1], [2], [1]]
    assert [step.reused for step in run.steps] == [False, False, True]


def test_canonical_tells_values_apart_that_json_would_not():
    values = [1, 1.0, True, "1", None, [1], {1}, {"1": 1}, {1: 1}, b"1", float("nan"), np.zeros(1), np.zeros((1, 1))]
    values += [pa.schema([("a", pa.int64())]), pa.schema([("a", pa.int32())]), len, doubled, empty, {"$set": [1]}]
    values += [lambda x: x + 1, lambda x: x + 2]
    seen = [repr(canonical(value, "x")) for value in values]
    assert len(set(seen)) == len(values)
    assert canonical({"b", "a"}, "x") == canonical({"a", "b"}, "x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([["a", "b"]], [["b", "a"]]),
        ([[]], [None]),
        ([[""]], [[None]]),
        ([[], ["a"]], [["a"], None]),
        ([["a"], ["b"]], [["a", "b"], []]),
    ],
)
def test_the_hash_of_rows_tells_nested_values_apart(one, other):
    form = pa.large_list(pa.large_string())
    tables = [pa.table({"x": pa.array(values, form)}) for values in (one, other)]
    first, second = (rows_hash(table.to_batches(), table.schema) for table in tables)
    assert first != second
    turned = tables[0].take(list(range(len(one)))[::-1])
    assert rows_hash(turned.to_batches(), turned.schema) == first
    assert arrow_hash(tables[0]) == arrow_hash(pa.concat_tables([tables[0].slice(0, 1), tables[0].slice(1)]))


def test_an_error_of_the_function_passes_through_and_leaves_nothing(run):
    for _ in range(2):  # the claim was given up
        with pytest.raises(RuntimeError, match="no 3"):
            run.step(broken, n=3)
    assert partials(run) == [] and run.ledger.claimed() == [] and run.steps == []


def test_a_full_disk_is_said_in_one_line(run):
    with pytest.raises(OutOfSpace, match=r"no space left while writing step full in .*finished steps are kept: free"):
        run.step(full, n=3)
    assert partials(run) == [] and run.ledger.claimed() == []


def test_a_damaged_size_is_computed_again(run, calls):
    table = run.step(counted, _calls=calls)
    path = Path(run.files(table)[0])
    path.write_bytes(path.read_bytes()[:-1])
    assert run.step(counted, _calls=calls) == table
    assert calls.read_text() == "xx"


def test_an_output_is_registered_with_its_files(run, tmp_path):
    table = run.step(both, n=5).table
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.jsonl").write_text("{}\n")
    assert run.latest("filter") is None
    run.output(tmp_path / "out", "filter", inputs=[table], params={"near": 0.8}, counts={"rows_in": 3})
    run.output(tmp_path / "out", "filter", inputs=[run.key(table)], params={"near": 0.7}, counts={"rows_in": 3})
    found = Run(run.path).latest("filter")
    assert found is not None and found.params == {"near": 0.7} and found.inputs == [run.steps[0].key]
    assert [(path, size) for path, size, _ in found.files] == [("kept.jsonl", 3)]
    assert len(run.outputs()) == 2
    with pytest.raises(UsageError, match="no such file or directory"):
        run.output(tmp_path / "nope", "filter")


RECIPE = """
import sys
import pyarrow as pa
from gristmill import Run
from helper import value

def made(n):
    return pa.table({"a": [value()] * n})

run = Run(sys.argv[1])
print(run.step(made, n=2)["a"].to_pylist(), run.steps[0].reused)
"""


def python(*arguments, cwd, timeout=50):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_recipe_and_what_it_imports_are_part_of_the_key(tmp_path):
    home = tmp_path / "home"
    (home / "parts").mkdir(parents=True)
    recipe, helper, part = home / "recipe.py", home / "helper.py", home / "parts" / "one.py"
    recipe.write_text(RECIPE)
    helper.write_text("def value():\n    from parts.one import ONE\n    return ONE\n")
    part.write_text("ONE = 1\n")
    (home / "unrelated.py").write_text("x = 1\n")

    def asked():
        return python(recipe, tmp_path / "run", cwd=tmp_path)

    assert [asked(), asked()] == ["[1, 1] False", "[1, 1] True"]
    (home / "unrelated.py").write_text("x = 2\n")
    os.utime(recipe)
    assert asked() == "[1, 1] True"
    part.write_text("ONE = 2\n")  # imported by what the recipe imports, inside a function
    assert asked() == "[2, 2] False"
    recipe.write_text(RECIPE.replace("* n", "* n + [9]"))
    assert asked() == "[2, 2, 9] False"


KILLED = """
import sys, time
from pathlib import Path
import daft
import gristmill.run
from gristmill.ledger import Ledger
from gristmill.run import Run

home, moment = Path(sys.argv[1]), sys.argv[2]

def stop():
    (home / "reached").touch()
    time.sleep(600)

def first():
    with (home / "calls").open("a") as file:
        file.write("1")
    return daft.from_pydict({"a": [1, 2, 3]})

def second(table):
    if moment == "computing":
        stop()
    return table.with_column("b", daft.col("a") + 1)

run = Run(home / "run")
table = run.step(first)
measure, finish = gristmill.run.measure, Ledger.finish
if moment == "written":
    gristmill.run.measure = lambda directory: (measure(directory), stop())[0]
if moment == "renamed":
    Ledger.finish = lambda *given: (stop(), finish(*given))[1]
print(run.step(second, table).to_pydict(), len(run.ledger.steps()))
"""


@pytest.mark.parametrize("moment", ["computing", "written", "renamed"])
def test_killed_anywhere_and_started_again_it_ends_with_the_same_rows(tmp_path, moment):
    script = tmp_path / "recipe.py"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path), moment], env=environment)
    while not (tmp_path / "reached").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = sorted(path.name for path in (tmp_path / "run" / "steps").glob("*second*"))
    assert len(left) == 1 and left[0].endswith(".partial") == (moment != "renamed")
    # The time limit is shorter than a lease: the claim of a process that is gone is void at once.
    assert python(script, tmp_path, "not", cwd=tmp_path) == "{'a': [1, 2, 3], 'b': [2, 3, 4]} 2"
    assert (tmp_path / "calls").read_text() == "1"
    run = Run(tmp_path / "run")
    assert partials(run) == [] and run.ledger.claimed() == []
    assert len(list((run.path / "steps").iterdir())) == 2


TWO = """
import os, sys, time
from pathlib import Path
import pyarrow as pa
from gristmill.run import Run

home = Path(sys.argv[1])

def slow(n):
    with (home / "calls").open("a") as file:
        file.write("x")
    while len(list(home.glob("asking-*"))) < 2:
        time.sleep(0.01)
    time.sleep(0.3)  # the other is past its note and asks now
    return pa.table({"a": list(range(n))})

run = Run(home / "run")
(home / f"asking-{os.getpid()}").touch()
print(run.step(slow, n=3)["a"].to_pylist())
"""


def test_two_processes_on_one_run_compute_a_step_once(tmp_path):
    script = tmp_path / "recipe.py"
    script.write_text(TWO)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate(timeout=50)[0].strip() for process in both] == ["[0, 1, 2]"] * 2
    assert (tmp_path / "calls").read_text() == "x"


FULL = """
import os, sys
from pathlib import Path
import daft, pyarrow as pa
from gristmill.errors import OutOfSpace
from gristmill.run import Run

def small(n):
    return pa.table({"a": list(range(n))})

def lazy(n):
    return daft.from_arrow(arrow(n))

def arrow(n):
    return pa.table({"a": [os.urandom(20_000).hex() for _ in range(n)]})

run = Run(sys.argv[1])
run.step(small, n=3)
for fn in (lazy, arrow):
    try:
        run.step(fn, n=300)
    except OutOfSpace as error:
        print(error)
print(len(os.listdir(run.path / "steps")))
run.step(small, n=3)
run.step(lazy, n=3)
print([step.reused for step in run.steps])
"""


def test_a_disk_that_is_really_full_stops_a_step_and_keeps_the_finished_ones(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=2m tmpfs {disk} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user and mount namespaces here, so no small disk to fill")
    script = tmp_path / "recipe.py"
    script.write_text(FULL)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [*mounted, sys.executable, str(script), str(disk / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    *errors, directories, reused = done.stdout.splitlines()
    assert [error.partition(" in ")[0] for error in errors] == [
        "no space left while writing step lazy",
        "no space left while writing step arrow",
    ]
    assert (directories, reused) == ("1", "[False, True, False]")


def test_the_python_of_the_page_on_runs_runs(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "runs.md").read_text(), re.DOTALL)
    (tmp_path / "data.jsonl").write_text('{"prompt": "Name a colour.", "response": "Blue."}\n' * 2)
    (tmp_path / "recipe.py").write_text(block)
    for _ in range(2):
        assert "2 of 2 rows" in python("recipe.py", cwd=tmp_path)
    assert [step.name for step in Run(tmp_path / "gristmill-run").ledger.steps()] == [
        *("read", "apply_rules", "exact", "only_short")
    ]
