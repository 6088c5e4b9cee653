"""The same rows on the native runner and on a Ray cluster of two nodes, each runner in processes of its own.

`-n 2` wants `--dist loadgroup`, so that one worker starts the one cluster of this module.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cluster import ENVIRONMENT, two_nodes
from tests.test_filter import LONG, QUESTION, pile, write

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")

RULES = """
rules:
  - {name: no_wheels, where: "response like '%wheeling wheeling%'"}
  - {name: where_it_ran, function: "own:ends_in_seven"}
  - {name: personal_data, action: report}
"""
OWN = """
from pathlib import Path

def ends_in_seven(rows):
    import ray
    here = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "native"
    Path(__file__).with_name(f"ran-on-{here}").touch()
    return [text.endswith(" 7.") for text in rows["response"].to_pylist()]

def too_few(rows):
    return [False]
"""
STEPS = """
import json, sys
from gristmill.runner import use_runner
use_runner(sys.argv[1])
import daft
import gristmill
from gristmill.filter.rules import own_rule

table = gristmill.read([*sys.argv[3:]], scores=["quality"])
index = gristmill.index_files([sys.argv[2]])
own = own_rule("seven", function=lambda rows: [text.endswith(" 7.") for text in rows["response"].to_pylist()])
wheels = own_rule("wheels", where="response like '%wheeling wheeling%'")
steps = {
    "rules": lambda t: gristmill.apply_rules(t, [*gristmill.DEFAULT_RULES, own, wheels]),
    "minimum": lambda t: gristmill.minimum_scores(t, {"quality": 2.0}),
    "top": lambda t: gristmill.keep_top(t, 0.9, "quality"),
    "contamination": lambda t: gristmill.mark_contaminated(t, index),
    "exact": lambda t: gristmill.exact(t, prefer="quality"),
    "near": lambda t: gristmill.near(t, 0.7, boilerplate=0.5).table,
    "openings": lambda t: gristmill.mark_openings(t, drop=True),
}
found = {}
for name, step in {"read": lambda t: t, **steps}.items():
    table = daft.from_arrow(step(table).to_arrow())
    found[name] = sorted(json.dumps(row, sort_keys=True) for row in table.to_pylist())
print(json.dumps(found))
"""


def started(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def run(*arguments: str, cwd: Path) -> str:
    done = started(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with two_nodes() as address:
        yield f"ray:{address}"


@pytest.fixture
def inputs(tmp_path):
    rows = pile() + [row | {"output": f"{row['output']} Indeed {n}."} for n, row in enumerate(pile()[:12])]
    rows += [{"instruction": f"Tell me tale {n}.", "output": text, "quality": 3} for n, text in enumerate(LONG[30:])]
    rows = [row | {"topic": f"topic {n % 2}"} for n, row in enumerate(rows)]
    parts = [write(tmp_path / f"part{n}.jsonl", rows[n::4]) for n in range(4)]
    evaluation = write(tmp_path / "eval.jsonl", [{"question": QUESTION, "answer": "18"}])
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "own.py").write_text(OWN)
    return evaluation, parts


def test_every_step_marks_the_same_rows_on_both_runners(tmp_path, inputs, cluster):
    evaluation, parts = inputs
    native, ray = (json.loads(run("-c", STEPS, name, evaluation, *parts, cwd=tmp_path)) for name in ("native", cluster))
    for step, rows in native.items():
        assert rows == ray[step], step
    reasons = {json.loads(row)["drop_rule"] for row in native["openings"]}
    assert {
        "empty",
        "refusal",
        "below_quality",
        "contaminated",
        "exact_duplicate",
        "near_duplicate",
        "seven",
    } <= reasons


def test_the_whole_filter_writes_the_same_rows_in_the_same_order_on_both_runners(tmp_path, inputs, cluster):
    evaluation, parts = inputs
    named = [f"file://{parts[0]}", parts[1], *(Path(part).name for part in parts[2:])]  # a URL, and relative paths
    reading = [*named, "--against", evaluation, "--rules", "rules.yaml", "--min", "quality=2", "--collapse", "mark"]
    judging = ["--min", "quality=3", "--near", "0.6", "--rules", "default", "--keep-top", "0.8:quality"]
    for kind, runner in (("native", "native"), ("ray", cluster)):
        command = ["-m", "gristmill", "filter", "--runner", runner]
        run(*command, *reading, "--boilerplate", "0.5", "-o", f"{kind}-read", "--run", f"run-{kind}", cwd=tmp_path)
        run(
            *command, "--from-run", f"run-{kind}", *judging, "--stratify", "topic", "-o", f"{kind}-judged", cwd=tmp_path
        )
    reasons = set()
    for out in ("read", "judged"):
        for table in ("rows.parquet", "kept.parquet", "pairs.parquet"):
            native, ray = (pq.read_table(tmp_path / f"{kind}-{out}" / table) for kind in ("native", "ray"))
            assert native.equals(ray), table
            reasons |= set(native["drop_rule"].to_pylist()) if table == "rows.parquet" else set()
        chats = [(tmp_path / f"{kind}-{out}" / "kept.jsonl").read_bytes() for kind in ("native", "ray")]
        assert chats[0] == chats[1]
    assert {
        "where_it_ran",
        "contaminated",
        "exact_duplicate",
        "near_duplicate",
        "below_quality",
        "stratified",
    } <= reasons
    nodes = {path.name for path in tmp_path.glob("ran-on-*")} - {"ran-on-native"}
    assert len(nodes) == 2, "both nodes measured rows"


def test_what_goes_wrong_on_a_node_is_said_in_one_line(tmp_path, inputs, cluster):
    _, parts = inputs
    (tmp_path / "rules.yaml").write_text('rules: [{name: own, function: "own:too_few"}]')
    for runner in ("native", cluster):
        command = ["-m", "gristmill", "filter", parts[0], "--rules", "rules.yaml", "--runner", runner, "-o", "out"]
        done = started(*command, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "gristmill: rule own: function gave 1 values for " in done.stderr.splitlines()[-1]
