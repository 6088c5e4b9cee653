"""Judges: both orders, several samples, panels; what is no verdict is never made into one."""

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.models.budget import Budget
from gristmill.models.calls import Calls
from gristmill.models.protocol import Choice
from gristmill.run import Run
from gristmill.score.cache import Scores, cached
from gristmill.score.judge_file import JudgeFile, read_judge
from gristmill.score.judge_prompt import pairwise_messages, read_pairwise, read_rubric, rubric_messages
from gristmill.score.judge_report import PairwiseReport, words_of
from gristmill.score.named import score, scores
from gristmill.score.pipeline import score_files
from gristmill.score.score import Item

ASK = [{"role": "user", "content": "2+2?"}]
RUBRIC = JudgeFile.model_validate(
    {"kind": "rubric", "model": "m", "axes": {"clarity": {"ask": "Clear?"}, "tone": {"ask": "Kind?", "scale": [0, 10]}}}
)
PAIRWISE = JudgeFile.model_validate({"kind": "pairwise", "model": "m", "both_bad": True})
PY = """
import re
def longer(messages, sampling):
    a, b = (re.search(rf"<response_{x}>\\n(.*?)\\n</response_{x}>", messages[-1]["content"], re.S)[1] for x in "AB")
    return "I looked.\\nverdict: " + ("tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B")
"""
FAKES = {
    "longer": "replies: [{regex: response_A, function: 'judge_code:longer'}, {default: x}]",
    "first": 'replies: [{default: "Mm.\\nverdict: A"}]',
    "wordless": "replies: [{default: 'They are fine.'}]",
    "refuses": "replies: [{default: 'I am sorry, but I cannot assist with that.'}]",
    "broken": "replies: [{default: x, fail: 1}]",
    "rater": 'replies: [{match: response, replies: ["clarity: 4", "clarity: 5", "clarity: nine"]}, {default: x}]',
    "harsh": 'replies: [{default: "no\\nclarity: 1"}]',
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "judge_code.py").write_text(PY)
    for name, text in FAKES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def judge(place: Path, name: str = "judged", **entries: Any) -> str:
    """The spec of a judge file."""
    path = place / f"{name}.yaml"
    path.write_text(json.dumps(entries))
    return f"judge:{path}"


def test_a_rubric_asks_every_question_once_and_explanation_first() -> None:
    system, user = rubric_messages(RUBRIC, Item("4", prompt=ASK))
    assert "clarity (1 to 5): Clear?" in system["content"] and "tone (0 to 10): Kind?" in system["content"]
    assert system["content"].index("First explain") < system["content"].index("clarity: NUMBER")
    assert user["content"] == "<request>\n2+2?\n</request>\n\n<response>\n4\n</response>"


def test_a_pair_is_shown_in_either_order_and_read_back() -> None:
    item = Item("mine", prompt=ASK, other="theirs")
    shown = [pairwise_messages(PAIRWISE, item, swapped=swapped)[-1]["content"] for swapped in (False, True)]
    assert shown[0].index("mine") < shown[0].index("theirs") and shown[1].index("theirs") < shown[1].index("mine")
    assert read_pairwise(PAIRWISE, Choice("Good.\nverdict: B")).word == "B"
    assert read_pairwise(PAIRWISE, Choice("Good.\nverdict: B"), swapped=True).word == "A"
    assert read_pairwise(PAIRWISE, Choice("**Verdict:** both bad"), swapped=True).word == "both_bad"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("B is better.", "unparseable"),
        ("verdict: A or B", "unparseable"),
        ("verdict: A\nNo:\nverdict: response B", "B"),
        ("I cannot assist with that request.", "refused"),
        ("", "unparseable"),
    ],
)
def test_what_is_no_verdict_is_not_made_into_one(text: str, word: str) -> None:
    assert read_pairwise(PAIRWISE, Choice(text)).word == word


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("Fine.\nclarity: 4\ntone: 7", {"clarity": 4, "tone": 7}),
        ("clarity: 2 at first.\n**Clarity**: 4/5\n- tone = 0.5", {"clarity": 4, "tone": 0.5}),
        ("clarity: 4", {}),
        ("clarity: 6\ntone: 7", {}),
        ("clarity: 4 or 5\ntone: 7", {}),
    ],
)
def test_numbers_are_read_whole_and_on_their_scale(text: str, axes: dict[str, float]) -> None:
    found = read_rubric(RUBRIC, Choice(text))
    assert found.axes == axes and found.word == ("scored" if axes else "unparseable")


