"""Rollouts: rewards, advantages with TRL's numbers, pass rates that admit what they do not know."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.rollout.advantages import advantages, gdpo, is_dead
from gristmill.rollout.groups import by_component, component_report, kind_of
from gristmill.rollout.pass_rate import band, dead_share, expected_dead_share, offers, rate_of
from gristmill.score.normalize import normalized
from gristmill.score.reward import Component, Reward, read_reward
from gristmill.score.reward_search import search
from gristmill.score.score import Item, Score, Verdict


def test_grpo_has_the_numbers_of_trl() -> None:
    assert advantages([2, 1, 1, 0]) == pytest.approx([1.22459, 0, 0, -1.22459], abs=1e-5)
    assert advantages([2, 0, 0, 0])[0] == pytest.approx(1.49985, abs=1e-5)
    assert advantages([1, 0, 0, 0])[0] == pytest.approx(1.4997, abs=1e-5)


def test_gdpo_has_the_numbers_of_trl_and_keeps_two_goals_apart_from_one() -> None:
    both = [{"c": [1, 0, 1, 0], "f": [1, 1, 0, 0]}]
    assert gdpo(both, {"c": 1, "f": 1})[0] == pytest.approx([1.22466, 0, 0, -1.22466], abs=1e-5)
    two, one = {"c": [1, 0, 0, 0], "f": [1, 0, 0, 0]}, {"c": [1, 0, 0, 0], "f": [0, 0, 0, 0]}
    made = gdpo([two, one], {"c": 1, "f": 1})
    assert [made[0][0], made[1][0]] == pytest.approx([2.04925, 1.02463], abs=1e-5)


def test_other_forms() -> None:
    assert advantages([1, 0, 0, 1], "dr_grpo") == [0.5, -0.5, -0.5, 0.5]
    assert advantages([3, 1, 1], "rloo") == pytest.approx([2, -1, -1])  # 3 - mean(1, 1), 1 - mean(3, 1)


def test_what_was_not_judged_has_no_advantage_and_no_part() -> None:
    assert advantages([1, None, 0], "dr_grpo") == [0.5, None, -0.5]
    assert advantages([None, None]) == [None, None]
    assert gdpo([{"c": [1, None, 0], "f": [None, None, 1]}], {"c": 1, "f": 1})[0][1] is None


@pytest.mark.parametrize("rewards", [[1, 1, 1], [0.3, 0.3 + 1e-12], [1], [1, None], []])
def test_a_group_without_differences_is_dead(rewards: list[float | None]) -> None:
    assert is_dead(rewards)
    assert all(value in (0, None) for value in advantages(rewards))


@pytest.mark.parametrize(
    ("rewards", "kind"),
    [
        ([1, 0], "live"),
        ([1, 0, None], "live"),
        ([1, 1], "dead"),
        ([1, 1, None], "dead"),
        ([1], "dead"),
        ([1, None], "unjudged"),
        ([None, None], "unjudged"),
    ],
)
def test_a_group_that_was_not_judged_is_not_called_dead(rewards: list[float | None], kind: str) -> None:
    assert kind_of(rewards) == kind


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=16))
def test_advantages_of_a_group_sum_to_nothing(rewards: list[float]) -> None:
    for form in ("grpo", "dr_grpo", "rloo"):
        assert sum(a for a in advantages(rewards, form) if a is not None) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("rate", "shares"), [(0.02, (0.851, 0.724)), (0.1, (0.430, 0.185)), (0.5, (0.008, 0.0))])
def test_the_share_of_dead_groups(rate: float, shares: tuple[float, float]) -> None:
    assert [dead_share(rate, size) for size in (8, 16)] == pytest.approx(shares, abs=5e-4)


def test_the_expected_share_of_dead_groups_is_the_mean_over_the_posterior() -> None:
    rates = np.random.default_rng(0).beta(1 + 1, 1 + 3, 200_000)
    expected = float((rates**8 + (1 - rates) ** 8).mean())
    assert expected_dead_share(1, 4, 8) == pytest.approx(expected, abs=2e-3)
    assert 0.5 < expected_dead_share(0, 4, 4) < 1  # 0 of 4 is not hopeless


def test_what_a_budget_buys_is_linear() -> None:
    four, eight = offers(800, [(4, 8)] * 5, sizes=(4, 8))
    assert (four.prompts, eight.prompts) == (200, 100)
    assert four.dead_share > eight.dead_share
    assert offers(8000, [(4, 8)] * 5, sizes=(8,))[0].live_groups == pytest.approx(10 * eight.live_groups)


def test_a_prompt_is_put_into_a_band_only_when_its_samples_allow_it() -> None:
    assert (band(0, 8), band(8, 8), band(4, 8)) == ("hard", "easy", "medium")
    assert (band(0, 2), band(2, 8), band(0, 0)) == ("unknown",) * 3
    assert band(16, 64) == "unknown"  # a quarter: on the border


def test_the_rate_of_nothing_may_be_anything() -> None:
    assert rate_of(0, 0)[2:] == (0, 1) and rate_of(0, 0).value is None
    assert rate_of(8, 10)[2:] == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Agresti & Coull 1998's kind of example


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("none", [1, None, 3, 5]),
        ("z", [-1, None, 0, 1]),
        ("minmax", [0, None, 0.5, 1]),
        ("rank", [0, None, 0.5, 1]),
    ],
)
def test_normalisation_leaves_none_alone(way: Any, expected: list[float | None]) -> None:
    assert normalized([1, None, 3, 5], way) == expected
    assert normalized([], way) == [] and normalized([None], way) == [None]


def test_equal_values_say_nothing() -> None:
    assert normalized([0.1 + 0.2, 0.3], "z") == [0, 0]
    assert normalized([2, 2], "minmax") == [0.5, 0.5] and normalized([2, 2], "rank") == [0.5, 0.5]


def number(items: Any) -> list[Verdict]:
    """The response is the value; ? cannot be judged."""
    texts = [each.response for each in items]
    return [Verdict(None, "unjudged") if text == "?" else Verdict(float(text), "scored") for text in texts]


def formatted(items: Any) -> list[Verdict]:
    return [Verdict(float("!" not in (each.reasoning or "")), "scored") for each in items]


NUMBER, FORMAT = Score("number", "1", number), Score("format", "1", formatted)


def test_a_composite_is_the_weighted_sum() -> None:
    other = Score("other", "1", number)
    made = Reward((Component(NUMBER, 0.5), Component(other, 0.3, clip=(0, 1))))
    (found,) = made([Item("4")])
    assert found.value == pytest.approx(0.5 * 4 + 0.3) and found.shares == {"number": 2.0, "other": 0.3}
    assert json.loads(found.why()) == {"number": [4.0, "scored", 2.0], "other": [4.0, "scored", 0.3]}


def test_an_unjudged_required_component_means_no_reward() -> None:
    made = Reward((Component(NUMBER), Component(FORMAT)))
    assert [each.value for each in made([Item("?"), Item("0")])] == [None, 1]
    lenient = Reward((Component(NUMBER, required=False), Component(FORMAT)))
    assert lenient([Item("?")])[0].value == 1


def test_a_failed_gate_gets_nothing_and_never_more_than_who_passes() -> None:
    plain = Reward((Component(NUMBER), Component(FORMAT, gate=1.0)))
    assert [each.value for each in plain([Item("4", reasoning="!"), Item("3")])] == [0, 3]
    scaled = Reward((Component(NUMBER, normalize="z"), Component(FORMAT, gate=1.0)))
    found = scaled([Item("9", reasoning="!"), Item("1"), Item("2"), Item("3")])
    assert [each.verdict for each in found] == ["gated", "scored", "scored", "scored"]
    values = [each.value for each in found]
    assert values[0] == min(v for v in values if v is not None) < 0


def test_normalisation_is_within_the_group_unless_it_is_over_the_batch() -> None:
    items, groups = [Item("1"), Item("3"), Item("10"), Item("30")], ["a", "a", "b", "b"]
    within = Reward((Component(NUMBER, normalize="minmax"),))(items, groups)
    assert [each.value for each in within] == [0, 1, 0, 1]
    over = Reward((Component(NUMBER, normalize="minmax", over="batch"),))(items, groups)
    assert [each.value for each in over] == pytest.approx([0, 2 / 29, 9 / 29, 1])


def test_templates_have_weights_of_their_own() -> None:
    made = Reward((Component(NUMBER, 1), Component(FORMAT, 1)), templates={"story": {"number": 0}})
    assert [each.value for each in made([Item("4"), Item("4", meta={"template": "story"})])] == [5, 1]


def test_a_reward_can_be_pickled() -> None:
    made = Reward((Component(NUMBER), Component(FORMAT, gate=1.0)))
    assert pickle.loads(pickle.dumps(made))([Item("4")])[0].value == 4


def test_the_report_says_which_component_decides() -> None:
    rng = np.random.default_rng(1)
    loud, quiet = rng.normal(0, 3, 5_000), rng.normal(0, 1, 5_000)
    report = component_report([{"loud": a, "quiet": b} for a, b in zip(loud, quiet, strict=True)])
    assert [each["share"] for each in report] == pytest.approx([0.9, 0.1], abs=0.02)
    assert sum(each["share"] for each in report) == pytest.approx(1)
    assert report[0]["correlation"] == pytest.approx(0.95, abs=0.01)


REWARD = """
components:
  - {score: "mine.py:right", weight: 1}
  - {score: "mine.py:brief", weight: 0.1, normalize: rank}
  - {score: "mine.py:polite,least=1", gate: true}
