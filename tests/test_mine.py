"""Failures that hang together are found, chance finds nothing, and what people say of clusters stays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import binom, binomtest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.loop.clusters import exact_interval, text_space, tree_of
from gristmill.loop.clusters_table import read_clusters
from gristmill.loop.edits import read_edits
from gristmill.loop.failures import read_failures
from gristmill.loop.mine import Mining, half_of, mine
from gristmill.loop.names import class_words
from gristmill.loop.rank import Factors
from gristmill.loop.scan import Scan, Sets, bar_of, ratio
from gristmill.loop.slices import slices
from gristmill.rollout.groups import Solved

TOPICS = {
    "sum": "Add {a} apples to {b} apples in the basket of the grocer.",
    "ratio": "Simplify the fraction {a} over {b} with a common divisor.",
    "clock": "A train leaves at {a} and travels until {b}; tell the minutes.",
    "area": "Find the area of a rectangle with sides {a} and {b} metres.",
    "colour": "Name a colour that mixes from paint pots {a} and {b}.",
    "prime": "Decide whether the number {a}{b} is prime by trial.",
}


def rows(seed: int = 0, each: int = 40, weak: str = "ratio", **more: Any) -> list[dict[str, Any]]:
    """Items on six topics; those of one topic fail at 0.85, the others at 0.2."""
    rng = np.random.default_rng(seed)
    found = []
    for topic, text in TOPICS.items():
        for number in range(each):
            prompt = text.format(a=rng.integers(2, 99), b=number)
            wrong = rng.random() < (0.85 if topic == weak else 0.2)
            row = {"prompt": prompt, "response": "r", "reference": "1", "score_right": float(not wrong)}
            found.append(row | {"suite": "s", "item": f"{topic}{number}"} | more)
    return found


def write(path: Path, listed: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return str(path)


def gristmill(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> str:
    with pytest.raises(SystemExit) as left:
        command([str(each) for each in arguments])
    told = capsys.readouterr()
    assert (left.value.code or 0) == code, told.err
    return told.out if not code else told.err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_weak_topic_is_found_from_its_text_and_named_by_its_words(here: Path) -> None:
    evals = read_failures(write(here / "e.jsonl", rows()))
    mined = mine(evals, Mining(resamples=5))
    assert len(mined.clusters) == 1
    keys = {evals.items[n]["key"] for n in mined.clusters[0].members.tolist()}
    ratio_items = {f"s/ratio{n}" for n in range(40)}
    assert len(keys & ratio_items) / len(keys | ratio_items) > 0.9
    assert set(mined.clusters[0].words) & {"fraction", "simplify", "divisor", "common divisor"}
    assert mined.clusters[0].p_value < 0.02
    assert mined.clusters[0].stability is not None and mined.clusters[0].stability > 0.8
    inside = set(mined.clusters[0].members.tolist())
    assert set(mined.unclustered.tolist()) == {n for n in np.flatnonzero(evals.failed).tolist() if n not in inside}


def test_a_weakness_of_two_slots_at_once_is_found_as_that_conjunction(here: Path) -> None:
    rng = np.random.default_rng(1)
    listed = []
    for number in range(600):
        slots = {"operation": ("add", "sub")[rng.integers(2)], "carry": ("yes", "no")[rng.integers(2)]}
        wrong = rng.random() < (0.8 if slots == {"operation": "sub", "carry": "yes"} else 0.15)
        row = {"prompt": f"{rng.integers(999)} ? {number}", "response": "r", "score_right": float(not wrong)}
        listed.append(row | {f"slot_{name}": value for name, value in slots.items()})
    found = mine(read_failures(write(here / "e.jsonl", listed)), Mining(resamples=0)).clusters
    assert [each.definition for each in found] == ["carry = yes and operation = sub"]


def test_shuffled_outcomes_report_nothing_in_most_draws(here: Path) -> None:
    evals = read_failures(write(here / "e.jsonl", rows()))
    rng = np.random.default_rng(5)
    draws = [evals._replace(failed=rng.permutation(evals.failed)) for _ in range(20)]
    reported = sum(bool(mine(each, Mining(resamples=0, draws=99)).clusters) for each in draws)
    assert reported <= int(binom.isf(0.001, 20, 0.02))


def test_the_same_seed_gives_the_same_clusters(here: Path) -> None:
    evals = read_failures(write(here / "e.jsonl", rows()))
    one, two = (mine(evals, Mining(resamples=3, seed=4)).clusters for _ in range(2))
    assert [(a.id, a.members.tolist(), a.stability) for a in one] == [
        (b.id, b.members.tolist(), b.stability) for b in two
    ]


def test_the_ratio_is_that_of_the_binomial_likelihoods() -> None:
    inside, n, failures, total = 9, 12, 20, 60
    expected = (
        binom.logpmf(inside, n, inside / n)
        + binom.logpmf(failures - inside, total - n, (failures - inside) / (total - n))
        - binom.logpmf(inside, n, failures / total)
        - binom.logpmf(failures - inside, total - n, failures / total)
    )
    assert ratio(np.array([9.0]), np.array([12.0]), 20.0, 60.0)[0] == pytest.approx(expected)
    assert ratio(np.array([1.0]), np.array([12.0]), 20.0, 60.0)[0] == 0  # fails less than the rest
    assert ratio(np.array([20.0]), np.array([60.0]), 20.0, 60.0)[0] == 0  # there is no rest


def test_chance_is_told_by_its_own_quantiles() -> None:
    rng = np.random.default_rng(0)
    members = [np.sort(rng.choice(200, 20, replace=False)) for _ in range(50)]
    scan = Scan(Sets(members, np.empty((0, 0), np.int64), np.zeros(50, np.int64)), 200, 5)
    failed = (rng.random(200) < 0.3).astype(float)
    maxima = scan.chance(failed, draws=400, seed=1)
    assert np.mean(maxima > bar_of(maxima).limit(0.05)) == pytest.approx(0.05, abs=0.03)


def test_intervals_are_exact_and_priorities_are_the_product_of_their_factors() -> None:
    assert exact_interval(7, 10) == pytest.approx(tuple(binomtest(7, 10).proportion_ci(0.95, "exact")))
    known = Factors(10, 7, 0.7, 0.3, 0.9, 0.1, 0.02, 4.0, 0.5, 2.0)
    assert known.priority == pytest.approx(0.02 * 4 * 0.5 / 2)


def test_class_words_are_weighed_as_in_their_paper() -> None:
    words = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    told = class_words(csr_matrix(words), ["all", "red", "blue"], [np.array([0, 1])])
    # "red": 2/4 log(1 + 4/2), "all": 2/4 log(1 + 4/4)
    assert told == [["red", "all"]]


def test_the_tree_divides_its_nodes() -> None:
    space = text_space("prompt", [row["prompt"] for row in rows()], 0)
    assert space is not None
    nodes = tree_of(space, least=5, seed=0)
    for node in nodes[1:]:
        parent = nodes[node.parent or 0]
        assert set(node.members.tolist()) < set(parent.members.tolist())
    firsts = [set(node.members.tolist()) for node in nodes if node.parent == 0]
    assert 1 < len(firsts) <= 10 and sum(map(len, firsts)) == len(set().union(*firsts))


def test_slices_are_conjunctions_over_different_fields_with_intervals_of_numbers() -> None:
    items = [
        {"prompt": [], "tags": ["odd"] if n % 2 else [], "facts": {"digits": n % 4, "kind": "ab"[n // 20]}}
        for n in range(40)
    ]
    found = {" and ".join(each.predicates): each.members.tolist() for each in slices(items, least=5)}
    assert found["kind = a and tag odd"] == list(range(1, 20, 2))
    assert [n for n in range(40) if n % 4 >= 2] in found.values()
    assert not any(name.count("kind") > 1 for name in found)


def test_an_item_of_several_samples_counts_by_its_share_and_unjudged_ones_neither_way(here: Path) -> None:
    row = {"prompt": "p", "response": "good", "suite": "s", "item": "1"}
    listed = [row | {"score_right": 1.0}, row | {"score_right": 0.0, "response": "bad"}, row | {"score_right": None}]
    evals = read_failures(write(here / "e.jsonl", listed))
    assert (evals.failed.tolist(), evals.samples, evals.unjudged) == ([0.5], [2], 1)
    assert evals.items[0]["response"] == "bad"


def test_several_scores_need_to_be_told_apart(here: Path) -> None:
    path = write(here / "e.jsonl", [row | {"score_other": 1.0} for row in rows(each=5)])
    with pytest.raises(UsageError, match=r"--solved: .* the scores are other, right"):
        read_failures(path)
    assert read_failures(path, Solved("other")).failed.sum() == 0


def test_the_command_ranks_explains_and_keeps_edits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows())
    told = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--json"))
    (cluster,) = told["clusters"]
    assert {len(cluster["examples"][sort]) for sort in ("central", "borderline", "neighbour")} == {3}
    assert cluster["priority"] == pytest.approx(cluster["frequency"] * 3)
    assert told["unclustered"]["failures"] + cluster["failures"] == told["failures"]
    nodes = told["trees"]["prompt"]
    assert nodes[0]["items"] == 240 and all(
        node["low"] <= node["failures"] / node["items"] <= node["high"] for node in nodes
    )
    (here / "c.edits.yaml").write_text(
        f"clusters:\n  {cluster['cluster']}: {{name: shortening, severity: 5, effort: 2}}\n  gone: {{severity: 1}}\n"
    )
    again = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--json"))
    (edited,) = again["clusters"]
    assert (edited["name"], edited["cluster"], edited["members"]) == (
        "shortening",
        cluster["cluster"],
        cluster["members"],
    )
    assert edited["priority"] == pytest.approx(cluster["frequency"] * 5 / 2)
    assert again["edits_unknown"] == ["gone"]
    assert "shortening" in gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet")
    table = read_clusters("c.parquet")
    assert [row["cluster"] for row in table] == [cluster["cluster"], "unclustered"]
    assert {member["half"] for member in table[0]["members"]} == {"train", "held_out"}


def test_clusters_are_split_and_merged_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows())
    (cluster,) = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--json"))["clusters"]
    id = cluster["cluster"]
    (here / "mine.yaml").write_text(f"clusters:\n  {id}: {{split: ['fraction [1-4]']}}\n")
    split = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--edits", "mine.yaml", "--json"))
    parts = {row["cluster"]: set(row["members"]) for row in split["clusters"]}
    assert parts.keys() == {f"{id}.1", f"{id}.2"} and set.union(*parts.values()) == set(cluster["members"])
    (here / "mine.yaml").write_text(f"clusters:\n  {id}: {{split: ['fraction [1-4]']}}\nmerge: [[{id}.2, {id}.1]]\n")
    merged = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--edits", "mine.yaml", "--json"))
    assert [(row["cluster"], set(row["members"])) for row in merged["clusters"]] == [
        (f"{id}.2", set(cluster["members"]))
    ]


def test_the_file_of_edits_that_is_written_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows())
    one = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--json"))
    assert one["clusters"][0]["cluster"] in (here / "c.edits.yaml").read_text()
    assert not read_edits(here / "c.edits.yaml").clusters
    two = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--json"))
    assert one["clusters"] == two["clusters"]
    (here / "c.edits.yaml").write_text("clusters: {a: {severity: 9}}\n")
    error = gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", code=2)
    assert "c.edits.yaml: clusters.a.severity" in error and "less than or equal to 5" in error


def test_a_teacher_that_fails_too_leaves_no_headroom(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows())
    write(here / "t.jsonl", [row | {"score_right": float("ratio" not in row["item"])} for row in rows()])
    told = json.loads(gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--teacher", "t.jsonl", "--json"))
    assert told["clusters"][0]["headroom"] < 0.1


def test_a_model_names_clusters_beside_their_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows())
    (here / "fake.yaml").write_text("replies: [{match: 'Simplify the fraction', reply: 'Shortening fractions.'}]\n")
    told = gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--name-with", "fake:fake.yaml")
    assert "1. Shortening fractions (" in told
    assert pq.read_table("c.parquet")["model_name"].to_pylist()[0] == "Shortening fractions"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([row | {"score_right": 0.0} for row in rows(each=5)], "all items fail alike"),
        (rows(each=2), "at least 20"),
        (
            [{"prompt": "p", "response": "r", "correct": 1}],
            "no column score_…; gristmill score --with SCORE judges them",
        ),
    ],
)
def test_what_cannot_be_mined_is_refused_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], listed: list[dict[str, Any]], said: str
) -> None:
    write(here / "e.jsonl", listed)
    error = gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", code=2)
    assert said in error.splitlines()[-1]


def test_a_field_that_no_item_has_is_refused_not_searched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", rows(slot_side="left"))
    error = gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--slice", "slide", code=2)
    assert "--slice slide: no item has it; allowed are" in error and "side" in error
    gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet", "--slice", "slot_side")  # as eval and gate call it


def test_items_without_a_prompt_are_mined_by_what_else_they_have(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = [
        {"item": row["item"], "correct": row["score_right"], "topic": row["item"].rstrip("0123456789")}
        for row in rows()
    ]
    write(here / "log.jsonl", log)
    gristmill(capsys, "eval", "log.jsonl", "-o", "e.parquet")
    assert "topic = ratio" in gristmill(capsys, "mine", "e.parquet", "-o", "c.parquet")
    assert {member["half"] for member in read_clusters("c.parquet")[0]["members"]} == {"train", "held_out"}


def test_bad_rows_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(write(here / "e.jsonl", rows()))
    path.write_text(path.read_text() + "{broken\n")
    assert "1 bad rows set aside; first: e.jsonl:240: not JSON" in gristmill(
        capsys, "mine", "e.jsonl", "-o", "c.parquet"
    )


def test_a_model_without_failures_has_no_clusters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "e.jsonl", [row | {"score_right": 1.0} for row in rows(each=5)])
    assert "no cluster: nothing fails" in gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet")


def test_embeddings_of_ones_own_are_clustered(here: Path) -> None:
    rng = np.random.default_rng(0)
    listed = []
    for number in range(200):
        side = number % 2
        wrong = rng.random() < (0.8 if side else 0.1)
        vector = [float(side), 1.0 - side, float(rng.random() / 5)]
        listed.append({"prompt": f"{number}", "response": "r", "score_right": float(not wrong), "vector": vector})
    evals = read_failures(write(here / "e.jsonl", listed))
    found = mine(evals, Mining(texts=[], embeddings="vector", resamples=0)).clusters
    assert [set(each.members.tolist()) for each in found] == [set(range(1, 200, 2))]


def test_items_of_one_lineage_are_in_one_half() -> None:
    halves = [half_of(f"seed{n}") for n in range(1000)]
    assert 400 < halves.count("train") < 600
    assert half_of("seed1") == half_of("seed1")