def test_the_median_of_samples_and_of_the_panel(place: Path) -> None:
    spec = judge(
        place, kind="rubric", model=["fake:rater.yaml", "fake:harsh.yaml"], samples=3, axes={"clarity": {"ask": "?"}}
    )
    (found,) = score(spec)([Item("4", prompt=ASK)])
    assert found.value == (4.5 + 1) / 2 and orjson.loads(found.why)["samples"] == [[4, 5], [1, 1, 1]]


def test_a_win_counts_only_if_it_survives_the_order(place: Path) -> None:
    items = [
        Item("longer one", prompt=ASK, other="short"),
        Item("x", prompt=ASK, other="yy"),
        Item("a", prompt=ASK, other="b"),
    ]
    better = score(judge(place, kind="pairwise", model="fake:longer.yaml"))
    assert [(v.verdict, v.value) for v in better(items)] == [("A", 1), ("B", 0), ("tie", 0.5)]
    blind = score(judge(place, kind="pairwise", model="fake:first.yaml"))
    found = blind(items)
    assert {v.verdict for v in found} == {"tie"}
    report = PairwiseReport(JudgeFile(kind="pairwise", model=["fake:first.yaml"]))
    report.add(items, found)
    told = report.summary()
    assert (told["position"][0]["rate"], told["position"][0]["to_first"]) == (1, 3)
    assert any("100.0% of 3 verdicts" in line for line in words_of(told)) and "uncalibrated" in words_of(told)[0]
    one = score(judge(place, kind="pairwise", model="fake:first.yaml", orders="one"))
    assert {v.verdict for v in one(items)} == {"A"}


def test_a_panel_decides_by_its_majority(place: Path) -> None:
    panel = ["fake:longer.yaml", "fake:first.yaml", "fake:wordless.yaml"]
    item = Item("longer one", prompt=ASK, other="short")
    assert score(judge(place, kind="pairwise", model=panel))([item])[0].verdict == "tie"  # A and a tie
    assert score(judge(place, kind="pairwise", model=panel, orders="one"))([item])[0].verdict == "A"
    (found,) = score(judge(place, kind="pairwise", model=panel))([item])
    report = PairwiseReport(read_judge(place / "judged.yaml"))
    report.add([item], [found])
    assert len(report.summary()["panel_agreement"]) == 1  # the one that said nothing agrees with nobody


@pytest.mark.parametrize(("model", "word"), [("wordless", "unparseable"), ("refuses", "refused"), ("broken", "error")])
@pytest.mark.parametrize("kind", ["rubric", "pairwise"])
def test_a_judge_without_a_verdict_has_no_number(place: Path, kind: str, model: str, word: str) -> None:
    axes = {"axes": {"clarity": {"ask": "?"}}} if kind == "rubric" else {}
    (found,) = score(judge(place, kind=kind, model=f"fake:{model}.yaml", **axes))([Item("a", prompt=ASK, other="b")])
    assert (found.value, found.verdict) == (None, word)


def test_no_answer_is_paid_for_twice_and_errors_are_asked_again(place: Path) -> None:
    cache = Scores(place / "run")
    spec = judge(place, kind="pairwise", model="fake:broken.yaml")
    item = Item("a", prompt=ASK, other="b")
    assert cached(score(spec), cache)([item])[0].verdict == "error"
    assert cached(score(spec), cache)([item])[0].verdict == "error" and cache.judged["judged"] == 2
    spec = judge(place, kind="pairwise", model="fake:longer.yaml")
    cached(score(spec), cache)([item])
    cached(score(spec), cache)([item])
    assert cache.judged["judged"] == 3


def test_a_judge_needs_the_reference_it_is_to_see(place: Path) -> None:
    spec = judge(place, kind="rubric", model="fake:harsh.yaml", reference=True, axes={"clarity": {"ask": "?"}})
    assert [v.verdict for v in score(spec)([Item("a"), Item("a", "gold")])] == ["no_reference", "scored"]
    file = JudgeFile.model_validate(RUBRIC.model_dump() | {"reference": True})
    assert "<reference>\ngold\n</reference>" in rubric_messages(file, Item("a", "gold"))[-1]["content"]


