"""The drawing of a run's lineage: every step is joined to what it was made from."""

from hypothesis import given
from hypothesis import strategies as st

from gristmill.report.lineage import STEPS, steps, times


def run(reads):
    """A lineage whose step n reads the steps of `reads[n]`."""
    return [
        {"key": str(n), "name": f"step {n}", "inputs": [{"name": f"step {m}", "key": str(m)} for m in read]}
        for n, read in enumerate(reads)
    ]


@st.composite
def graphs(draw):
    return [
        sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else [] for n in range(draw(st.integers(1, 12)))
    ]


@given(graphs())
def test_every_step_is_joined_to_all_it_reads_and_to_nothing_else(reads):
    carried = {}
    for n, step in enumerate(steps({"lineage": run(reads)})):
        parts = {part: [line for line in step["lines"] if line.part == part] for part in ("through", "in", "out")}
        assert sorted(carried[line.start] for line in parts["in"]) == reads[n]
        assert all(line.end == step["lane"] for line in parts["in"])
        below = {line.end: carried[line.start] for line in parts["through"]}
        assert step["lane"] not in below
        if parts["out"]:
            below[step["lane"]] = n
        assert max([step["lane"], *below]) < step["width"]
        carried = below
    assert carried == {}


def test_a_chain_needs_one_lane():
    assert {step["width"] for step in steps({"lineage": run([[], [0], [1], [2]])})} == {1}


def test_files_and_sizes_are_told():
    step = {"key": "1", "name": "read", "inputs": [{"name": "a", "path": "a"}], "bytes": 2_100_000, "seconds": 1.0}
    found = steps({"lineage": [step]})[0]
    assert (found["files"], found["from"], found["size"], found["rows"]) == (["a"], [], "2.1 MB", None)


def test_a_long_run_is_cut_and_none_is_none():
    assert len(steps({"lineage": run([[]] * 200)})) == STEPS
    assert steps({}) == times({}) == []


def test_times_are_shares_of_the_longest():
    stages = [{"name": "read", "rows_in": 3, "seconds": 4.0}, {"name": "near", "seconds": 1.0}, {"name": "old"}]
    assert [(each["name"], each["share"]) for each in times({"stages": stages})] == [("read", 1.0), ("near", 0.25)]
