"""Generate without a server: what is told before a call is made, and what becomes of the calls in the air at an end."""

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as cli
from gristmill.errors import BadInput, Refused, UsageError
from gristmill.generate.asking import Asking, Goal
from gristmill.generate.pipeline import generate_rows
from gristmill.generate.sample import Plan
from gristmill.generate.templates import prompt_source
from gristmill.models.calls import Calls
from gristmill.models.drive import completions
from gristmill.models.fake import Fake
from gristmill.models.mock import mock_server
from gristmill.models.protocol import Request
from gristmill.run import Run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "fake.yaml"
    path.write_text("replies: [{regex: \"(.+)\", reply: 'so: \\1', delay: 0.02}]\n")
    return path


def template(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text("name: t\n" + text)
    return path


def generate(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(["generate", *map(str, arguments)])
    return int(ended.value.code or 0)


# An end with calls in the air


@pytest.mark.parametrize("good", [0, 1, 63, 64, 65, 200])
def test_what_the_jobs_raise_comes_after_the_answers_to_those_before(fake: Path, good: int) -> None:
    model = Fake(fake)

    def jobs():
        for number in range(good):
            yield model, Request([{"role": "user", "content": f"number {number}"}], {})
        raise Refused("no more")

    answers = []
    with pytest.raises(Refused, match="no more"):
        answers.extend(each.choices[0].text for each in completions(jobs()))
    assert answers == [f"so: number {number}" for number in range(good)]


def test_a_template_that_runs_out_leaves_its_rows(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.generate.templates.COUNTED", 10)  # more are not tried before
    monkeypatch.setattr("gristmill.generate.prepared.ENUMERATED", 10)
    text = "prompt: '{{ a }} {{ b }}'\nslots: {a: {range: [1, 20]}, b: {range: [1, 20]}}\n"
    path = template(tmp_path, text + "constraints: ['(a + b) % 4 == 0']\nsamples: 150\n")
    out = tmp_path / "o.parquet"
    source = prompt_source(path)
    assert source.count().distinct is None
    with pytest.raises(Refused, match=r"150 prompts wanted, 100 made: .*; 100 rows are in"):
        generate_rows(source, [Fake(fake)], out, Plan(), run=Run(tmp_path / "run"))
    rows = pq.read_table(out).to_pylist()
    assert [row["response"] for row in rows] == [f"so: {row['slot_a']} {row['slot_b']}" for row in rows]
    assert len(rows) == 100

    with pytest.raises(Refused, match="100 rows are in"):  # the goal is out of reach too
        generate_rows(source, [Fake(fake)], out, Plan(), run=Run(tmp_path / "run"), asking=Asking(Goal(accept=120)))
    assert pq.read_table(out).num_rows == 100


def test_a_table_that_ends_in_an_error_leaves_its_rows(tmp_path: Path, fake: Path) -> None:
    good = prompt_source(table(tmp_path, 80))

    def broken():
        raise BadInput("the disk with the table is gone")
        yield

    with pytest.raises(Refused, match="is gone; 80 rows are in"):
        generate_rows(chain(good, broken()), [Fake(fake)], tmp_path / "o.parquet", Plan(), run=Run(tmp_path / "run"))
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 80


# What is told before


def table(tmp_path: Path, rows: int, *bad: int) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"prompt": f"number {number}"}) for number in range(rows)]
    for number in bad:
        lines[number] = "{"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_bad_rows_of_a_table_are_told_before_the_first_call(tmp_path, fake, capsys) -> None:
    path = table(tmp_path, 20, 3, 17)
    arguments = [path, "-m", f"fake:{fake}", "-o", tmp_path / "o.parquet", "--run", tmp_path / "run"]
    assert generate(*arguments) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(
        f"{path}: 18 possible; 18 different prompts; 2 bad rows are passed over, the first is {path}:3: "
    )

    assert generate(*arguments, "--limit", 3) == 0  # what comes later is not read
    assert capsys.readouterr().err.splitlines()[0] == f"{path}: 3 possible; 3 different prompts"


def test_too_many_bad_rows_cost_nothing(tmp_path, fake, capsys) -> None:
    path = table(tmp_path, 90, *range(60, 70))
    out = tmp_path / "o.parquet"
    assert generate(path, "-m", f"fake:{fake}", "-o", out, "--run", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert f"10 of 90 rows cannot be read, 5 are allowed (a share of 0.01); first: {path}:60" in said
    assert said.count("\n") == 1 and not out.exists()
    assert generate(path, "-m", f"fake:{fake}", "--dry-run", "--run", tmp_path / "run") == 2


def test_too_few_different_prompts_cost_nothing(tmp_path, fake, capsys) -> None:
    path = template(
        tmp_path, "prompt: '{{ a }}'\nslots: {a: [x, X, y], b: [1, 2]}\nconstraints: ['a != b']\nsamples: 5\n"
    )
    assert generate(path, "-m", f"fake:{fake}", "-o", tmp_path / "o.parquet", "--run", tmp_path / "run") == 2
    assert "only 3 prompts differ" in capsys.readouterr().err


def test_the_number_of_prompts_may_be_given(tmp_path, fake, capsys) -> None:
    path = template(tmp_path, "prompt: '{{ a }}'\nslots: {a: {range: [1, 50]}}\nsamples: 10\n")
    out = tmp_path / "o.parquet"
    arguments = ["-m", f"fake:{fake}", "-o", out, "--run", tmp_path / "run"]
    assert generate(path, *arguments) == 0
    ten = pq.read_table(out)
    assert generate(path, *arguments, "--samples", 30) == 0
    assert pq.read_table(out).num_rows == 30 and pq.read_table(out).slice(0, 10).equals(ten)
    capsys.readouterr()
    for source, number, said in ((path, 51, "only 50"), (path, 0, "samples 0"), (table(tmp_path, 5), 3, "--limit")):
        assert generate(source, *arguments, "--samples", number) == 2
        assert said in capsys.readouterr().err


def test_a_share_of_bad_rows_is_no_flag_of_generate(tmp_path) -> None:
    with pytest.raises(UsageError) as raised:
        prompt_source(table(tmp_path, 6, *range(6))).count()
    assert "--max-bad" not in str(raised.value)


# In Python


def test_a_program_that_simply_ends_loses_no_answer(tmp_path: Path, fake: Path) -> None:
    program = f"""
import sys
from gristmill import Calls, Plan, prompt_source, ready, samples

model = ready("fake:{fake}", calls=Calls(sys.argv[1]))
print(len(list(samples(prompt_source("{table(tmp_path, 40)}"), [model], Plan()))))
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program, tmp_path / "run"], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("40\n", "")
    (used,) = Calls(tmp_path / "run").used()
    assert (used.answers, used.sent, used.hits) == (40, 40, 40)


def test_a_program_that_simply_ends_closes_its_connections(tmp_path: Path) -> None:
    program = f"""
import sys
from gristmill import Plan, prompt_source, ready, samples

print(len(list(samples(prompt_source("{table(tmp_path, 5)}"), [ready(sys.argv[1])], Plan()))))
"""
    with mock_server() as url:
        done = subprocess.run([sys.executable, "-c", program, f"{url}#mock"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("5\n", "")
