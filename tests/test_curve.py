"""Curves: intervals that hold the truth, no figure beyond what the points say; trials that are run once."""

import json
from pathlib import Path

import numpy as np
import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.plan.curve import Point, fit
from gristmill.plan.subsets import longest, milled, nested, rows_of, stratified
from gristmill.plan.trial import trial
from gristmill.run import Run

SIZES = (100, 200, 400, 800, 1_600, 3_200)


def points(ceiling: float, a: float, b: float, *, seed: int = 0, items: int = 500) -> list[Point]:
    rng = np.random.default_rng(seed)
    sizes = [n for n in SIZES for _ in range(3)]
    return [Point(n, rng.binomial(items, ceiling - a * n**-b) / items, items) for n in sizes]


def test_a_curve_that_bends_is_known_and_one_that_does_not_is_not() -> None:
    bent = fit(points(0.8, 8.0, 0.7, items=3_000))
    assert bent.ceiling.low <= 0.8 <= bent.ceiling.high < 0.87
    assert bent.at_twice.low <= 0.8 - 8 * 6_400**-0.7 <= bent.at_twice.high
    straight = fit(points(0.9, 1.2, 0.1))
    assert straight.ceiling.high == 1 and straight.ceiling.high - straight.ceiling.low > 0.2


def test_points_without_noise_give_the_curve_back() -> None:
    exact = [Point(n, 0.7 - 2.0 * n**-0.5) for n in SIZES]
    found = fit(exact)
    assert found.ceiling.best == pytest.approx(0.7, abs=5e-3) and found.exponent.best == pytest.approx(0.5, abs=0.03)
    assert found.verdict == "more data helps" or found.gain.high < 0.02


@pytest.mark.parametrize("digits", [2, 3, 16])
def test_seeds_that_agree_are_no_reason_to_say_that_points_do_not_follow_the_form(digits: int) -> None:
    twice = [Point(n, round(0.9 - 1.5 * n**-0.4, digits)) for n in SIZES for _ in range(2)]
    assert fit(twice).fits
    jump = [Point(n, score) for n, score in zip(SIZES, (0.1, 0.1, 0.11, 0.8, 0.81, 0.81), strict=True) for _ in "ab"]
    assert not fit(jump).fits


def test_the_verdicts() -> None:
    assert fit(points(0.6, 5, 0.8, items=5_000)).verdict == "saturated"
    assert fit(points(0.9, 2.0, 0.3)).verdict == "more data helps"
    assert fit(points(0.5, 0.4, 0.3, items=20)).verdict == "cannot tell"


def test_what_was_never_learned_is_not_saturated() -> None:
    assert fit([Point(n, 0.0, 200) for n in SIZES]).verdict == "cannot tell"


