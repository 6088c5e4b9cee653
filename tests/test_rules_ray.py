"""The same rows on the native runner and on a local Ray cluster; each runner in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, json, daft
if sys.argv[1] == "ray":
    daft.set_runner_ray()
from gristmill.filter.rules import DEFAULT_RULES, apply_rules, own_rule
from tests.tables import samples
pairs = [("Name a fruit.", ""), ("Play a song.", "I'm sorry, but I can't help with that."), ("Speak.", "on and " * 40)]
table = samples(pairs * 3 + [("Name a fruit.", f"Apple number {n}") for n in range(20)])
if sys.argv[1] == "ray":
    table = table.into_partitions(3)
own = [own_rule("tenth", where="response like '%1_'"), own_rule("many", function=lambda rows: [False] * len(rows))]
rows = apply_rules(table, [*DEFAULT_RULES, *own]).to_pylist()
print(json.dumps(sorted(rows, key=lambda row: row["source_row"])))
"""


def test_both_runners_mark_the_same_rows() -> None:
    pytest.importorskip("ray")
    rows = []
    for runner in ("native", "ray"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, runner], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        rows.append(done.stdout.splitlines()[-1])
    assert rows[0] == rows[1]
    assert rows[0].count('"drop_rule": "') == 9 + 10