"""
MINE = """
def right(response, reference):
    return response.split()[-1] == reference
def brief(response):
    return -len(response)
def polite(response, least):
    return "hell" not in response
"""
FAKE = """
replies:
  - {match: "1+1", replies: ["It is 2", "I think it is 2", "3", "hell 2"]}
  - {match: "2+2", reply: "4"}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"reward.yaml": REWARD, "mine.py": MINE, "fake.yaml": FAKE}.items():
        (tmp_path / name).write_text(text)
    rows = [
        {"prompt": "1+1", "reference": "2"},
        {"prompt": "2+2", "reference": "4"},
        {"prompt": "2+2", "reference": "4"},
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(list(arguments))
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


@pytest.mark.usefixtures("place")
def test_rollouts_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "rollout",
        "prompts.jsonl",
        "-m",
        "fake:fake.yaml",
        "-n",
        "4",
        "--reward",
        "reward.yaml",
        "-o",
        "r.parquet",
    ]
    code, out, err = cli(capsys, *asked, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["prompts"], told["rows"], told["dead_groups"], told["calls"]) == (3, 12, 2, 12)
    rows = pq.read_table("r.parquet").to_pylist()
    first = rows[:4]
    assert [row["score_right"] for row in first] == [1, 1, 0, 1]
    assert [row["verdict_reward"] for row in first] == ["scored", "scored", "scored", "gated"]
    assert first[3]["score_reward"] == 0 and first[0]["score_reward"] > first[1]["score_reward"] >= 1
    assert sum(row["score_advantage"] for row in first) == pytest.approx(0, abs=1e-9)
    assert {row["flag_group"] for row in first} == {"live"} and {row["flag_group"] for row in rows[4:]} == {"dead"}
    assert first[0]["score_pass_rate"] == 0.75 and first[0]["flag_band"] == "unknown"

    again = json.loads(cli(capsys, *asked, "--json")[1])
    assert again["hits"] == 12 and again["scores_known_before"]["right"] == 12
    assert pq.read_table("r.parquet").to_pylist() == rows

    code, out, _ = cli(capsys, "rollout", "r.parquet", "--reward", "reward.yaml", "-o", "s.parquet", "--json")
    assert code == 0 and json.loads(out)["prompts"] == 2  # the prompt that was there twice is one group of samples
    samples = pq.read_table("s.parquet").to_pylist()
    assert [row["score_reward"] for row in samples[:4]] == [row["score_reward"] for row in first]


