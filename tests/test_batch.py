"""`generate --batch` against the mock server's batch API: the same rows, whatever becomes of the batches."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as cli
from gristmill.errors import UsageError
from gristmill.generate.pipeline import generate_rows
from gristmill.generate.sample import Plan
from gristmill.models.batch import Batches
from gristmill.models.batch_ledger import BatchLedger
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.mock import mock_server
from gristmill.models.named import ready
from gristmill.run import Run

KEY = "sk-very-secret-1234"
PROMPTS = 30


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text(f'name: t\nprompt: "Number {{{{ number }}}}"\nslots: {{number: {{range: [1, {PROMPTS}]}}}}\n')
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.models.batch.POLL", 0.01)
    monkeypatch.setattr("gristmill.models.batch_api.BACKOFF", 0.01)


def stats(url: str) -> dict[str, Any]:
    with urlopen(url.removesuffix("/v1") + "/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def generate(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(["generate", *map(str, arguments)])
    return int(ended.value.code or 0)


def rows_without(place: Path, template: Path, *flags: object) -> Any:
    """The rows of the same command without --batch."""
    out = place / "online.parquet"
    with mock_server() as url:
        assert generate(template, "-m", f"{url}#m", "-o", out, "--run", place / "online", *flags) == 0
    return pq.read_table(out)


def batched(place: Path, url: str, template: Path, *flags: object) -> int:
    return generate(template, "-m", f"{url}#m", "-o", place / "o.parquet", "--run", place / "r", "--batch", *flags)


def test_the_rows_are_those_without_batches_and_nothing_is_asked_twice(tmp_path: Path, template: Path) -> None:
    with mock_server() as url:
        assert batched(tmp_path, url, template, "-n", 2) == 0
        assert batched(tmp_path, url, template, "-n", 3) == 0
        assert batched(tmp_path, url, template, "-n", 3) == 0
        told = stats(url)
    assert pq.read_table(tmp_path / "o.parquet").equals(rows_without(tmp_path, template, "-n", 3))
    assert told["batches"]["made"] == 2 and told["batches"]["requests"] == told["answered"] == 3 * PROMPTS
    assert told["requests"] == told["answered_twice"] == 0  # none was sent by itself
    assert not list((tmp_path / "r" / "batches").iterdir())
    assert Calls(tmp_path / "r").used()[0][3:6] == (3 * PROMPTS, 2 * PROMPTS + 3 * PROMPTS, 0)


def test_what_is_answered_already_is_not_sent(tmp_path: Path, template: Path) -> None:
    with mock_server() as url:
        assert batched(tmp_path, url, template, "--preview", 5) == 0  # a preview is asked for at once
        assert batched(tmp_path, url, template) == 0
        told = stats(url)
    assert (told["requests"], told["batches"]["requests"], told["answered"]) == (5, PROMPTS - 5, PROMPTS)


def test_many_requests_are_several_batches(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gristmill.models.batch.MOST_REQUESTS", 8)
    with mock_server() as url:
        assert batched(tmp_path, url, template, "--json") == 0
        assert stats(url)["batches"]["made"] == 4
    told = json.loads(capsys.readouterr().out)
    assert told["batches"] == {"batches": 4, "requests": PROMPTS, "answered": PROMPTS, "failed": 0, "again": 0}
    monkeypatch.setattr("gristmill.models.batch.MOST_BYTES", 1_000)
    with mock_server() as url:
        assert batched(tmp_path, url, template, "--sampling", "user=x") == 0
        assert stats(url)["batches"]["made"] > 4
    assert pq.read_table(tmp_path / "o.parquet").num_rows == PROMPTS


@pytest.mark.parametrize("fault", ["expired=2", "cancelled", "queue-full=2", "row-500=5", "429=5", "500=5", "lost=2"])
def test_what_passes_costs_no_row_and_no_answer_twice(tmp_path: Path, template: Path, fault: str) -> None:
    with mock_server("--batch-fault", fault) as url:
        assert batched(tmp_path, url, template) == 0
        told = stats(url)
    assert pq.read_table(tmp_path / "o.parquet").equals(rows_without(tmp_path, template))
    assert told["answered"] == PROMPTS and not told["answered_twice"]
    if fault.startswith(("lost", "429", "500")):
        assert (told["batches"]["files"], told["batches"]["made"]) == (1, 1)


def test_a_request_that_is_refused_fails_with_the_reason_and_the_rest_is_answered(
    tmp_path: Path, template: Path
) -> None:
    with mock_server("--batch-fault", "row-400=2", "--batch-fault", "bad-line") as url:
        assert batched(tmp_path, url, template, "--max-failures", "20%") == 0
        errors = [each for each in pq.read_table(tmp_path / "o.parquet")["error"].to_pylist() if each]
        assert stats(url)["answered"] == PROMPTS - 3
        assert sorted(errors) == ["bad_request: 400 Not like this (invalid_value)"] * 2 + [
            "bad_request: This line is wrong"
        ]
        assert batched(tmp_path, url, template) == 0  # as it is without batches: failed calls are asked again
        assert stats(url)["answered"] == PROMPTS
    assert pq.read_table(tmp_path / "o.parquet").equals(rows_without(tmp_path, template))


def test_errors_of_the_server_end_in_a_failed_row(tmp_path: Path, template: Path) -> None:
    with mock_server("--batch-fault", "row-500=1000") as url:
        assert batched(tmp_path, url, template) == 1
        assert stats(url)["batches"]["made"] == 3
    rows = pq.read_table(tmp_path / "o.parquet")
    assert set(rows["error"].to_pylist()) == {"server: 500 Internal error (server_error) (in 3 batches)"}


def test_batches_that_bring_nothing_stop_the_run_with_what_was_said(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock_server("--batch-fault", "failed=100") as url:
        assert batched(tmp_path, url, template) == 1
        assert stats(url)["batches"]["made"] == 3
    assert "This model does not do batches" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "model", "flags", "said"),
    [
        (["--no-batches"], "{url}#m", [], "leave out --batch"),
        (["--require-key", "other"], "{url}#m", [], "$GRISTMILL_API_KEY is not accepted"),
        ([], "fake:fake.yaml", [], "no endpoint with a batch API"),
        ([], "{url}#m", ["--concurrency", 3], "--concurrency"),
        ([], "{url}#m", ["--max-tokens-total", 999], "give --max-tokens"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    model: str,
    flags: list[object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRISTMILL_API_KEY", KEY)
    Path("fake.yaml").write_text("replies: [{default: x}]")
    with mock_server(*options) as url:
        assert generate(template, "-m", model.format(url=url), "-o", "o.parquet", "--batch", *flags) == 2
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1] and not [line for line in error if "Traceback" in line or KEY in line]


def test_the_key_is_written_nowhere(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_API_KEY", KEY)
    with mock_server("--require-key", KEY, "--reply", f"it is {KEY}") as url:  # a server that echoes it
        assert batched(tmp_path, url, template) == 0
    assert set(pq.read_table(tmp_path / "o.parquet")["response"].to_pylist()) == {"it is ***"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_structured_answers_are_asked_again_in_batches(tmp_path: Path, template: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}')
    with mock_server("--reply", "no JSON") as url:  # which the mock makes of a schema nevertheless
        assert batched(tmp_path, url, template, "--schema", schema) == 0
    schema.write_text(
        '{"type": "object", "properties": {"age": {"type": "string", "pattern": "^x"}}, "required": ["age"]}'
    )
    with mock_server() as url:  # whose answers are never of it
        assert batched(tmp_path, url, template, "--schema", schema) == 1
        assert stats(url)["batches"]["made"] == 3
    errors = pq.read_table(tmp_path / "o.parquet")["error"].to_pylist()
    assert all(error.startswith("invalid: ") for error in errors)


def test_rows_come_to_exactly_n_that_pass(tmp_path: Path, template: Path) -> None:
    where = ["--accept", 10, "--where", "tokens_out > 40"]
    with mock_server() as url:
        assert batched(tmp_path, url, template, *where) == 0
        assert stats(url)["batches"]["made"] > 1
    assert pq.read_table(tmp_path / "o.parquet").equals(rows_without(tmp_path, template, *where))


@pytest.mark.parametrize("flags", [[], ["--accept", 50, "--where", "tokens_out > 0"]])
def test_prompts_that_end_early_are_asked_as_far_as_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[object]
) -> None:
    prompts = tmp_path / "p.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(400)).encode(), 0)
    prompts.write_bytes(whole[:4_000])
    online = [prompts, "-o", tmp_path / "online.parquet", "--run", tmp_path / "online", *flags]
    with mock_server() as url:
        code = generate(*online, "-m", f"{url}#m")
        said = capsys.readouterr().err.splitlines()[-1].replace("online.parquet", "o.parquet")
        assert batched(tmp_path, url, prompts, *flags) == code
        assert capsys.readouterr().err.splitlines()[-1] == said or not code
    assert pq.read_table(tmp_path / "o.parquet").equals(pq.read_table(tmp_path / "online.parquet"))


def test_a_budget_holds_over_the_rounds(tmp_path: Path, template: Path) -> None:
    where = ["--accept", 10, "--where", "tokens_out > 100", "--max-tokens", 30, "--max-tokens-total", 800]
    with mock_server() as url:
        assert batched(tmp_path, url, template, *where) == 1
        made = stats(url)["batches"]["made"]
    rows = pq.read_table(tmp_path / "o.parquet")
    spent = sum(rows["tokens_in"].to_pylist()) + sum(rows["tokens_out"].to_pylist())
    assert made > 1 and rows.num_rows < PROMPTS and 700 < spent <= 800


PRICES = """models:
  - alias: m
    url: {url}
    prices: {{input: 0, output: 1000, batch: {{input: 0, output: 500}}}}
