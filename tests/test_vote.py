"""Votes: by equality, whatever the order; ties and small shares have no answer; nothing is deleted."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.errors import UsageError
from gristmill.filter.marks import Table
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.score.vote import same_by, votes
from gristmill.score.vote_files import vote_files, vote_table
from tests.data_sets import rows
from tests.tables import table

ANSWER = score("answer")


def voted(responses: list[str | None], **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a vote on responses to one prompt, and what there is to tell."""
    return of_table(table("sample", [{"prompt": "q", "response": each} for each in responses]), **options)


def of_table(given: Table, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    made, told = vote_table(given.to_arrow(), options.pop("by", ANSWER), **options)
    return made.to_pylist(), told


def test_one_row_with_the_answer_of_most_is_kept_and_the_others_say_why() -> None:
    made, told = voted(["It is 4, so the answer is 5.", "A: 5", "#### 7", "\\boxed{5}", None])
    assert [row["verdict_vote"] for row in made] == ["majority", "majority", "outvoted", "majority", "no_response"]
    assert [row["score_vote"] for row in made] == [0.75, 0.75, 0.25, 0.75, None]
    kept = [row for row in made if row["drop_rule"] is None]
    assert len(kept) == 1 and kept[0]["id"] == min(row["id"] for row in made if row["verdict_vote"] == "majority")
    assert json.loads(kept[0]["why_vote"]) == {"answer": "5", "votes": 3, "samples": 4}
    (lost,) = [row for row in made if row["drop_rule"] == "outvoted"]
    assert (lost["drop_value"], json.loads(lost["drop_evidence"])["kept"]) == (0.25, kept[0]["id"])
    assert told["dropped"] == {"agreed": 2, "outvoted": 1, "vote_no_response": 1}
    assert (told["prompts"], told["verdicts"], told["mean_share"]) == (1, {"majority": 1}, 0.75)


def test_a_tie_has_no_answer() -> None:
    made, told = voted(["A: 1", "A: 2", "A: 1", "A: 2", "A: 3"])
    assert {row["verdict_vote"] for row in made} == {"tie"} and {row["drop_rule"] for row in made} == {"vote_tie"}
    assert told["rows_kept"] == 0 and told["mean_share"] is None


@pytest.mark.parametrize(("share", "kept"), [(0.55, 1), (0.56, 0), (0.0, 1), (1.0, 0)])
def test_a_share_that_is_reached_is_enough(share: float, kept: int) -> None:
    made, told = voted(["A: 1"] * 11 + [f"A: {n}" for n in range(2, 11)], min_share=share)
    assert told["rows_kept"] == kept
    if not kept:
        assert {row["drop_rule"] for row in made} == {"vote_below_share"} and made[0]["drop_limit"] == share


def test_all_that_agree_or_all_rows_may_be_kept() -> None:
    responses: list[str | None] = ["A: 1", "so A: 1\nA: 1", "A: 2"]
    assert [row["drop_rule"] for row in voted(responses, keep="agreeing")[0]] == [None, None, "outvoted"]
    assert [row["drop_rule"] for row in voted(responses, keep="all")[0]] == [None] * 3


def test_equal_rows_are_votes_of_their_own_and_one_of_them_is_kept() -> None:
    made, _ = voted(["A: 1", "A: 1", "A: 2"])
    assert [(row["copy"], row["drop_rule"]) for row in made] == [(0, None), (1, "agreed"), (0, "outvoted")]


def test_prompts_vote_apart() -> None:
    given = table("sample", [{"prompt": f"q{n % 2}", "response": f"A: {n % 2}"} for n in range(6)])
    assert of_table(given)[1]["rows_kept"] == 2


def test_equality_is_a_verifiers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def near(response, reference):\n"
        "    if response == '?':\n"
        "        return None\n"
        "    return abs(float(response) - float(reference)) < 1\n"
    )
    made, _ = voted(["1.0", "1.5", "7", "?"], by=score(f"{tmp_path}/mine.py:near"))
    assert [row["verdict_vote"] for row in made] == ["majority", "majority", "outvoted", "no_answer"]
    assert made[0]["score_vote"] == 0.5  # what cannot be read has no vote, but counts as a response
    made, _ = voted(["The answer is (B)", "B. cats", "A, I think", "A or B"], by=score("choice"))
    assert [row["verdict_vote"] for row in made] == ["majority", "majority", "outvoted", "no_answer"]


def test_an_answer_of_most_that_the_verifier_holds_for_wrong_is_flagged() -> None:
    values = [("A: 1", 0.0), ("so\nA: 1", 0.0), ("A: 2", 1.0)]
    given = table("sample", [{"prompt": "q", "response": text, "score_math": value} for text, value in values])
    made, told = of_table(given, check="score_math")
    assert [row["flag_vote"] for row in made] == ["misconception: score_math is 0"] * 2 + [None]
    assert told["check"]["misconceptions"] == 1 and told["check"]["majority_right"] == 0
    assert told["check"]["samples_right"] == pytest.approx(1 / 3)
    assert told["check"]["first"] == [{"prompt": "q", "answer": "1", "share": pytest.approx(2 / 3)}]


