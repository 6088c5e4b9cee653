"""The command line: exit codes, one-line errors, quick help."""

import json
import os
import subprocess
import sys

import pytest

from gristmill.cli.main import _spread
from tests.test_filter import pile, write


def gristmill(*arguments, cwd=None):
    command = [sys.executable, "-c", "from gristmill.cli.main import run; run()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_filter_prints_its_result_on_stdout_and_its_progress_on_stderr(tmp_path):
    data = write(tmp_path / "data.jsonl", pile())
    done = gristmill("filter", data, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"of {len(pile())} rows kept" in done.stdout
    assert "exact_duplicate" in done.stdout
    assert "read + rules" in done.stderr
    asked = gristmill("filter", data, "-o", tmp_path / "out", "--json")
    assert json.loads(asked.stdout)["rows_in"] == len(pile())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nope.jsonl"], "nope.jsonl: no such file"),
        (["data.jsonl", "--near", "1.5"], "--near 1.5: allowed is a share"),
        (["data.jsonl", "--max-bad", "x"], "--max-bad x: allowed"),
        (["data.jsonl", "--min", "quality"], "--min quality: write --min NAME=VALUE"),
        (["data.jsonl", "--min", "quality=high"], "allowed is a number"),
        (["data.jsonl", "--min", "depth=2"], "depth"),
        (["data.jsonl", "--keep-top", "0.2"], "FRACTION:NAME"),
        (["data.jsonl", "--map", "response=nope"], "no column 'nope'"),
        (["data.jsonl", "--rules", "nope.yaml"], "nope.yaml"),
        (["data.jsonl", "--against", "nope.jsonl"], "nope.jsonl: no such file"),
        (["data.jsonl", "--runner", "spark"], "--runner spark: allowed are native, ray"),
        (["empty.jsonl"], "no usable row"),
        ([], "filter: no IN; name files, or an earlier filter with --from-run DIR"),
        (["data.jsonl", "--nope"], "No such option: --nope"),
        (["data.jsonl", "--numbers", "maybe"], "'maybe' is not one of 'guard', 'merge'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(tmp_path, flags, message):
    write(tmp_path / "data.jsonl", pile())
    (tmp_path / "empty.jsonl").write_text("")
    done = gristmill("filter", *flags, "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("gristmill: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_alarm_named_by_fail_on_is_exit_1_after_the_output_is_written(tmp_path):
    rows = [row | {"output": f"{row['output']} {n}x"} for row in pile()[:1] for n in range(200)]
    write(tmp_path / "data.jsonl", rows)
    done = gristmill("filter", "data.jsonl", "-o", "out", "--fail-on", "source_loss", cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "alarm source_loss" in done.stderr
    assert (tmp_path / "out" / "summary.json").exists()


def test_against_takes_several_files_after_an_input_and_one_before():
    assert _spread(["filter", "in", "--against", "a", "b", "-o", "x"]) == [
        "filter", "in", "--against", "a", "--against", "b", "-o", "x"
    ]  # fmt: skip
    assert _spread(["filter", "--against", "a", "in", "-o", "x"]) == ["filter", "--against", "a", "in", "-o", "x"]
    for begin in (["filter", "-o", "x", "in"], ["filter", "--force", "in"]):
        assert _spread([*begin, "--against", "a", "b"]) == [*begin, "--against", "a", "--against", "b"]
    assert _spread(["filter", "in", "--against=a", "b"]) == ["filter", "in", "--against=a", "--against", "b"]
    assert _spread(["filter", "in", "-o", "x", "--json"]) == ["filter", "in", "-o", "x", "--json"]


def test_help_names_every_verb_without_importing_what_is_slow():
    done = gristmill("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("demo", "filter", "why", "show"))
    code = (
        "import gristmill.cli.main, sys; print([m for m in ('daft', 'altair', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_demo_mills_real_data_and_explains_it(tmp_path):
    done = gristmill("demo", "-o", tmp_path / "demo", "--no-loop", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["rows_in"] == 6_060
    assert summary["dropped"]["contaminated"] > 0
    assert summary["dropped"]["near_duplicate"] > 0
    assert summary["dropped"]["exact_duplicate"] > 0
    assert summary["contamination"][0]["flagged"]
    assert (tmp_path / "demo" / "report.html").exists()
    why = gristmill("why", "gsm8k_solutions.jsonl.zst:0", "--run", tmp_path / "demo")
    assert why.returncode == 0, why.stderr
    assert "below_correct" in why.stdout
