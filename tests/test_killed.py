"""The filter survives kills at any moment, a second process, and a damaged run: the same rows, nothing done twice."""

import json
from collections import Counter

import pytest

from gristmill.ledger import Ledger
from tests.started import ROWS, STAGES, ended, home, killed_at, left_behind, reached, start, told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = home(tmp_path_factory.mktemp("undisturbed"))
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert code == 0, said
    return told(place / "out")


def finished(place):
    return {step.key: (step.name, step.created) for step in Ledger(place / "run").steps()}


def lineage(out):
    return {step["key"]: step for step in json.loads((out / "summary.json").read_text())["lineage"]}


def test_the_filter_that_is_killed_has_something_to_do_in_every_stage(undisturbed):
    summary = undisturbed[-1]
    dropped = {stage["name"]: stage["dropped"] for stage in summary["stages"]}
    assert set(dropped) == STAGES and all(dropped.values()), dropped
    assert len(undisturbed[2]) > 50 and summary["rows_in"] == ROWS


def test_killed_at_moment_after_moment_it_ends_with_the_same_rows(tmp_path, undisturbed):
    place = home(tmp_path / "home")
    arguments = ("-o", "out", "--run", "run")
    before: dict[str, tuple[str, str]] = {}
    for moment, done in [
        ("read", set()),
        ("near", {"read", "contamination", "signatures", "exact"}),
        ("write", {"read", "contamination", "signatures", "exact", "near", "openings"}),
        ("commit", {"read", "contamination", "signatures", "exact", "near", "openings"}),
    ]:
        killed_at(place, moment, *arguments)
        after = finished(place)
        assert {name for name, _ in after.values()} == done and not (place / "out").exists()
        assert before.items() <= after.items()
        before = after
    code, said = ended(start(place, *arguments))
    assert code == 0, said
    assert told(place / "out") == undisturbed
    assert finished(place) == before and all(step["reused"] for step in lineage(place / "out").values())

    killed_at(place, "aside", *arguments)  # the earlier output has moved aside, the new one is not there yet
    assert not (place / "out").exists()
    code, said = ended(start(place, *arguments))
    assert code == 0, said
    assert told(place / "out") == undisturbed and finished(place) == before
    assert left_behind(place) == []


@pytest.mark.parametrize("outs", [("out-a", "out-b"), ("out", "out")])
def test_two_filters_on_one_run_compute_each_step_once(tmp_path, undisturbed, outs):
    place = home(tmp_path / "home")
    (place / "hold-read").touch()
    both = [start(place, "-o", out, "--run", "run") for out in outs]
    partials = {f".{out}.*.partial" for out in outs}
    while sum(len(list(place.glob(pattern))) for pattern in partials) < 2:  # one reads, the other waits for it
        reached(place, both[0], *partials)
        assert both[1].poll() is None, ended(both[1])
    reached(place, both[0], "at-read")
    (place / "hold-read").unlink()
    for process in both:
        code, said = ended(process)
        assert code == 0, said
    for out in outs:
        assert told(place / out) == undisturbed
    if outs[0] != outs[1]:
        steps = [step for out in outs for step in lineage(place / out).values()]
        assert set(Counter(step["key"] for step in steps if not step["reused"]).values()) == {1}
        assert {step["key"] for step in steps if not step["reused"]} == set(finished(place))
    ledger = Ledger(place / "run")
    assert len(finished(place)) == 6 and len(ledger.outputs()) == 2 and ledger.claimed() == []
    assert left_behind(place) == []