"""


def test_budgets_hold_and_prices_are_those_of_batches(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    most = 5 * 30 * 500 / 1e6  # money for five of the longest answers
    with mock_server() as url:
        Path("models.yaml").write_text(PRICES.format(url=url))
        command = [template, "-m", "m", "--batch", "--max-tokens", 30, "--json"]
        assert generate(*command, "--dry-run") == 0
        assert json.loads(capsys.readouterr().out)["cost"] == pytest.approx(PROMPTS * 30 * 500 / 1e6)
        assert generate(*command, "-o", "o.parquet", "--max-cost", most) == 1
        some = pq.read_table("o.parquet")
        tokens = sum(some["tokens_out"].to_pylist())
        assert 5 <= some.num_rows < PROMPTS and tokens * 500 / 1e6 <= most and stats(url)["answered"] == some.num_rows
        assert generate(*command, "-o", "o.parquet", "--max-cost", 1) == 0
        assert stats(url)["answered"] == PROMPTS
    assert pq.read_table("o.parquet").slice(0, some.num_rows).equals(some)
    tokens = sum(pq.read_table("o.parquet")["tokens_out"].to_pylist())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cost"] == pytest.approx(tokens * 500 / 1e6)
    with pytest.raises(SystemExit):
        cli(["calls", "--json"])
    assert json.loads(capsys.readouterr().out)["models"][0]["cost"] == pytest.approx(tokens * 500 / 1e6)


def test_in_python(tmp_path: Path) -> None:
    calls = Calls(tmp_path, batch=True)
    with mock_server() as url:
        batches = Batches(calls)
        model = ready(f"{url}#m", batches=batches)
        prompts = [{"id": "g1:0", "copy": 0, "prompt": [{"role": "user", "content": "Why?", "extra": None}]}]
        out = tmp_path / "o.parquet"
        given = {"run": Run(tmp_path), "batches": batches}
        assert generate_rows(prompts, [model], out, Plan(n=4), **given)["rows"] == 4
        with pytest.raises(UsageError, match="several times"):
            generate_rows(iter(prompts), [model], out, Plan(), **given)
        wait(model.close())


def test_a_batch_that_the_provider_does_not_know_can_be_forgotten(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock_server() as url:
        process = started(tmp_path, "made", url, template)
        while not (tmp_path / "at").exists():
            time.sleep(0.01)
        process.kill()
        process.communicate()
    with pytest.raises(SystemExit):
        cli(["calls", "--run", str(tmp_path / "r")])
    assert "open batches: batch_1; 30 requests" in capsys.readouterr().out
    with mock_server() as url:  # where another key sees other batches
        assert batched(tmp_path, url, template) == 2
        assert "--forget-batches" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            cli(["calls", "--run", str(tmp_path / "r"), "--forget-batches"])
        assert batched(tmp_path, url, template) == 0


# Kills

GATE = """
import sys, time
from pathlib import Path
import gristmill.models.batch_api as api, gristmill.models.batch_harvest as harvest
import gristmill.models.batch_ledger as ledger
from gristmill.cli.main import run

