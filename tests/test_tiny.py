"""The world of the embedded model: its truth, its slices, its parts, and its rows."""

import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.errors import UsageError
from gristmill.files import read
from gristmill.records import row_id
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.train.tiny.answer import final_number
from gristmill.train.tiny.world import ASKS, FORMS, Mix, Task, rows, tasks

SOME = list(tasks(1_500, mix=Mix(digits={1: 1, 2: 4, 3: 2}, asks=dict.fromkeys(ASKS, 1.0))))


def test_the_steps_are_true_and_make_up_the_answer() -> None:
    for task in SOME:
        digits = ""
        for step in task.steps.split(", "):
            left, _, right = step.partition("=")
            assert sum(int(number) for number in re.findall(r"[+-]?\d+", left)) == int(right)
            digits = right[-1] + digits
        first = task.steps.rpartition("=")[2][:-1]  # the carry out of the last column
        assert int(first + digits) == task.answer
        assert task.answer == (task.left + task.right if task.operation == "add" else task.left - task.right)
        assert task.answer >= 0


def test_the_bug_errs_exactly_where_a_column_takes_from_the_one_before() -> None:
    for task in tasks(600, mix=Mix(forms=dict.fromkeys(FORMS, 1.0))):
        takes = any(over for _, _, over in task.columns)
        assert (final_number(task.buggy) != task.answer) == takes, task
        assert task.buggy == task.solution() or takes
    assert Task("subtract", 94, 67, "bare", "sign").buggy == "7-4=3, 9-6=3\n#### 33"
    assert Task("add", 29, 72, "bare", "sign").buggy == "9+2=11, 2+7=9\n#### 91"


def test_answers_have_the_bug_at_its_share() -> None:
    regroup = Mix(only={"borrow": "yes"})
    wrong = [
        final_number(row["response"]) != int(row["reference"]) for row in rows(800, mix=regroup, reasoning=1, buggy=0.6)
    ]
    assert 0.55 < sum(wrong) / 800 < 0.65
    assert list(rows(50, reasoning=1, buggy=0)) == list(rows(50, reasoning=1))


def test_slices_follow_from_the_digits() -> None:
    """The digits of a sum add up to those of its terms less 9 for every carry (Legendre); a borrow of a - b is a carry
    of (a - b) + b."""

    def digit_sum(number: int) -> int:
        return sum(map(int, str(number)))

    for task in SOME:
        low, high = (task.answer, task.right) if task.operation == "subtract" else (task.left, task.right)
        carries = (digit_sum(low) + digit_sum(high) - digit_sum(low + high)) // 9
        named = {"add": "carry", "subtract": "borrow"}[task.operation]
        other = {"add": "borrow", "subtract": "carry"}[task.operation]
        assert task.slices[named] == ("yes" if carries else "no")
        assert task.slices[other] == "no"
        assert (named in task.tags) == bool(carries)
        assert task.slices["digits"] == str(len(str(max(task.left, task.right))))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reasoned", [True, False])
def test_the_score_reads_right_and_wrong_answers_in_every_form(form: str, reasoned: bool) -> None:
    judge = score("tiny")
    found = [task._replace(form=form) for task in SOME[:200]]
    right = judge([Item(task.solution(reasoned=reasoned), str(task.answer)) for task in found])
    wrong = judge([Item(task.solution(reasoned=reasoned), str(task.answer + 10)) for task in found])
    assert {verdict.verdict for verdict in right} == {"correct"}
    assert {verdict.verdict for verdict in wrong} == {"wrong"}


def test_an_answer_without_a_number_and_a_task_without_a_truth() -> None:
    judge = score("tiny")
    verdicts = judge([Item("7+8=15, 1+4+3=8", "85"), Item("#### 85", None), Item(None, "85")])
    assert [verdict[:2] for verdict in verdicts] == [(0.0, "no_answer"), (None, "no_reference"), (None, "no_response")]
    assert final_number("#### 7\n#### 85") == 85


