"""Transform on an endpoint (the mock server): killed and started again, stopped by a budget, with faults on the way."""

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
from gristmill.models.mock import mock_server

ROWS = 300


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = ({"prompt": f"What is {n} + {n}?", "response": f"{n} and {n}.\n#### {2 * n}"} for n in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def transform(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(["transform", *map(str, arguments)])
    return int(ended.value.code or 0)


def stats(url: str) -> dict[str, int]:
    with urlopen(url.removesuffix("/v1") + "/stats") as answer:
        found: dict[str, int] = json.load(answer)
    return found


def test_a_killed_transform_goes_on_and_ends_with_the_same_rows(tmp_path: Path, table: Path) -> None:
    """`harder` asks in two rounds (the question, then the judge), so a kill meets calls of both."""
    with mock_server("--latency", "0.05", "--log", str(tmp_path / "log")) as url:
        command = [sys.executable, "-m", "gristmill", "transform", table, "--op", "harder", "-m", f"{url}#mock"]
        command += ["--concurrency", "32", "-o"]
        whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
        subprocess.run([*command, whole, "--run", tmp_path / "one"], check=True, capture_output=True)
        before = stats(url)["answered"]
        assert before == 3 * ROWS
        for moment in (ROWS // 2, 2 * ROWS):
            process = subprocess.Popen([*command, killed, "--run", tmp_path / "two"], stderr=subprocess.DEVNULL)
            while stats(url)["answered"] < before + moment:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            at = time.time()
            assert not killed.exists()
        subprocess.run([*command, killed, "--run", tmp_path / "two"], check=True, capture_output=True)
    assert pq.read_table(whole).equals(pq.read_table(killed))
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    old = {line["request"] for line in lines[before:] if line["answered"] < at - 1}
    assert not old & {line["request"] for line in lines if line["received"] > at}


def test_the_same_again_asks_nothing(tmp_path: Path, table: Path) -> None:
    tables = []
    for out in ("a.parquet", "b.parquet"):
        with mock_server() as url:
            arguments = [table, "--op", "restyle", "--style", "terse", "-m", f"{url}#mock", "-o", tmp_path / out]
            assert transform(*arguments, "--run", tmp_path / "run") == 0
            tables.append((pq.read_table(tmp_path / out), stats(url)["requests"]))
    (first, sent), (second, again) = tables
    assert (sent, again) == (ROWS, 0) and first.equals(second)


def test_a_budget_stops_with_the_rows_so_far_and_goes_on_when_raised(tmp_path: Path, table: Path) -> None:
    out = tmp_path / "o.parquet"
    with mock_server() as url:
        arguments = [table, "--op", "harder", "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r", "--concurrency", 4]
        assert transform(*arguments, "--max-tokens-total", 10_000) == 1
        some = pq.read_table(out)
        assert transform(*arguments, "--max-tokens-total", 10_000_000) == 0
        assert stats(url)["requests"] == 3 * ROWS
    assert 0 < some.num_rows < ROWS / 2
    assert pq.read_table(out).slice(0, some.num_rows).equals(some)


def test_faults_that_pass_cost_no_row(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.models.retries.BACKOFF", 0.01)
    out = tmp_path / "o.parquet"
    with mock_server("--fault", "429=0.1", "--fault", "500=0.1", "--fault", "cut=0.05") as url:
        arguments = [table, "--op", "rephrase", "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r"]
        assert transform(*arguments, "--concurrency", 32) == 0
    assert pq.read_table(out)["error"].null_count == ROWS


@pytest.mark.parametrize(("fault", "said"), [("401", "401 Incorrect API key"), ("unknown-model", "check the name")])
def test_what_every_call_would_meet_is_one_line(
    tmp_path: Path, table: Path, fault: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.parquet"
    with mock_server("--fault", fault) as url:
        assert transform(table, "--op", "harder", "-m", f"{url}#m", "-o", out, "--run", tmp_path / "r") == 2
    assert said in capsys.readouterr().err and not out.exists()