def test_points_of_another_form_cannot_tell() -> None:
    jump = {250: 0.04, 500: 0.4, 1_000: 0.89, 2_000: 0.93, 4_000: 0.96}
    some = [Point(n, score + off, 1_000) for n, score in jump.items() for off in (-0.01, 0.01)]
    found = fit(some)
    assert found.verdict == "cannot tell" and not found.fits
    assert all(fit(points(0.8, 8.0, 0.7, seed=seed)).fits for seed in range(10))
    assert fit([Point(n, score) for n, score in jump.items()]).fits  # one of a size: nothing to measure chance by


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(3), 0
    for seed in range(60):
        b, ceiling = rng.uniform(0.2, 0.8), rng.uniform(0.5, 0.95)
        a = ceiling * 0.7 * 100**b
        found = fit(points(ceiling, a, b, seed=seed))
        held += found.at_twice.low <= ceiling - a * 6_400**-b <= found.at_twice.high
    assert held >= 54


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([Point(n, 0.5) for n in (1, 2, 3)], "3 sizes"),
        ([Point(n, 50.0) for n in (1, 2, 3, 4)], "shares from 0 to 1"),
    ],
)
def test_what_cannot_be_fitted(bad: list[Point], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit(bad)


TRAINER = """
import json, math
from pathlib import Path
LOG = Path(__file__).with_name("log")

def train(data, seed):
    n = len(Path(data).read_text().splitlines())
    LOG.write_text((LOG.read_text() if LOG.exists() else "") + f"{n} {seed}\\n")
    right = int(400 * (0.9 - 2 / math.sqrt(n + 8)))
    return {"sums": [1] * right + [0] * (400 - right)}

def broken(data, seed):
    raise RuntimeError("out of\\nmemory")

def odd(data, seed):
    return {"sums": ["yes"]}

def single(data, seed):
    return {"sums": 0.5}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TRAINER)
    rows = [{"prompt": f"q{n}", "response": "a" * (n % 50 + 1), "tags": [f"t{n % 3}"]} for n in range(320)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(["curve", *arguments])
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_rows_are_trained_on_in_nested_subsets_each_trial_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["rows.jsonl", "--trainer", "mine.py:train", "--seeds", "2", "-o", "points.jsonl", "--json"]
    code, out, err = cli(capsys, *asked)
    assert code == 0, err
    told = json.loads(out)["sums"]
    assert told["at_most"][0] == pytest.approx(0.79, abs=0.02)
    assert len((place / "log").read_text().splitlines()) == 12
    assert json.loads(cli(capsys, *asked)[1])["sums"] == told
    assert len((place / "log").read_text().splitlines()) == 12
    code, out, _ = cli(capsys, "points.jsonl")
    assert code == 0 and out.startswith("sums: ")
    (place / "mine.py").write_text(TRAINER + "\n# another\n")
    cli(capsys, *asked)
    assert len((place / "log").read_text().splitlines()) == 24


def test_a_command_is_a_trainer_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.py").write_text('import sys; print("so"); print(\'{"x": [1, 0, 0.5]}\')')
    rows = rows_of("rows.jsonl")
    assert trial(Run("run"), rows[:5], "python t.py {data} {seed}", 0, place / "trials") == {"x": [1, 0, 0.5]}
    braces = """python t.py {data} '{"rate": 1}' {}"""
    assert trial(Run("run"), rows[:5], braces, 0, place / "trials") == {"x": [1, 0, 0.5]}
    for command_, said in {
        "python t.py": "must have {data}",
        "nosuch {data}": "nosuch",
        "false {data}": "exit 1",
        "python t.py {data} 'so": "No closing quotation; write it as for a shell",
    }.items():
        with pytest.raises(UsageError, match=said):
            trial(Run("run"), rows[:5], command_, 0, place / "trials")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rows.jsonl", "--trainer", "mine.py:broken"], "RuntimeError: out of memory"),
        (["rows.jsonl", "--trainer", "mine.py:odd"], "item 0 is 'yes'"),
        (["rows.jsonl", "--trainer", "mine.py:single"], "sums is a float; it must be a list"),
        (["rows.jsonl", "--trainer", "mine.py:none"], "no function 'none'"),
        (["rows.jsonl", "--trainer", "none.py:f"], "no file none.py"),
        (["rows.jsonl", "--trainer", "mine.py:train", "--sizes", "9,999"], "allowed are 1 to the 320"),
        (["none.jsonl"], "none.jsonl"),
        (["bad.jsonl"], "bad.jsonl:1: 'score'; a point has n, score"),
        (["bad.jsonl", "--suite", "suite.yaml"], "leave out --trainer and --suite"),
        (["rows.jsonl", "--trainer", "mine.py:train", "--by", "topic"], "--by topic: no row has it"),
        (["rows.jsonl", "--trainer", "mine.py:train", "--model", "tiny"], "goes with the trainer tiny"),
    ],
)
@pytest.mark.usefixtures("place")
def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    Path("bad.jsonl").write_text('{"n": 1, "score": 0.5}\n{"n": 2}\n')
    code, _, err = cli(capsys, *arguments)
    assert code == 2 and said in err and err.strip().count("\n") == 0


@pytest.mark.usefixtures("place")
def test_points_without_a_right_answer_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("zeros.jsonl").write_text("".join(f'{{"n": {n}, "score": 0, "items": 200}}\n' for n in SIZES))
    code, out, err = cli(capsys, "zeros.jsonl")
    assert code == 0, err
    assert "cannot tell" in out and "nothing was right at any size" in out and "ceiling" not in out


@pytest.mark.usefixtures("place")
def test_subsets() -> None:
    rows = rows_of("rows.jsonl")
    order = nested(rows, 1)
    assert order == nested(rows[::-1], 1) and order != nested(rows, 2)
    held = stratified(rows, 30, 1, [row["tags"][0] for row in rows])
    assert len(held) == 30 and all(sum(row["tags"] == [f"t{n}"] for row in held) == 10 for n in range(3))
    assert {len(row["response"]) for row in longest(rows, 6)} == {50}


@pytest.mark.usefixtures("place")
def test_rows_without_a_response_are_in_no_trial(capsys: pytest.CaptureFixture[str]) -> None:
    empty = [{"prompt": f"e{n}", "response": " " * n} for n in range(3)]
    lines = [*Path("rows.jsonl").read_text().splitlines()[:20], *map(json.dumps, empty)]
    Path("some.jsonl").write_text("\n".join(lines))
    assert len(rows_of("some.jsonl")) == 20
    filter_files(["some.jsonl"], "out", Settings(exact=False, near=None))
    assert "empty" not in {row["drop_rule"] for row in milled("out")}
    code, out, err = cli(capsys, "some.jsonl", "--trainer", "mine.py:train", "--sizes", "2,5,10,20", "--json")
    assert code == 0 and json.loads(out), err
    Path("none.jsonl").write_text("\n".join(map(json.dumps, empty)))
    assert "none.jsonl: no row has a response" in cli(capsys, "none.jsonl", "--trainer", "mine.py:train")[2]
    odd = rows_of("rows.jsonl")[0] | {"id": "g1:odd", "prompt": []}
    with pytest.raises(UsageError, match="row g1:odd cannot be trained on: the prompt is empty"):
        trial(Run("run"), [odd], "mine.py:train", 0, Path("trials"))


@pytest.mark.usefixtures("place")
def test_without_a_trainer_it_is_the_embedded_model_and_what_is_missing_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.cli.trainer.find_spec", lambda _: None)
    for trainer in ([], ["--trainer", "tiny"]):
        code, _, err = cli(capsys, "rows.jsonl", *trainer)
        assert code == 2 and err.count("\n") == 1, err
        assert "pip install 'gristmill[train]'" in err and "--trainer FILE.py:FUNCTION" in err
    monkeypatch.setattr("gristmill.cli.trainer.find_spec", lambda name: name)
    monkeypatch.setattr("gristmill.plan.trainer.known_of", lambda _: {})
    code, _, err = cli(capsys, "rows.jsonl")
    assert code == 2 and "no suite: name one with --suite" in err and err.count("\n") == 1


@pytest.mark.usefixtures("place")
def test_a_curve_for_each_value_is_of_the_rows_that_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["rows.jsonl", "--trainer", "mine.py:train", "--by", "tags", "--sizes", "10,20,40,80", "--seeds", "1"]
    code, out, err = cli(capsys, *asked, "-o", "points.jsonl", "--json")
    assert code == 0, err
    assert set(json.loads(out)) == {"tags=t0: sums", "tags=t1: sums", "tags=t2: sums"}
    points = [json.loads(line) for line in Path("points.jsonl").read_text().splitlines()]
    assert [point["n"] for point in points if point["curve"] == "tags=t1: sums"] == [10, 20, 40, 80]
    assert (
        "--sizes 10,320: allowed are 1 to the 107 rows there are of tags=t0"
        in (cli(capsys, *asked[:5], "--sizes", "10,320")[2])
    )