def test_train_and_test_share_no_pair_of_numbers_in_either_order() -> None:
    train, test = ({frozenset((t.left, t.right)) for t in tasks(3_000, part=part)} for part in ("train", "test"))
    assert not train & test
    every = [Task("add", a, b, "bare", "sign").part for a in range(100) for b in range(a + 1)]
    assert 0.18 < Counter(every)["test"] / len(every) < 0.22


def test_training_sees_every_pair_of_digits_in_both_columns() -> None:
    """So that nothing in the held-out part is without its like in training."""
    seen = [set(), set()]
    for low in range(10, 100):
        for high in range(low, 100):
            if Task("add", low, high, "bare", "sign").part == "train":
                for place in (0, 1):
                    seen[place].add((low // 10**place % 10, high // 10**place % 10))
    assert len(seen[0]) == 100
    assert len(seen[1]) == 45  # tens from 1, the lower first


def test_the_same_seed_draws_the_same_and_more_begin_with_the_same() -> None:
    assert list(tasks(50, seed=3)) == list(tasks(80, seed=3))[:50]
    assert list(tasks(50, seed=3)) != list(tasks(50, seed=4))
    assert len(set(SOME)) == len(SOME)


def test_what_is_lacking_is_left_out_at_its_share() -> None:
    def borrows(mix: Mix) -> int:
        return sum("borrow" in task.tags for task in tasks(4_000, mix=mix))

    whole, some, none = (borrows(Mix(lacking={"borrow": share})) for share in (0.0, 0.98, 1.0))
    assert whole > 600
    assert 0 < some < 0.05 * whole
    assert none == 0


def test_only_the_wanted_slices_are_drawn() -> None:
    found = list(tasks(40, part="test", mix=Mix(only={"borrow": "yes", "wording": "word"})))
    assert {(task.operation, task.regroups, task.wording) for task in found} == {("subtract", True, "word")}


@pytest.mark.parametrize(
    ("mix", "named"),
    [
        ({"lacking": {"carries": 0.5}}, "carries"),
        ({"lacking": {"carry": 2.0}}, "carry=2.0"),
        ({"forms": {"xml": 1.0}}, "xml"),
        ({"only": {"length": "2"}}, "length"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_by_name(mix: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Mix(**mix)


def test_a_world_that_holds_too_few_says_so() -> None:
    with pytest.raises(UsageError, match="ask for fewer"):
        list(tasks(5_000, part="test", mix=Mix(digits={1: 1.0})))


def test_answers_show_their_steps_at_the_share_that_is_asked_for() -> None:
    asked = list(rows(1_000, mix=Mix(asks={"open": 2.0, "direct": 1.0}, forms={"hash": 1.0}), reasoning=0.6))
    shows = {
        ask: [("+" in r["response"] or "-" in r["response"]) for r in asked if r["slot_ask"] == ask] for ask in ASKS
    }
    assert 0.5 < sum(shows["open"]) / len(shows["open"]) < 0.7
    assert not any(shows["direct"])


def test_the_command_writes_rows_that_read_as_ours(tmp_path) -> None:
    prompts, samples = tmp_path / "prompts.parquet", tmp_path / "samples.parquet"
    for arguments in (
        ["--data", "30", "--test", "-o", str(prompts), "--only", "digits=2"],
        ["--data", "30", "--answers", "-o", str(samples), "--lacking", "borrow=98%", "--forms", "hash,json"],
        ["--data", "20", "--answers", "-o", str(samples)],  # a file of ours is replaced
    ):
        CliRunner().invoke(app, ["tiny", *arguments], catch_exceptions=False)
    table = read(str(prompts)).to_pylist()
    assert len(table) == 30
    assert {row["slot_digits"] for row in table} == {"2"}
    assert all(row["id"] == row_id("prompt", row) for row in table)
    answered = read(str(samples)).to_pylist()
    assert len(answered) == 20
    assert all(row["tags"][0] == "tiny" and row["slot_operation"] in row["tags"] for row in answered)
    verdicts = score("tiny")([Item(row["response"], row["reference"]) for row in answered])
    assert {verdict.value for verdict in verdicts} == {1.0}
