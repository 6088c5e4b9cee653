"""Ablations: arms of equal size, verdicts that are seldom wrong, trials that are run once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.filter.rules_file import rules_named
from gristmill.mix.ablate import Part, arms, judge
from gristmill.plan.subsets import milled

# A trainer whose model is as good as the share of good rows, and knows a capability if a source that teaches it is in.
TRAINER = """
import json, random
from pathlib import Path
LOG = Path(__file__).with_name("log")

def train(data, seed):
    with LOG.open("a") as log:
        log.write("trial\\n")
    rows = [json.loads(line)["messages"][-1]["content"] for line in Path(data).read_text().splitlines()]
    good = sum("good" in row for row in rows) / len(rows)
    taught = any("teaches" in row for row in rows)
    draw = random.Random(f"{seed}:{len(rows)}:{good}")
    items = random.Random(1)
    def results(share):
        levels = [items.random() for _ in range(400)]
        return [float(draw.random() * 0.3 + level * 0.7 < share) for level in levels]
    return {"sums": results(0.2 + 0.6 * good), "special": results(0.7 if taught else 0.3)}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of three sources; a rule drops bad ones, another drops harmless ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TRAINER)
    rows = [{"prompt": f"a{n}", "response": f"good answer {n}", "source": "a"} for n in range(120)]
    rows += [{"prompt": f"b{n}", "response": f"good work that teaches {n}", "source": "b"} for n in range(60)]
    rows += [{"prompt": f"c{n}", "response": f"good plain words {n}", "source": "c"} for n in range(60)]
    rows += [{"prompt": f"d{n}", "response": f"bad answer {n}", "source": "a"} for n in range(120)]
    odd = {"source": "a", "tags": ["odd"]}
    rows += [{"prompt": f"e{n}", "response": f"good ok odd {n}", **odd} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = [{"name": "bad", "where": "response like 'bad%'"}, {"name": "odd", "where": "response like '%odd%'"}]
    (tmp_path / "rules.yaml").write_text(json.dumps({"defaults": False, "rules": rules}))
    return tmp_path


def filtered() -> None:
    rules = rules_named("rules.yaml")
    filter_files(["rows.jsonl"], "out", Settings(rules=rules, near=None, exact=False))


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(list(arguments))
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_what_helps_helps_and_what_does_nothing_shows_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filtered()
    asked = ["ablate", "out", "--trainer", "mine.py:train", "--equal", "rows", "-o", "told", "--json"]
    code, out, err = cli(capsys, *asked)
    assert code == 0, err
    said = {(each["part"], each["capability"]): each["verdict"] for each in json.loads(out)["rows"]}
    assert said["rule bad", "overall"] == said["ours against random", "sums"] == "helps"
    assert said["rule odd", "overall"] == "no evidence" and said["source c", "overall"] == "no evidence"
    assert said["source b", "special"] == "helps" and said["source b", "sums"] == "no evidence"
    trials = len((place / "log").read_text().splitlines())
    assert json.loads(cli(capsys, *asked)[1])["rows"] == json.loads(out)["rows"]
    assert len((place / "log").read_text().splitlines()) == trials
    plot = (place / "told" / "plot_rows.svg").read_text()
    assert plot.startswith("<svg") and plot.count("http://www.w3.org/2000/svg") == 1
    code, out, _ = cli(capsys, *asked[:4], "--equal", "tokens", "--parts", "filters")
    assert code == 0 and "at equal tokens:" in out


@pytest.mark.usefixtures("place")
def test_arms_have_the_same_number_of_rows_or_of_tokens() -> None:
    filtered()
    rows = milled("out")
    by_name = {arm.name: arm for arm in arms(rows)[0]}
    sizes = {name: len(arm.rows(0)) for name, arm in by_name.items()}
    assert len(rows) == sizes["everything"] == 420 and sizes["without b"] == sizes["180 rows of ours"] == 180
    for name in ("ours", "random", "stratified", "longest", "without bad", "without odd"):
        assert sizes[name] == 240, name
    assert by_name["random"].rows(0) != by_name["random"].rows(1)
    assert by_name["random"].rows(0) == by_name["random"].rows(0)

    def words(some: Any) -> int:
        return sum(len(row["response"].split()) + 1 for row in some)

    tokens = {arm.name: words(arm.rows(0)) for arm in arms(rows, measure="tokens")[0]}
    assert abs(tokens["random"] - tokens["ours"]) < 10 and abs(tokens["longest"] - tokens["ours"]) < 10


def results(rng: np.random.Generator, adds: float) -> dict[str, list[float]]:
    return {"x": (rng.random(300) < 0.5 + adds + rng.normal() * 0.01).astype(float).tolist()}


def test_chance_is_seldom_taken_for_an_effect_and_a_large_one_is_found() -> None:
    rng = np.random.default_rng(0)
    false = found = 0
    for _ in range(60):
        tried = {name: [results(rng, adds) for _ in range(3)] for name, adds in {"a": 0, "b": 0, "c": 0.15}.items()}
        none, large = judge(tried, [Part("none", "a", "b"), Part("large", "c", "a")])
        false += none.verdict != "no evidence"
        found += large.verdict == "helps"
        assert none.low <= none.difference <= none.high
    assert false <= 6 and found >= 54


def test_what_cannot_be_judged(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"x": [1.0, 0.0]}
    with pytest.raises(UsageError, match="two at least"):
        judge({"a": [one], "b": [one]}, [])
    with pytest.raises(UsageError, match="other capabilities or items"):
        judge({"a": [one, one], "b": [{"y": [1.0]}, one]}, [])
    with pytest.raises(UsageError, match="nothing to compare"):
        arms([{"id": "g1:1", "prompt": [], "response": "r", "source_file": "f"}])
    with pytest.raises(UsageError, match="no kept row"):
        arms([{"drop_rule": "x"}])
    with pytest.raises(UsageError, match="0 items that every trial could judge"):
        judge({"a": [{"x": [None, None]}, one], "b": [one, one]}, [])
    filtered()
    pq.write_table(pa.table({"a": [1]}), "plain.parquet")
    (place / "prompts.jsonl").write_text('{"prompt": "what?"}\n')
    (place / "one.jsonl").write_text('{"prompt": "what?", "response": "that"}\n')
    mine = ("--trainer", "mine.py:train")
    for arguments, said in {
        ("plain.parquet", *mine): "plain.parquet",
        ("prompts.jsonl", *mine): "trials train on samples",
        ("one.jsonl", *mine): "nothing to compare",
        ("out", *mine, "--parts", "luck"): "--parts luck",
        ("out", *mine, "--equal", "steps"): "--equal steps",
        ("out", *mine, "--part", "source=z"): "--part source=z: 0 of 240 kept rows",
        ("out", *mine, "--part", "tags"): "write COLUMN=VALUE",
        ("out", *mine, "--steps", "10"): "--steps 10: goes with the trainer tiny",
        ("out", *mine, "--suite", "none.yaml"): "none.yaml",
    }.items():
        code, _, err = cli(capsys, "ablate", *arguments)
        assert code == 2 and said in err and err.count("\n") == 1, err


@pytest.mark.usefixtures("place")
def test_rows_with_a_value_are_a_part_and_no_filter_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["ablate", "rows.jsonl", "--trainer", "mine.py:train", "--equal", "rows", "--json"]
    code, out, err = cli(capsys, *asked, "--part", "source=b", "--part", "tags=odd")
    assert code == 0, err
    told = json.loads(out)
    said = {(each["part"], each["capability"]): each for each in told["rows"]}
    assert {part for part, _ in said} == {"source=b", "tags=odd"}
    assert said["source=b", "special"]["verdict"] == "helps" and said["tags=odd", "sums"]["verdict"] == "no evidence"
    assert told["trials"] == 9  # both parts have 60 rows, so that the arm with them is one
    sources = {
        (e["part"], e["capability"]): e for e in json.loads(cli(capsys, *asked, "--parts", "sources")[1])["rows"]
    }
    assert sources["source b", "special"]["difference"] == said["source=b", "special"]["difference"]


def test_items_that_a_trial_could_not_judge_count_in_none_and_slices_are_judged_by_themselves() -> None:
    half = [1.0] * 50 + [0.0] * 50
    tried: dict[str, list[Any]] = {"a": [{"x": half}, {"x": half}], "b": [{"x": [0.0] * 100}, {"x": [0.0] * 100}]}
    slices = {"first": list(range(50)), "last": list(range(50, 100)), "few": list(range(10))}
    found = {each.capability: each for each in judge(tried, [Part("p", "a", "b")], slices=slices)}
    assert [(name, each.difference) for name, each in found.items()] == [("overall", 0.5), ("first", 1), ("last", 0)]
    assert found["first"].verdict == "helps" and found["last"].verdict == "no evidence"
    tried["b"][1] = {"x": [None] * 25 + [0.0] * 75}
    (left,) = judge(tried, [Part("p", "a", "b")])
    assert left.with_it == pytest.approx(25 / 75)
