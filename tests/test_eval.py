"""Evaluations: accuracy with honest intervals, pass@k, calibration, suites and what they keep out of training data."""

import json
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.intervals import wilson
from gristmill.loop.accuracy import accuracy, calibration, pass_at, summarised
from gristmill.loop.evals import Evals, read_evals, slices_of
from gristmill.loop.suite import read_suite, registered
from gristmill.run import Run


def test_items_asked_once_have_wilsons_interval() -> None:
    told = accuracy([(1, 1)] * 30 + [(0, 1)] * 10 + [(0, 0)] * 3)
    assert (told["accuracy"], told["items"], told["unscored"]) == (0.75, 40, 3)
    assert (told["low"], told["high"]) == pytest.approx(wilson(30, 40))


def test_samples_of_an_item_that_always_agree_are_worth_one() -> None:
    once, often = accuracy([(1, 1)] * 30 + [(0, 1)] * 10), accuracy([(8, 8)] * 30 + [(0, 8)] * 10)
    assert often["high"] - often["low"] == pytest.approx(once["high"] - once["low"], rel=0.02)


def test_the_interval_of_repeated_samples_holds_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        ease = rng.beta(1, 1, 60)  # mean .5
        told = accuracy([(int(rng.binomial(5, p)), 5) for p in ease])
        held += told["low"] <= 0.5 <= told["high"]
    assert 0.92 < held / 400 < 0.98  # counted as 300 independent answers it holds in about 77 %


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = [any(each < right for each in chosen) for chosen in combinations(range(n), k)]
    assert pass_at([(right, n)], k) == pytest.approx(sum(subsets) / comb(n, k))


def test_pass_at_k_needs_k_samples() -> None:
    assert pass_at([(1, 2)], 4) is None


def test_calibration_by_hand() -> None:
    told = calibration([0.95, 0.95, 0.15, 1.0], [True, False, False, True])
    # bins: [.1, .2) gap .15; [.9, 1] of three, confidence .9667, right 2/3
    assert told["ece"] == pytest.approx((0.15 + 3 * (0.9666666 - 2 / 3)) / 4, abs=1e-6)
    assert told["brier"] == pytest.approx((0.05**2 + 0.95**2 + 0.15**2) / 4)
    with pytest.raises(ValueError, match="0 to 1"):
        calibration([1.2], [True])


def test_slices_are_tags_slots_and_fields() -> None:
    row = {"tags": ["a", "b"], "slot_op": "plus", "meta": '{"level": 3, "hard": true, "none": null}'}
    found = set(slices_of(row, ["tags", "slot_op", "level", "hard", "none"]))
    assert found == {"tags=a", "tags=b", "slot_op=plus", "level=3", "hard=true"}


def test_a_summary_by_slice_with_confidence() -> None:
    rows = [
        {"suite": "s", "item": str(n), "tags": ["odd" if n % 2 else "even"], "score_x": float(n % 2)}
        | {"meta": json.dumps({"confidence": 0.5})}
        for n in range(10)
    ]
    told = summarised(Evals(rows, (), ()))
    assert (told["accuracy"], told["slices"]["tags=odd"]["accuracy"], told["pass_at"]) == (0.5, 1.0, {})
    assert told["calibration"] == {"n": 10, "ece": 0.0, "brier": 0.25}
    with pytest.raises(UsageError, match="slice nope"):
        summarised(Evals(rows, (), ()), slices=["nope"])
    assert summarised(Evals(rows, (), ()), confidence="sure")["calibration"] is None


SUITE = "name: sums\nitems: items.jsonl\nscores: [exact]\nslices: [tags, digits]\nsamples: 2\n"
REPLIES = "replies: [{match: plus, reply: '7'}, {match: minus, reply: '2'}]\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    items = [
        {"question": f"What does the number {n} {op} the number three come to, written as one digit?"}
        | {"answer": "7" if op == "plus" else "1", "tags": [op], "digits": 1}
        for n, op in [(4, "plus"), (4, "minus"), (5, "plus")]
    ]
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    Path("suite.yaml").write_text(SUITE)
    Path("fake.yaml").write_text(REPLIES)
    return tmp_path