@pytest.mark.usefixtures("place")
def test_gdpo_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.py").write_text(
        "def c(response):\n    return 'c' in response\ndef f(response):\n    return 'f' in response\n"
    )
    Path("two.yaml").write_text("components: [{score: 'two.py:c', weight: 0.5}, {score: 'two.py:f', weight: 0.5}]")
    Path("it.yaml").write_text("replies: [{match: '1+1', replies: [cf, f, c, x]}, {default: x}]")
    asked = ["rollout", "prompts.jsonl", "-m", "fake:it.yaml", "-n", "4", "--limit", "1", "-o", "r.parquet"]
    code, _, err = cli(capsys, *asked, "--reward", "two.yaml", "--advantage", "gdpo")
    assert code == 0, err
    rows = pq.read_table("r.parquet").to_pylist()
    found = [row["score_advantage"] for row in rows]
    assert found == pytest.approx([1.2246, 0, 0, -1.2246], abs=3e-4)  # TRL's, but for the smaller weights' epsilon
    assert {row["flag_group"] for row in rows} == {"live"}
    Path("many.yaml").write_text("components: [{score: exact}]\ntemplates: {a: {exact: 2}}")
    code, _, err = cli(capsys, *asked, "--reward", "many.yaml", "--advantage", "gdpo")
    assert code == 2 and "a reward with templates" in err


