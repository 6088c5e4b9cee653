"""Agreement and bias, against published figures and the data of those who measured them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.calibrate.agreement import ac1, agreement, alpha, bootstrap, cohen, crossed, fleiss, scott
from gristmill.calibrate.bias import length, length_controlled, position, self_preference, survivors
from gristmill.calibrate.report import compare, compare_numbers, verdict_of

ABSTRACTORS = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]], float)  # Gwet, irrCAC: cont3x3abstractors
SHARED = Path(__file__).parents[2] / "shared" / "data"


def test_published_coefficients_of_one_table() -> None:
    assert agreement(ABSTRACTORS) == pytest.approx(0.89)
    assert cohen(ABSTRACTORS) == pytest.approx(0.7964094, abs=1e-6)
    assert scott(ABSTRACTORS) == pytest.approx(0.7962397, abs=1e-6)
    assert ac1(ABSTRACTORS) == pytest.approx(0.8493305, abs=1e-6)


def test_krippendorffs_example() -> None:
    a = [None, None, None, None, None, 3, 4, 1, 2, 1, 1, 3, 3, None, 3]
    b = [1, None, 2, 1, 3, 3, 4, 3, None, None, None, None, None, None, None]
    c = [None, None, 2, 1, 3, 4, 4, None, 2, 1, 1, 3, 3, None, 4]
    items = list(zip(a, b, c, strict=True))
    assert alpha(items) == pytest.approx(0.691, abs=1e-3)
    assert alpha(items, "interval") == pytest.approx(0.811, abs=1e-3)


def test_fleiss_example() -> None:  # Fleiss 1971 as worked in Wikipedia: 10 items, 14 raters, 5 labels
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss(np.array(counts, float)) == pytest.approx(0.210, abs=1e-3)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30).filter(lambda x: len(set(x)) > 1))
def test_a_rater_agrees_wholly_with_himself(labels: list[str]) -> None:
    table = crossed(labels, labels)
    assert cohen(table) == pytest.approx(1) and ac1(table) == pytest.approx(1)
    assert alpha([(x, x) for x in labels]) == pytest.approx(1)


def test_quadratic_weights_forgive_neighbours() -> None:
    near, far = crossed([1, 2, 3, 3], [1, 2, 3, 2]), crossed([1, 2, 3, 3], [1, 2, 3, 1])
    assert cohen(near) == cohen(far) or cohen(near, quadratic=True) > cohen(far, quadratic=True)
    assert cohen(near, quadratic=True) > cohen(far, quadratic=True)


def test_an_interval_covers_what_it_should() -> None:
    rng, covered = np.random.default_rng(0), 0
    for seed in range(60):
        sample = rng.normal(0.3, 1, 80)
        low, high = bootstrap(lambda n, s=sample: float(s[n].mean()), 80, seed=seed)
        covered += low <= 0.3 <= high
    assert covered >= 52


def test_flips_and_their_direction() -> None:
    found = position(["A", "A", "A", "B", "tie", "unparseable"], ["A", "A", "B", "A", "tie", "A"])
    assert (found.pairs, found.flips, found.to_first, found.to_second) == (5, 2, 1, 1) and found.p == 1
    assert position(["A"] * 10, ["B"] * 10).p == pytest.approx(2 / 2**10)
    assert survivors(["A", "A", "tie", "error"], ["A", "B", "A", "A"]) == ["A", "tie", "tie", "error"]


def test_length_is_a_bias_only_beyond_what_people_do() -> None:
    a, b = [10, 10, 1, 1], [1, 1, 10, 10]
    found = length(list("AABB"), a, b, list("ABBA"))
    assert (found.longer_wins, found.human_longer_wins, found.difference) == (1, 0.5, 0.5)
    assert length(["tie"], [1], [2]).pairs == 0 and length(["A"], [5], [5]).pairs == 0


def test_a_judge_that_likes_length_is_seen_through() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(300, 100, 3_000), rng.normal(200, 100, 3_000)
    truth = 0.3  # A is better, a little
    shown = np.tanh((a - b) / (a - b).std())
    wins = rng.random(3_000) < 1 / (1 + np.exp(-(truth + 2 * shown)))
    found = length_controlled(["A" if w else "B" for w in wins], list(a), list(b))
    fair = 1 / (1 + np.exp(-truth))
    assert found.raw > fair + 0.1 and found.controlled == pytest.approx(fair, abs=0.04)  # three standard errors


def test_self_preference_counts_pairs_with_one_own_answer() -> None:
    found = self_preference("me", list("AABA"), ["me", "me", "you", "me"], ["you", "me", "me", "you"], list("BABA"))
    assert (found.pairs, found.own_wins, found.human_own_wins) == (3, 1, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("value", "word"),
    [(1, "A"), ("2", "B"), (0, "tie"), (1.0, "A"), ("Tie", "tie"), ("garbage", "unparseable"), (None, "unparseable")],
)
def test_verdicts_as_people_write_them(value: Any, word: str) -> None:
    assert verdict_of(value) == word


def test_numbers_are_compared_as_numbers() -> None:
    found = compare_numbers([1, 2, 3, "x", None], {"p": [1, 2, 4, 4, 5], "q": [1, 3, 4, 4, 5]})
    assert found["failures"] == 2 and found["with_people"]["items"] == 3
    assert found["with_people"]["mean_difference"] == pytest.approx((0 - 0.5 - 1) / 3)


def real(name: str) -> Iterator[dict[str, Any]]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository")
    with gzip.open(path, "rt") as file:
        yield from map(json.loads, file)


def test_a_report_has_every_coefficient() -> None:
    a, b = list("AAAABBBT"), list("AAABBBBA")
    words = {"A": "A", "B": "B", "T": "tie"}
    found = compare([words[x] for x in a], {"p": [words[x] for x in b]})["with_people"]
    table = crossed(a, b)
    assert (found["kappa"], found["pi"], found["ac1"]) == (cohen(table), scott(table), ac1(table))
    # Fleiss' kappa of two raters is Scott's pi; an item that one of them left out does not count.
    two = {"p": [*(words[x] for x in a), "A"], "q": [*(words[x] for x in b), None]}
    assert compare(["A"] * 9, two)["people"]["fleiss"] == pytest.approx(scott(table))
    assert compare(["A", "B", "A"], {"p": ["A", "B", "B"]})["people"]["fleiss"] is None


def test_pandalms_people_and_judges() -> None:
    rows = list(real("pandalm_human3/pandalm_testset.jsonl.gz"))
    people = {f"p{n}": [row[f"annotator{n}"] for row in rows] for n in (1, 2, 3)}
    texts = ([row["response1"] for row in rows], [row["response2"] for row in rows])
    found = compare([row["gpt35_verdict"] for row in rows], people, texts=texts)
    # published for all 999 rows: alpha .864, kappas .85 .88 .86; GPT-3.5 .716, kappa .493, AC1 .605, 2.5 % unparsed
    assert found["people"]["alpha"] == pytest.approx(0.8642, abs=0.02)
    assert [each["kappa"] for each in found["people"]["pairs"]] == pytest.approx([0.852, 0.879, 0.8615], abs=0.03)
    assert found["with_people"]["agree"] == pytest.approx(0.7156, abs=0.02)
    assert found["with_people"]["kappa"] == pytest.approx(0.4929, abs=0.03)
    assert found["with_people"]["ac1"] == pytest.approx(0.6052, abs=0.03)
    assert found["failures"] / len(rows) == pytest.approx(0.025, abs=0.01)
    assert found["length"]["difference"] < 0  # people like length more than this judge does


def test_llmbars_judges_in_both_orders() -> None:
    items = {row["item"]: row for row in real("llmbar/items.jsonl.gz")}
    rows = [r for r in real("llmbar/judge_verdicts_both_orders.jsonl.gz") if r["method"] == "Vanilla"]
    published = {  # mean accuracy over the two orders, whole sets
        "GPT-4": {"Natural": 95.5, "Neighbor": 78.7, "GPTInst": 86.4, "GPTOut": 77.7, "Manual": 80.4},
        "ChatGPT": {"Natural": 81.5, "Neighbor": 19.4, "GPTInst": 26.6, "GPTOut": 41.5, "Manual": 34.8},
    }
    for judge, subsets in published.items():
        for subset, accuracy in subsets.items():
            mine = [r for r in rows if r["judge"] == judge and items[r["item"]]["subset"].endswith(subset)]
            gold = {"gold": [items[r["item"]]["label"] for r in mine]}
            told = compare([r["winner_original"] for r in mine], gold, swapped=[r["winner_swapped"] for r in mine])
            assert 100 * told["accuracy"] == pytest.approx(accuracy, abs=6), (judge, subset)
    neighbor = [r for r in rows if r["judge"] == "ChatGPT" and items[r["item"]]["subset"].endswith("Neighbor")]
    gold = {"gold": [items[r["item"]]["label"] for r in neighbor]}
    told = compare([r["winner_original"] for r in neighbor], gold, swapped=[r["winner_swapped"] for r in neighbor])
    assert 1 - told["position"]["rate"] == pytest.approx(0.716, abs=0.05)  # consistent, and wrong
    assert told["position"]["to_first"] > told["position"]["to_second"] and told["position"]["p"] < 0.001
