"""When a loop stops and what its steps took: the rules and the accounts, without a model."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.loop.clusters_table import UNCLUSTERED
from gristmill.loop.loop_file import BudgetEntry, StopEntry
from gristmill.loop.once import once, read_json, total
from gristmill.loop.stops import plateau, seen, spent, unseen_mass
from gristmill.run import Run


def cluster(name: str, failed: int, passing: int = 0) -> dict[str, Any]:
    member = {"inside": True, "failed": 1.0}
    return {
        "cluster": name,
        "frequency": 0.1,
        "severity": 3.0,
        "members": [member] * failed + [member | {"failed": 0.0}] * passing + [member | {"inside": False}],
    }


@given(kinds=st.lists(st.integers(1, 5), max_size=12), passing=st.integers(1, 50))
def test_the_unseen_mass_is_good_and_turings_n1_over_n(kinds: list[int], passing: int) -> None:
    sample = [f"kind {number}" for number, count in enumerate(kinds) for _ in range(count)] + ["passes"] * passing
    n1 = sum(sample.count(kind) == 1 for kind in set(sample) - {"passes"})
    singles = [count for count in kinds if count == 1]  # too few for a cluster: in the bin of the unclustered
    clusters = [cluster(f"c{number}", count) for number, count in enumerate(kinds) if count > 1]
    clusters.append(cluster(UNCLUSTERED, len(singles)))
    assert unseen_mass(clusters, len(sample)) == n1 / len(sample)


def test_a_cluster_of_one_failing_item_is_a_kind_seen_once() -> None:
    assert unseen_mass([cluster("cut by hand", 1, passing=4), cluster("a", 3), cluster(UNCLUSTERED, 0)], 50) == 1 / 50


def test_the_plateau_is_rounds_in_a_row() -> None:
    stop = StopEntry(gain=0.01, rounds=2)
    assert plateau(stop, [0.0]) is None
    assert plateau(stop, [0.0, 0.2]) is None and plateau(stop, [0.2, 0.0]) is None
    assert plateau(stop, [0.0, 0.2, 0.005]) is None
    said = plateau(stop, [0.2, 0.0, 0.005])
    assert said and said.startswith("plateau: 2 rounds in a row gained less than 1.0%")


def test_little_unseen_stops_only_when_nothing_seen_is_worth_a_round() -> None:
    big, small = cluster("big", 30), cluster("small", 2) | {"frequency": 0.004}
    stop = StopEntry(unseen=0.05)
    assert seen(StopEntry(), 0.0, []) is None
    assert seen(stop, 0.05, []) is None
    assert seen(stop, 0.01, [small, big]) is None
    said = seen(stop, 0.01, [small])
    assert said and "unseen: a further item" in said and "1.0%, under 5.0%" in said and "0.012, at most 0.03" in said


def test_money_and_hours_are_budgets_of_their_own() -> None:
    took = {"money": 4.0, "seconds": 1_800.0}
    assert spent(StopEntry(), took) is None
    assert spent(StopEntry(budget=BudgetEntry(cost=5, hours=1)), took) is None
    money = spent(StopEntry(budget=BudgetEntry(cost=4)), took)
    assert money == "budget: 4.0000 of 4 is spent on calls (stop: budget: cost)"
    hours = spent(StopEntry(budget=BudgetEntry(hours=0.5)), took)
    assert hours == "budget: 0.50 of 0.5 hours are over (stop: budget: hours)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


class Step:
    """A step that counts how often it is done."""

    def __init__(self, place: Path):
        self.run, self.out, self.account = Run(place / "run"), place / "out.parquet", place / "out.json"
        self.times = 0

    def make(self) -> dict[str, Any]:
        self.times += 1
        pq.write_table(pa.table({"id": [f"{self.times}"]}), self.out)
        self.run.output(self.out, "step")
        return {"calls": 3, "tokens_in": 10, "tokens_out": 20, "cost": 0.5, "pair": (1, 2)}

    def done(self, **parts: Any) -> dict[str, Any]:
        return once(self.account, parts, self.make, run=self.run, out=self.out)


def test_a_step_is_done_once_and_tells_what_it_took_the_first_time(place: Path) -> None:
    step = Step(place)
    first = step.done(rows=1)
    assert first["took"] | {"seconds": 0} == {
        "calls": 3,
        "tokens_in": 10,
        "tokens_out": 20,
        "money": 0.5,
        "seconds": 0,
    }
    assert step.done(rows=1) == first and step.times == 1
    assert total([first["took"], first["took"]])["money"] == 1.0
    step.done(rows=2)
    assert step.times == 2


def test_a_step_is_done_again_when_its_file_is_another_or_unknown_to_the_run(place: Path) -> None:
    step = Step(place)
    step.done()
    step.out.write_bytes(b"half")
    step.done()
    assert step.times == 2
    step.out.unlink()
    step.done()
    assert step.times == 3
    step.run = Run(place / "another")
    step.done()
    assert step.times == 4


def test_an_account_that_was_cut_off_counts_as_none(place: Path) -> None:
    step = Step(place)
    step.done()
    step.account.write_text(step.account.read_text()[:20])
    step.done()
    assert step.times == 2 and read_json(step.account)["told"]["calls"] == 3
