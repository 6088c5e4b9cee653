"""The endpoint, and `generate` on it, against the mock server: real sockets, faults on demand."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as cli
from gristmill.errors import GristmillError, UsageError
from gristmill.models.calls import Calls
from gristmill.models.drive import completions, wait
from gristmill.models.endpoint import Endpoint
from gristmill.models.limits import Limits
from gristmill.models.mock import mock_server
from gristmill.models.protocol import Completion, Request
from gristmill.models.retries import Limited

KEY = "sk-very-secret-1234"


def ask(
    url: str, count: int = 1, *, timeout: float = 30.0, limited: bool = False, **sampling: object
) -> list[Completion]:
    model = Endpoint(url, "mock", timeout=timeout)
    asked = Limited(model, Limits(concurrency=16)) if limited else model
    requests = (Request([{"role": "user", "content": f"question {n}"}], sampling) for n in range(count))
    try:
        return list(completions((asked, request) for request in requests))
    finally:
        wait(model.close())


def stats(url: str) -> dict[str, object]:
    with urlopen(url.removesuffix("/v1") + "/stats") as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_an_answer_has_its_text_tokens_and_reason() -> None:
    with mock_server() as url:
        (whole,), (cut,), (several,) = ask(url), ask(url, max_tokens=5), ask(url, n=3)
    assert whole.error is None and whole.choices[0].finish_reason == "stop" and whole.tokens_in == 2
    assert cut.choices[0].finish_reason == "length" and cut.tokens_out == 5
    assert len(several.choices) == 3 and len({choice.text for choice in several.choices}) == 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", "rate_limited"),
        ("500", "server"),
        ("cut", "disconnected"),
        ("bad-json", "bad_answer"),
        ("empty-choices", "bad_answer"),
        ("html", "bad_answer"),
        ("content-filter", "content_filter"),
        ("too-long", "too_long"),
        ("hang", "timeout"),
    ],
)
def test_a_fault_is_a_failed_call_of_its_kind(fault: str, kind: str) -> None:
    with mock_server("--fault", fault) as url:
        assert (ask(url, timeout=0.5)[0].error or "").startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", r"401.*key in \$GRISTMILL_API_KEY is not accepted"),
        ("unknown-model", "check the name of the model"),
        ("pinned", "400 Server is pinned to 'mock'.*check the name of the model"),
        ("redirect", "redirects.*example.invalid"),
    ],
)
def test_what_every_call_would_meet_is_one_line_without_the_key(
    fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_API_KEY", KEY)
    with mock_server("--fault", fault) as url, pytest.raises(UsageError, match=said) as error:
        ask(url)
    assert KEY not in str(error.value) and "\n" not in str(error.value)


def test_a_key_opens_the_door_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_API_KEY", KEY)
    with mock_server("--require-key", KEY) as url:
        assert ask(url)[0].error is None
        assert KEY not in repr(Endpoint(url, "mock"))


def test_a_host_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match="cannot be reached"):
        ask("http://127.0.0.1:9/v1")


def test_faults_that_pass_cost_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.models.retries.BACKOFF", 0.01)
    faults = ("--fault", "429=0.1", "--fault", "429-after=0.05", "--fault", "500=0.1", "--fault", "cut=0.05")
    with mock_server(*faults, "--fault", "hang=0.02") as url:
        found = ask(url, 300, timeout=0.5, limited=True)
    assert [each.error for each in found] == [None] * 300


# generate on an endpoint


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "t.yaml"
    path.write_text('name: t\nprompt: "Number {{ number }}"\nslots: {number: {range: [1, 400]}}\n')
    return path


def generate(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(["generate", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_same_again_asks_nothing_even_on_another_port(tmp_path: Path, template: Path) -> None:
    tables = []
    for out in ("a.parquet", "b.parquet"):
        with mock_server() as url:
            arguments = [template, "-m", f"{url}#mock", "-n", 2, "-o", tmp_path / out, "--run", tmp_path / "run"]
            assert generate(*arguments) == 0
            tables.append((pq.read_table(tmp_path / out), stats(url)["requests"]))
    (first, sent), (second, again) = tables
    assert (sent, again) == (800, 0) and first.equals(second) and first.num_rows == 800


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(tmp_path: Path, template: Path) -> None:
    with mock_server("--latency", "0.05", "--log", str(tmp_path / "log")) as url:
        command = [sys.executable, "-m", "gristmill", "generate", template, "-m", f"{url}#mock", "--concurrency", "16"]
        whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
        subprocess.run([*command, "-o", whole, "--run", tmp_path / "one"], check=True, capture_output=True)
        before = int(str(stats(url)["answered"]))
        process = subprocess.Popen([*command, "-o", killed, "--run", tmp_path / "two"], stderr=subprocess.DEVNULL)
        while int(str(stats(url)["answered"])) < before + 150:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        at = time.time()
        assert not killed.exists()
        subprocess.run([*command, "-o", killed, "--run", tmp_path / "two"], check=True, capture_output=True)
    assert pq.read_table(whole).equals(pq.read_table(killed))
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    old = {line["request"] for line in lines[before:] if line["answered"] < at - 1}
    assert not old & {line["request"] for line in lines if line["received"] > at}


def test_two_processes_on_one_run_send_each_request_once(tmp_path: Path, template: Path) -> None:
    with mock_server("--latency", "0.05") as url:
        command = [
            sys.executable,
            "-m",
            "gristmill",
            "generate",
            template,
            "-m",
            f"{url}#mock",
            "--run",
            tmp_path / "r",
        ]
        outs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
        started = [
            subprocess.Popen([*command, "-o", out, "--concurrency", "16"], stderr=subprocess.DEVNULL) for out in outs
        ]
        assert [process.wait() for process in started] == [0, 0]
        counted = stats(url)
    first, second = map(pq.read_table, outs)
    assert first.equals(second) and first.num_rows == 400
    assert (counted["requests"], counted["answered_twice"]) == (400, 0)


def test_structured_answers_from_a_server(tmp_path: Path, template: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}')
    with mock_server() as url:
        out = tmp_path / "o.parquet"
        assert (
            generate(template, "-m", f"{url}#m", "--schema", schema, "-o", out, "--run", tmp_path / "r", "--limit", 3)
            == 0
        )
    assert pq.read_table(out)["response"].to_pylist() == ['{"age": 1}'] * 3


def test_a_budget_stops_with_the_rows_so_far_and_goes_on_when_raised(tmp_path: Path, template: Path) -> None:
    out = tmp_path / "o.parquet"
    with mock_server() as url:
        arguments = [template, "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r", "--concurrency", 4]
        assert generate(*arguments, "--max-tokens-total", 1_000) == 1
        some = pq.read_table(out)
        assert generate(*arguments, "--max-tokens-total", 1_000_000) == 0
        assert stats(url)["requests"] == 400
    assert 15 <= some.num_rows < 60
    assert pq.read_table(out).slice(0, some.num_rows).equals(some)


def test_choices_that_do_not_come_have_rows_that_say_so(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.parquet"
    with mock_server("--choices", "1") as url:
        arguments = [template, "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r", "--limit", 10, "-n", 3]
        assert generate(*arguments, "--together") == 1
        assert "10 missing" in capsys.readouterr().err
    rows = pq.read_table(out).to_pylist()
    assert [row["sample"] for row in rows] == [0, 1, 2] * 10
    assert [row["error"] is None and row["response"] is not None for row in rows] == [True, False, False] * 10
    assert {row["error"] for row in rows if row["sample"]} == {
        "missing: 1 of 3 choices came; the server does not take `n`: leave out --together"
    }


def test_too_many_failures_stop_the_run(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mock_server("--fault", "too-long=0.5") as url:
        assert generate(template, "-m", f"{url}#m", "-o", tmp_path / "o.parquet", "--run", tmp_path / "r") == 1
    assert "--max-failures 10%" in capsys.readouterr().err


def test_rows_come_to_exactly_n_that_pass(tmp_path: Path, template: Path) -> None:
    out = tmp_path / "o.parquet"
    with mock_server() as url:
        arguments = [template, "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r"]
        assert generate(*arguments, "--accept", 30, "--where", "tokens_out > 40") == 0
        assert generate(*arguments, "--accept", 400, "--where", "tokens_out > 40") == 1
    rows = pq.read_table(out)
    passes = [tokens > 40 for tokens in rows["tokens_out"].to_pylist()]
    assert [rule is None for rule in rows["drop_rule"].to_pylist()] == passes and len(passes) == 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "0"], "n=0"),
        (["--temperature", "hot"], "--temperature hot"),
        (["--temperature", "9"], "temperature 9"),
        (["--where", "tokens_out > 1"], "--accept"),
        (["--max-cost", "1"], "no prices"),
        (["--models", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_flags_are_one_line(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "o.parquet"
    assert generate(template, "-m", "http://127.0.0.1:9/v1#m", "-o", out, "--run", tmp_path / "r", *arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("where", ["tokenz > 1", "tokens_out >", "tokens_out"])
def test_a_condition_that_cannot_be_computed_costs_no_call(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    out = tmp_path / "o.parquet"
    with mock_server() as url:
        arguments = [template, "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r"]
        assert generate(*arguments, "--accept", 5, "--where", where) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"--where: {where!r} " in said and "drop_rule" not in said and "_order" not in said
    assert not Calls(tmp_path / "r").used() and not out.exists()


def test_an_error_of_ours_is_a_gristmill_error() -> None:
    with pytest.raises(GristmillError):
        Endpoint("ftp://host", "m")