def ran(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        command(list(arguments))
    return ended.value.code or 0


def test_a_suite_is_asked_scored_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accuracy"], told["items"], told["samples"], told["calls"]) == (2 / 3, 3, 6, 6)
    assert told["slices"]["tags=minus"]["accuracy"] == 0
    assert told["pass_at"] == {"1": pytest.approx(2 / 3), "2": pytest.approx(2 / 3)}
    table = pq.read_table("evals.parquet")
    assert table["suite"].to_pylist() == ["sums"] * 6
    assert table["sample"].to_pylist() == [0, 1] * 3
    assert len(set(table["item"].to_pylist())) == 3
    assert table["verdict_exact"].to_pylist()[:2] == ["correct"] * 2
    again = read_evals("evals.parquet")
    assert (again.slices, again.scores) == (("tags", "digits"), ("exact",))
    assert summarised(again)["slices"] == told["slices"]


def test_another_score_decides(capsys: pytest.CaptureFixture[str]) -> None:
    Path("suite.yaml").write_text(SUITE.replace("[exact]", "[exact, length]"))
    asked = ("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet", "--json")
    assert ran(*asked, "--score", "length>=1") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["score"], told["accuracy"]) == ("length", 1)
    again = read_evals("evals.parquet")
    assert (again.scores, again.least, summarised(again)["score"]) == (("length", "exact"), 1, "length")
    assert ran(*asked, "--score", "nope") == 2
    assert "allowed: exact, length" in capsys.readouterr().err


def test_what_was_answered_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("eval", "suite.yaml", "-m", "fake:fake.yaml", "--json", "-o")
    assert ran(*asked, "one.parquet") == 0
    first = json.loads(capsys.readouterr().out)
    assert ran(*asked, "two.parquet") == 0
    second = json.loads(capsys.readouterr().out)
    assert (first["hits"], second["hits"]) == (0, 6)
    assert second["scores"]["exact"]["cache_hits"] == 6
    assert pq.read_table("one.parquet").equals(pq.read_table("two.parquet"))


def test_rows_that_were_scored_again_are_still_of_their_items() -> None:
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet") == 0
    assert ran("score", "evals.parquet", "--with", "length", "-o", "scored.parquet") == 0
    before, after = read_evals("evals.parquet"), read_evals("scored.parquet")
    assert [(row["suite"], row["item"], row["score_exact"]) for row in after.rows] == [
        (row["suite"], row["item"], row["score_exact"]) for row in before.rows
    ]


def test_two_models_are_compared_on_the_same_items(capsys: pytest.CaptureFixture[str]) -> None:
    Path("better.yaml").write_text("replies: [{match: plus, reply: '7'}, {match: minus, reply: '1'}]\n")
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "base.parquet") == 0
    capsys.readouterr()
    better = ("eval", "suite.yaml", "-m", "fake:better.yaml", "-o", "better.parquet")
    assert ran(*better, "--base", "base.parquet", "--json") == 0
    told = json.loads(capsys.readouterr().out)["compared"]
    assert (told["all"]["n"], told["all"]["gained"], told["all"]["lost"]) == (3, 1, 0)
    assert told["slices"]["tags=minus"]["difference"] == 1