def test_examples_are_shown_as_judgements(place: Path) -> None:
    example = {"prompt": "1+1?", "a": "2", "b": "3", "why": "Sums.", "verdict": "A"}
    file = JudgeFile.model_validate(PAIRWISE.model_dump() | {"examples": [example]})
    roles = [m["role"] for m in pairwise_messages(file, Item("4", prompt=ASK, other="5"))]
    assert roles == ["system", "user", "assistant", "user"]
    rubric = JudgeFile.model_validate(
        RUBRIC.model_dump()
        | {"examples": [{"prompt": "p", "response": "r", "why": "W.", "axes": {"clarity": 2, "tone": 3}}]}
    )
    shown = rubric_messages(rubric, Item("4", prompt=ASK))[2]["content"]
    assert shown == "W.\nclarity: 2\ntone: 3" and read_rubric(rubric, Choice(shown)).axes == {"clarity": 2, "tone": 3}
    assert place.exists()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"kind": "rubric", "model": "m"}, "needs axes"),
        ({"kind": "pairwise", "model": "m", "axes": {"a": {"ask": "?"}}}, "has no axes"),
        ({"kind": "pairwise", "model": []}, "name one at least"),
        ({"kind": "pairwise", "model": ["m", "m"]}, "named twice"),
        ({"kind": "rubric", "model": "m", "axes": {"a": {"ask": "?", "scale": [5, 1]}}}, "lower and a higher"),
        ({"kind": "rubric", "model": "m", "axes": {"Big One": {"ask": "?"}}}, "small letters"),
        (
            {"kind": "pairwise", "model": "m", "examples": [{"prompt": "p", "why": "w", "a": "x"}]},
            "has a, b and verdict",
        ),
        ({"kind": "pairwise", "model": "m", "samples": 0}, "samples"),
        ({"kind": "poll", "model": "m"}, "kind"),
        ({"kind": "pairwise", "model": "nosuch"}, "nosuch"),
    ],
)
def test_a_judge_that_makes_no_sense_is_one_line(place: Path, entries: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        scores(judge(place, **entries))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_axes_are_scores_of_their_own(place: Path) -> None:
    spec = judge(place, kind="rubric", model="fake:harsh.yaml", axes={"clarity": {"ask": "?"}, "tone": {"ask": "?"}})
    assert [each.name for each in scores(spec)] == ["clarity", "tone"]
    assert score(f"{spec},axis=tone,name=manner").name == "manner"
    for wrong, said in {
        spec: "several axes",
        f"{spec},axis=wit": "no axis 'wit'",
        f"{spec},name=x": "name an axis",
    }.items():
        with pytest.raises(UsageError, match=said):
            score(wrong)


def test_from_the_command_line_to_calibrated(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    judge(place, "better", kind="pairwise", model="fake:longer.yaml")
    pairs = [
        {"prompt": f"p{n}", "chosen": "x" * (n % 7 + 1), "rejected": "y" * (n % 3 + 1), "person": n % 2 + 1}
        for n in range(40)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

    def cli(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            command(list(arguments))
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    code, out, err = cli("score", "pairs.jsonl", "--with", "judge:better.yaml", "-o", "judged.parquet")
    assert code == 0 and "uncalibrated" in out, err
    assert set(pq.read_table("judged.parquet")["verdict_better"].to_pylist()) == {"A", "B", "tie"}
    code, out, err = cli(
        "calibrate", "judged.parquet", "--judge", "better", "--human", "person", "-o", "c.json", "--json"
    )
    assert code == 0 and json.loads(out)["fingerprint"], err
    assert json.loads(out)["length"]["longer_wins"] == 1
    code, out, _ = cli("score", "pairs.jsonl", "--with", "judge:better.yaml", "-o", "judged.parquet")
    assert "calibrated against people: agree" in out and "uncalibrated" not in out
    code, _, err = cli("calibrate", "judged.parquet", "--judge", "better", "--human", "nobody")
    assert code == 2 and "no column 'nobody'" in err and err.count("\n") == 1
    code, _, err = cli("score", "pairs.jsonl", "--with", "exact", "-o", "x.parquet")
    assert code == 2 and "preference rows" in err


def test_samples_are_not_compared(place: Path) -> None:
    (place / "rows.jsonl").write_text('{"prompt": "p", "response": "r"}\n')
    spec = judge(place, "better", kind="pairwise", model="fake:longer.yaml")
    with pytest.raises(UsageError, match="it judges preference rows"):
        score_files(str(place / "rows.jsonl"), scores(spec), place / "o.parquet", run=Run(place / "run"))


def test_a_judge_spends_no_more_than_its_budget_and_goes_on_from_there(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("gristmill.files.BATCH_ROWS", 10)
    rows = [{"prompt": f"{n}+1?", "response": f"{n + 1}"} for n in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    axes = {"clarity": {"ask": "Clear?"}, "tone": {"ask": "Kind?"}}
    spec = judge(place, kind="rubric", axes=axes, model=f"fake:{place / 'both.yaml'}")
    Path("both.yaml").write_text('replies: [{default: "Mm.\\nclarity: 4\\ntone: 3"}]')
    asked = ["score", "rows.jsonl", "--with", spec, "-o", "out.parquet", "--json"]

    def scored(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            command([*asked, *more])
        return int(end.value.code or 0), capsys.readouterr().err

    with pytest.raises(SystemExit):
        command(["score", "rows.jsonl", "--with", spec, "-o", "whole.parquet", "--run", "other", "--limit", "1"])
    one = Calls("other").used()[0]
    each = one.tokens_in + one.tokens_out
    code, err = scored("--max-tokens-total", str(25 * each))
    assert code == 1 and "--max-tokens-total" in err and "20 rows are in out.parquet" in err
    assert pq.read_table("out.parquet")["score_tone"].to_pylist() == [3.0] * 20
    sent = Calls("gristmill-run").used()[0].sent
    assert 24 <= sent <= 28  # two axes, one question
    assert scored("--max-tokens-total", str(25 * each))[0] == 0  # what is known costs nothing
    assert pq.read_table("out.parquet").num_rows == 40 and Calls("gristmill-run").used()[0].sent == 40


def test_what_was_judged_before_a_budget_was_spent_is_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("gristmill.loop.evaluate.TOGETHER", 10)
    monkeypatch.setattr("gristmill.rollout.pipeline.TOGETHER", 10)
    Path("items.jsonl").write_text("".join(json.dumps({"prompt": f"{n}+1?"}) + "\n" for n in range(40)))
    Path("answers.yaml").write_text('replies: [{default: "two"}]')
    Path("both.yaml").write_text('replies: [{default: "Mm.\nclarity: 4"}]')
    spec = judge(place, kind="rubric", axes={"clarity": {"ask": "Clear?"}}, model=f"fake:{place / 'both.yaml'}")
    Path("suite.yaml").write_text(f"name: s\nitems: items.jsonl\nscores: ['{spec}']\nleast: 3\n")
    Path("reward.yaml").write_text(f"components: [{{score: '{spec}', weight: 1}}]\n")
    verbs = {
        "eval": ["eval", "suite.yaml", "-m", "fake:answers.yaml"],
        "rollout": ["rollout", "items.jsonl", "-m", "fake:answers.yaml", "-n", "1", "--reward", "reward.yaml"],
    }
    for name, verb in verbs.items():
        flags = ["-o", f"{name}.parquet", "--run", f"{name}-run"]

        def told(*more: str, whole: tuple[str, ...] = (*verb, *flags)) -> tuple[int, str]:
            with pytest.raises(SystemExit) as end:
                command([*whole, *more])
            return int(end.value.code or 0), capsys.readouterr().err

        code, err = told("--max-tokens-total", "1500")
        rows = pq.read_table(f"{name}.parquet").num_rows
        assert code == 1 and 10 <= rows < 40 and rows % 10 == 0, err
        assert "budget spent" in err and f"{rows} rows are in {name}.parquet" in err
        code, err = told("--max-tokens-total", "1")
        assert code == 1 and "budget spent" in err
        assert told("--max-tokens-total", "1000000")[0] == 0 and pq.read_table(f"{name}.parquet").num_rows == 40


def test_a_limit_of_cost_needs_a_price(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    Path("rows.jsonl").write_text('{"prompt": "1+1?", "response": "2"}\n')
    spec = judge(place, kind="rubric", axes={"clarity": {"ask": "Clear?"}}, model="http://localhost:9/v1#m")
    with pytest.raises(UsageError, match="--max-cost: no prices for m"):
        score_files("rows.jsonl", scores(spec), Path("out.parquet"), run=Run("r"), budget=Budget(1.0))