def test_an_output_that_fails_a_gate_has_the_worst_of_its_group_in_each_component() -> None:
    other = Score(
        "other", "1", lambda items: [Verdict(-v.value if v.value else v.value, "scored") for v in number(items)]
    )
    made = Reward((Component(NUMBER, 2.0), Component(other, -0.5), Component(FORMAT, gate=1.0)))
    found = made([Item("4"), Item("9", reasoning="!"), Item("3"), Item("?")])
    weights = {"number": 2.0, "other": -0.5}
    assert by_component(found, weights) == {"number": [4, 3, 3, None], "other": [-4, -3, -3, None]}
    assert by_component(found[1:2], weights) == {"number": [0], "other": [0]}


@pytest.mark.usefixtures("place")
def test_where_nothing_was_judged_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(MINE + "def silent(response):\n    return None if 'It' in response else 1.0\n")
    Path("none.yaml").write_text("components: [{score: 'mine.py:silent'}]")
    Path("it.yaml").write_text("replies: [{match: '1+1', reply: It}, {default: other}]")
    asked = ["rollout", "prompts.jsonl", "-m", "fake:it.yaml", "-n", "2", "--reward", "none.yaml", "-o", "r.parquet"]
    code, out, err = cli(capsys, *asked)
    assert code == 0 and "2 groups without gradient, 1 not judged" in err
    assert "2 of 3 groups have none: all rewards are equal\n  1 groups were not judged: fewer than two" in out
    assert pq.read_table("r.parquet")["flag_group"].to_pylist() == ["unjudged"] * 2 + ["dead"] * 4
    code, out, _ = cli(capsys, *asked, "--limit", "1", "--json")
    told = json.loads(out)
    assert (told["dead_groups"], told["unjudged_groups"], told["offers"]) == (0, 1, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("components: []", "at least 1 item"),
        ("components: [{score: nosuch}]", "no such score"),
        ("components: [{score: exact, wieght: 1}]", "unknown key"),
        ("components: [{score: exact, gate: true}]", "every component is a gate"),
        ("components: [{score: exact, gate: true, weight: 2}, {score: exact}]", "a gate is passed or not"),
        ("components: [{score: exact}, {score: exact}]", "two components are called exact"),
        ("components: [{score: exact, clip: [1, 0]}]", "clip [1.0, 0.0]"),
        ("components: [{score: exact}]\ntemplates: {a: {math: 1}}", "weighs math"),
        ("components: [{score: exact, normalize: log}]", "normalize"),
        ("- 1", "list"),
    ],
)
def test_a_reward_that_makes_no_sense_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        read_reward(tmp_path / "r.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prompts.jsonl", "--reward", "reward.yaml"], "prompt rows"),
        (["prompts.jsonl", "-m", "fake:fake.yaml", "--reward", "none.yaml"], "none.yaml"),
        (
            ["prompts.jsonl", "-m", "fake:fake.yaml", "--reward", "reward.yaml", "--advantage", "ppo"],
            "allowed are grpo",
        ),
        (["prompts.jsonl", "-m", "fake:fake.yaml", "--reward", "reward.yaml", "-n", "0"], "n=0"),
        (["prompts.jsonl", "-m", "fake:fake.yaml", "--reward", "reward.yaml", "--solved", "x"], "no component"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, _, err = cli(capsys, "rollout", *arguments, "-o", "r.parquet")
    assert code == 2 and said in err and err.count("\n") == 1
    assert not Path("r.parquet").exists()


def test_the_search_finds_the_weights_that_rank_the_target() -> None:
    rng = np.random.default_rng(2)
    parts, target, groups = [], [], []
    for prompt in range(120):
        for _ in range(6):
            a, b, noise = rng.normal(size=3)
            parts.append({name: Verdict(value, "scored") for name, value in {"a": a, "b": b, "noise": noise}.items()})
            target.append(0.7 * a + 0.3 * b)
            groups.append(prompt)
    components = tuple(Component(Score(name, "1", number), 1.0) for name in ("a", "b", "noise"))
    found = search(Reward(components), [Item("0")] * len(parts), parts, groups, target)
    best = found.tried[0]
    assert best.weights == {"a": 0.7, "b": 0.3, "noise": 0.0} and best.held_out == pytest.approx(1)
    assert len(found.tried) == 66 and found.interval[0] > 0 and found.now.held_out < 0.9
    with pytest.raises(UsageError, match="nothing to tune"):
        search(Reward(components[:1]), [], [], [], [])
    with pytest.raises(UsageError, match="mixes of 3 components"):
        search(Reward(components), [], [], [], [], steps=1000)
    with pytest.raises(UsageError, match="differ in the target"):
        search(Reward(components), [Item("0")] * len(parts), parts, groups, [1.0] * len(parts))