def test_failed_calls_are_not_wrong_answers(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fails.yaml").write_text("replies: [{match: plus, reply: '7'}, {default: 'x', fail: 1.0}]\n")
    asked = ("eval", "suite.yaml", "-m", "fake:fails.yaml", "-o", "evals.parquet", "--max-failures", "50%", "--json")
    assert ran(*asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accuracy"], told["items"], told["unscored"]) == (1.0, 2, 1)


def test_data_of_a_run_are_kept_clean_of_its_suites(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.runner.use_runner", lambda _: None)  # a process chooses it once
    leaked = json.loads(Path("items.jsonl").read_text().splitlines()[0])["question"]
    rows = [
        {"prompt": leaked, "response": "7"},
        {"prompt": "Name a colour that the sky has.", "response": "Blue it is."},
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ran("filter", "data.jsonl", "-o", "before", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows_kept"] == 2
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet", "--limit", "1") == 0
    assert len(registered(Run("gristmill-run"))) == 1
    capsys.readouterr()
    assert ran("filter", "data.jsonl", "-o", "after", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows_kept"], told["dropped"]) == (1, {"contaminated": 1})
    assert told["contamination"][0]["items"] == 3  # the whole suite, though one item was asked
    assert ran("filter", "data.jsonl", "-o", "without", "--no-suites", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows_kept"] == 2


def test_a_changed_suite_is_registered_beside_the_one_before() -> None:
    asked = ("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet")
    assert (ran(*asked), ran(*asked)) == (0, 0)
    lines = Path("items.jsonl").read_text().splitlines()
    Path("items.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert ran(*asked) == 0
    assert len(registered(Run("gristmill-run"))) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: s\nitems: items.jsonl\n", "scores"),
        ("name: s\nitems: items.jsonl\nscores: [exact]\nslice: [tags]\n", "slice: unknown key"),
        ("name: A b\nitems: items.jsonl\nscores: [exact]\n", "name 'A b'"),
        ("name: s\nitems: items.jsonl\nscores: [nope]\n", "no such score"),
        ("name: s\nitems: items.jsonl\nscores: [exact, exact]\n", "exact twice"),
        ("name: s\nitems: none.jsonl\nscores: [exact]\n", "no such file"),
        ("name: s\nitems: items.jsonl\nscores: [exact]\nslices: [nope]\n", "slice nope"),
    ],
)
def test_what_is_wrong_with_a_suite_is_one_line(capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    Path("bad.yaml").write_text(text)
    assert ran("eval", "bad.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert problem in error[-1]
    assert not Path("evals.parquet").exists()


def test_bad_rows_among_the_items_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("items.jsonl").open("a") as file:
        file.write("{broken\n")
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet") == 0
    assert "1 bad rows among the items, not asked; first: items.jsonl:3: not JSON" in capsys.readouterr().out


def test_a_baseline_is_read_before_a_call_is_paid_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("eval", "suite.yaml", "-m", "fake:fake.yaml", "-o", "evals.parquet", "--base", "gone.parquet") == 2
    assert "gone.parquet: no such file" in capsys.readouterr().err
    assert not Path("evals.parquet").exists()


def test_a_score_that_lies_beside_the_suite(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "my.py").write_text("def short(item):\n    return 1.0\n")
    (place / "mine" / "suite.yaml").write_text("name: s\nitems: ../items.jsonl\nscores: [my.py:short]\n")
    assert [score.name for score in read_suite("mine/suite.yaml").built()] == ["short"]


def test_logs_are_written_as_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.jsonl").write_text('{"item": 1, "score": 1}\n{"item": 2, "score": 0}\n')
    Path("odd.jsonl").write_text('{"x": 1}\n')
    assert ran("eval", "log.jsonl", "odd.jsonl", "-o", "evals.parquet") == 0
    printed = capsys.readouterr().out
    assert "log.jsonl: rows, 2 rows" in printed
    assert "odd.jsonl: REFUSED: row 0: neither a prompt nor an item" in printed
    assert "50.0%" in printed
    assert pq.read_table("evals.parquet")["score_score"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("suite.yaml",), "with -m MODEL and -o"),
        (("items.jsonl", "-m", "fake:fake.yaml"), "a model answers a suite"),
        (("nothing.jsonl",), "no such file"),
    ],
)
def test_misuse(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str) -> None:
    assert ran("eval", *arguments) == 2
    assert problem in capsys.readouterr().err