@given(st.lists(st.sampled_from(["A: 1", "A: 2", "A: 3", "", None]), max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_input_means_nothing(responses: list[str | None], shuffle: random.Random) -> None:
    keys = [(f"g1:{n:02}", 0) for n in range(len(responses))]
    items = [Item(each) for each in responses]
    order = shuffle.sample(range(len(items)), len(items))
    straight = votes(items, ["g"] * len(items), keys, same_by(ANSWER))
    mixed = votes([items[n] for n in order], ["g"] * len(items), [keys[n] for n in order], same_by(ANSWER))
    assert [vote.verdict for vote in mixed] == [straight[n].verdict for n in order]
    for vote, n in zip(mixed, order, strict=True):
        assert (vote.winner is None) == (straight[n].winner is None)
        assert vote.winner is None or order[vote.winner] == straight[n].winner


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_the_winner_is_the_single_most_frequent_answer(answers: list[str]) -> None:
    ranked = Counter(answers).most_common(2)
    clear = len(ranked) == 1 or ranked[0][1] > ranked[1][1]
    made = votes([Item(each) for each in answers], [0] * len(answers), [(f"{n}", 0) for n in range(9)], same_by(ANSWER))
    winners = {answers[n] for n, vote in enumerate(made) if vote.verdict == "majority"}
    assert winners == ({ranked[0][0]} if clear else set())


def test_crowd_votes_are_counted_as_they_were_cast() -> None:
    items = rows("label_errors_votes/imdb_mturk") + rows("label_errors_votes/amazon_mturk")
    cast = [
        {"prompt": f"item {n}", "response": label}
        for n, row in enumerate(items)
        for label, count in row["mturk"].items()
        for _ in range(count)
    ]
    made, _ = vote_table(table("sample", cast).to_arrow(), score("exact"), min_share=0.6)
    kept = {
        row["prompt"][0]["content"]: (row["response"], row["score_vote"])
        for row in made.to_pylist()
        if row["drop_rule"] is None
    }
    expected = {}
    for n, row in enumerate(items):
        total = sum(row["mturk"].values())
        for label, count in row["mturk"].items():
            if total and count * 5 >= total * 3:  # an absolute majority, so that no other is as frequent
                expected[f"item {n}"] = (label, count / total)
    assert kept == expected and len(kept) > 900


def test_four_models_on_gsm8k_agree_with_the_recorded_verdicts() -> None:
    given = [
        {"prompt": row["question"], "response": row["solution"], "score_right": float(row["is_correct"])}
        for row in rows("gsm8k_rollouts/example_model_solutions")
    ]
    made, told = of_table(table("sample", given), check="score_right")
    by_prompt: dict[str, list[tuple[str, bool]]] = {}
    for row in rows("gsm8k_rollouts/example_model_solutions"):
        last = row["solution"].rpartition("A:")[2].replace(",", "").strip(" $.\n")  # read without our code
        by_prompt.setdefault(row["question"], []).append((last, row["is_correct"]))
    right = judged = 0
    for found in by_prompt.values():
        ranked = Counter(answer for answer, _ in found).most_common(2)
        if len(ranked) == 1 or ranked[0][1] > ranked[1][1]:
            judged += 1
            right += next(correct for answer, correct in found if answer == ranked[0][0])
    assert told["check"]["majority_judged"] == judged
    assert told["check"]["majority_right"] == pytest.approx(right / judged)
    for row in made:  # nothing that agrees with a right answer is wrong
        assert row["verdict_vote"] != "majority" or (row["flag_vote"] is None) == bool(row["score_right"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep": "two"}, "one, agreeing, all"),
        ({"min_share": 1.5}, "0 to 1"),
        ({"check": "score_math"}, "score first"),
        ({"check": "response"}, "score_NAME"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        voted(["a"], **options)
    assert "\n" not in str(caught.value) and (told in str(caught.value) or "gristmill score" in str(caught.value))


def test_a_file_is_voted_on_and_later_verbs_see_one_row_a_prompt(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    given = [{"prompt": f"q{n // 3}", "response": f"A: {n // 3 if n % 3 else 'x'}"} for n in range(9)]
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    out, again = tmp_path / "voted.parquet", tmp_path / "again.parquet"
    arguments = ["vote", str(source), "-o", str(out), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "3 of 9 rows kept" in result.stdout
    made = pq.read_table(out)
    assert made.column_names[:2] == ["id", "copy"] and len(made) == 9 and made["drop_rule"].null_count == 3
    told = vote_files([str(out)], ANSWER, again, run=Run(tmp_path / "run"))
    assert (told["rows"], told["rows_kept"], told["single"]) == (3, 3, 3)
    assert pq.read_schema(again).equals(made.schema)
    assert CliRunner().invoke(app, [*arguments, "--json"]).exit_code == 0


def test_rows_without_a_response_are_one_line(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text('{"prompt": "q"}\n')
    with pytest.raises(UsageError, match="no response"):
        vote_files(str(source), ANSWER, tmp_path / "out.parquet", run=Run(tmp_path / "run"))


def test_an_empty_table_is_voted_on() -> None:
    made, told = vote_table(table("sample", [{"prompt": "q", "response": "a"}]).to_arrow().slice(0, 0), ANSWER)
    assert len(made) == 0 and told["prompts"] == 0 and isinstance(made, pa.Table)
