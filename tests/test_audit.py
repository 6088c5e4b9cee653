"""The audit of a verifier: rates with exact intervals, every disagreement, and answers made wrong on purpose."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.cli.main import run
from gristmill.errors import UsageError
from gristmill.score.audit import Labelled, audit, labelled, rate
from gristmill.score.mutations import MUTATIONS, mutated
from gristmill.score.named import score
from gristmill.score.score import Item


def row(response: str, reference: str, right: bool, place: str = "f:0") -> Labelled:
    return Labelled(place, Item(response, reference), right)


def test_the_interval_is_clopper_and_pearsons() -> None:
    """0 of 30: the rule of three's exact form, 1 - 0.025^(1/30); 8 of 36 by the quantiles of the beta distribution."""
    assert rate(0, 30)["high"] == pytest.approx(1 - 0.025 ** (1 / 30))
    told = rate(8, 36)
    assert (told["low"], told["high"]) == (pytest.approx(0.1012, abs=1e-4), pytest.approx(0.3915, abs=1e-4))
    assert rate(0, 0)["rate"] is None


def test_rates_are_among_what_is_wrong_and_what_is_right_and_leave_out_what_is_not_judged() -> None:
    rows = [
        row("A: 5", "5", True, "f:0"),
        row("A: 6", "5", False, "f:1"),
        row("A: 7", "5", True, "f:2"),
        row("A: 5", "5", False, "f:3"),
        row("", "5", True, "f:4"),
        row("", "5", False, "f:5"),
    ]
    told = audit(score("math"), rows)
    assert (told["rows"], told["labelled_right"]) == (6, 3)
    assert (told["false_positives"]["count"], told["false_positives"]["of"]) == (1, 2)
    assert (told["false_negatives"]["count"], told["false_negatives"]["of"]) == (1, 2)
    assert told["unjudged"] == {"unparseable_answer": 2}
    assert [(each["row"], each["label"], each["verdict"]) for each in told["disagreements"]] == [
        ("f:2", "right", "wrong"),
        ("f:3", "wrong", "correct"),
        ("f:4", "right", "unparseable_answer"),
    ]


@pytest.mark.parametrize(
    ("response", "kind", "before", "after"),
    [
        (r"So $\boxed{25}$.", "digit", "25", "35"),
        ("#### 9", "digit", "9", "8"),
        (r"\boxed{\frac{1}{2}}", "sign", r"\frac{1}{2}", r"\frac{-1}{2}"),
        ("The answer is -4.", "sign", "-4", "4"),
        (r"\boxed{5 \text{ km}}", "unit", r"5 \text{ km}", r"5 \text{ mm}"),
        (r"\boxed{20\%}", "unit", r"20\%", r"20\text{ per mille}"),
        (r"\boxed{\$18}", "unit", r"\$18", r"18\text{ cents}"),
    ],
)
def test_a_mutation_changes_the_final_answer_alone(response: str, kind: str, before: str, after: str) -> None:
    assert mutated(response, kind) == (response.replace(before, after), before, after)


@pytest.mark.parametrize(
    ("response", "kind"), [("", "digit"), (r"\boxed{x}", "digit"), (r"\boxed{0}", "sign"), (r"\boxed{5}", "unit")]
)
def test_what_cannot_be_mutated_is_not(response: str, kind: str) -> None:
    assert mutated(response, kind) is None


@given(st.integers(-(10**6), 10**6), st.integers(0, 9), st.sampled_from(sorted(MUTATIONS)))
def test_the_score_of_mathematics_lets_no_mutant_of_an_integer_pass(number: int, place: int, kind: str) -> None:
    made = mutated(f"A: {number}\n#### {number}", kind, place)
    if made is not None:
        (verdict,) = score("math")([Item(made[0], str(number))])
        assert verdict.value == 0


def test_blind_spots_survive_and_are_named() -> None:
    blind = score("math,units=ignore")
    rows = [row(r"\boxed{5 \text{ km}}", "5 km", True)]
    told = audit(blind, rows)
    assert told["mutations"]["unit"]["rate"] == 1 and told["mutations"]["digit"]["rate"] == 0
    assert told["survivors"] == [
        {
            "row": "f:0",
            "mutation": "unit",
            "before": r"5 \text{ km}",
            "after": r"5 \text{ mm}",
            "why": "box: 5 mm; reference: 5 km; by number",
        }
    ]
    assert audit(score("math"), rows)["mutations"]["unit"] == rate(0, 1)


def test_labels_come_from_any_column_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    labels = [True, 0, "correct", "no", None]
    rows = [{"prompt": "p", "response": "A: 1", "gold": "1", "human": label} for label in labels]
    source.write_text("".join(json.dumps(each) + "\n" for each in rows))
    found = labelled(str(source), "human", columns={"reference": "gold"})
    assert [each.right for each in found] == [True, False, True, False]
    command = ["audit", "math", str(source), "--label", "human", "--map", "reference=gold"]
    with pytest.raises(SystemExit) as end:
        run([*command, "-o", str(tmp_path / "report.json")])
    shown = capsys.readouterr().out
    assert not end.value.code
    assert (
        "false positives  100.00% (2 of 2; 95 %: 15.81% to 100.00%)" in shown and "in.jsonl:1: labelled wrong" in shown
    )
    assert json.loads((tmp_path / "report.json").read_text())["false_positives"]["count"] == 2


def test_labels_that_are_none_are_one_line(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "p", "response": "A: 1", "reference": "1", "human": "perhaps"}\n')
    with pytest.raises(UsageError, match=r"in.jsonl:0: human is 'perhaps'; allowed are"):
        labelled(str(source), "human")
    with pytest.raises(UsageError, match="no row has a label in 'other'"):
        labelled(str(source), "other")