MOMENT = sys.argv[1]

def wait(moment):
    if moment == MOMENT:
        Path("at").touch()
        time.sleep(600)

def gated(owner, name, before=None, after=None):
    inner = getattr(owner, name)
    def called(*given, **named):
        wait(before)
        done = inner(*given, **named)
        wait(after)
        return done
    setattr(owner, name, called)

gated(ledger.Part, "closed", after="written")
gated(ledger.BatchLedger, "add", after="recorded")
gated(ledger.BatchLedger, "uploaded", before="uploaded, not noted", after="uploaded")
gated(ledger.BatchLedger, "made", before="made, not noted", after="made")
gated(harvest, "parse_answer", before="harvesting")
gated(ledger.BatchLedger, "ended", before="harvested, not noted", after="harvested")
run(sys.argv[2:])
"""
MOMENTS = ["written", "recorded", "uploaded, not noted", "uploaded", "made, not noted", "made", "harvesting"]
LAST = ["harvested, not noted", "harvested"]


def started(place: Path, moment: str, url: str, template: Path) -> subprocess.Popen[str]:
    (place / "gate.py").write_text(GATE)
    command = [sys.executable, "gate.py", moment, "generate", str(template), "-m", f"{url}#m", "--batch"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command += ["-o", "o.parquet", "--run", "r"]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def killed(place: Path, moment: str, url: str, template: Path) -> None:
    process = started(place, moment, url, template)
    while not (place / "at").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (place / "at").unlink()


@pytest.mark.parametrize("last", LAST)
def test_killed_at_every_moment_each_request_is_served_once(tmp_path: Path, template: Path, last: str) -> None:
    with mock_server("--batch-seconds", "0.2") as url:
        for moment in [*(MOMENTS if last == LAST[0] else MOMENTS[::3]), last]:
            killed(tmp_path, moment, url, template)
        assert batched(tmp_path, url, template) == 0
        told = stats(url)
    assert pq.read_table(tmp_path / "o.parquet").equals(rows_without(tmp_path, template))
    assert (told["batches"]["files"], told["batches"]["made"]) == (1, 1)
    assert told["answered"] == PROMPTS and not told["answered_twice"]
    calls = Calls(tmp_path / "r")
    assert calls.used()[0].answers == PROMPTS and not BatchLedger(calls).all_open()
    assert not list((tmp_path / "r" / "batches").iterdir())


def test_an_interrupt_leaves_the_batch_and_says_how_to_go_on(tmp_path: Path, template: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    with mock_server("--batch-hold", str(hold)) as url:
        process = started(tmp_path, "never", url, template)
        while not stats(url)["batches"]["made"]:
            time.sleep(0.02)
        second = started(tmp_path, "never", url, template)
        said = second.communicate()[0]
        assert second.returncode == 1 and "another process is at the batches of this run" in said
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
        assert process.returncode == 130 and "batch_1" in said and "the same command" in said
        hold.unlink()
        assert batched(tmp_path, url, template) == 0
        assert stats(url)["batches"]["made"] == 1
