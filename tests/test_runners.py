"""The same rows on the native runner and on a local Ray cluster, step by step; each runner in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.test_filter import LONG, QUESTION, pile, write

RULES = """
rules:
  - {name: no_rivers, where: "response like '%rivering rivering%'"}
  - {name: personal_data, action: report}
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
steps = {
    "rules": lambda t: gristmill.apply_rules(t, [*gristmill.DEFAULT_RULES, own]),
    "minimum": lambda t: gristmill.minimum_scores(t, {"quality": 2.0}),
    "top": lambda t: gristmill.keep_top(t, 0.9, "quality"),
    "contamination": lambda t: gristmill.mark_contaminated(t, index),
    "exact": lambda t: gristmill.exact(t, prefer="quality"),
    "near": lambda t: gristmill.near(t, 0.7, boilerplate=0.5).table,
    "openings": lambda t: gristmill.mark_openings(t, drop=True),
}
found = {}
for name, step in steps.items():
    table = daft.from_arrow(step(table).to_arrow())
    columns = [c for c in table.column_names if c.startswith(("drop_", "rule_", "flag_")) or c in ("id", "copy")]
    found[name] = sorted(json.dumps(row, sort_keys=True) for row in table.select(*columns).to_pylist())
print(json.dumps(found))
"""


def run(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def inputs(tmp_path):
    rows = pile() + [row | {"output": f"{row['output']} Indeed {n}."} for n, row in enumerate(pile()[:12])]
    rows += [{"instruction": f"Tell me tale {n}.", "output": text, "quality": 3} for n, text in enumerate(LONG[30:])]
    parts = [write(tmp_path / f"part{n}.jsonl", rows[n::3]) for n in range(3)]
    evaluation = write(tmp_path / "eval.jsonl", [{"question": QUESTION, "answer": "18"}])
    return evaluation, parts


def test_every_step_marks_the_same_rows_on_both_runners(tmp_path, inputs):
    pytest.importorskip("ray")
    evaluation, parts = inputs
    native, ray = (json.loads(run("-c", STEPS, name, evaluation, *parts, cwd=tmp_path)) for name in ("native", "ray"))
    for step, rows in native.items():
        assert rows == ray[step], step
    reasons = {json.loads(row)["drop_rule"] for row in native["openings"]}
    assert {"empty", "refusal", "below_quality", "contaminated", "exact_duplicate", "near_duplicate"} <= reasons


def test_the_whole_filter_writes_the_same_rows_on_both_runners(tmp_path, inputs):
    pytest.importorskip("ray")
    import pyarrow.parquet as pq

    evaluation, parts = inputs
    (tmp_path / "rules.yaml").write_text(RULES)
    command = [
        "-m",
        "gristmill",
        "filter",
        *parts,
        "--against",
        evaluation,
        "--rules",
        "rules.yaml",
        "--min",
        "quality=2",
    ]
    for runner in ("native", "ray"):
        run(*command, "--collapse", "mark", "--runner", runner, "-o", runner, cwd=tmp_path)
    native, ray = (pq.read_table(tmp_path / name / "rows.parquet") for name in ("native", "ray"))
    assert native.column_names == ray.column_names
    assert native.to_pylist() == ray.to_pylist()
