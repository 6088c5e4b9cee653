"""A mix with an exact share of reasoning."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.generate.mix import Member, chosen, surplus
from gristmill.shares import allotted, rounded

SHARES = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.35, 0.4, 0.5, 0.75, 1.0])


def members(rows: list[tuple[str, bool]]) -> list[Member]:
    return [Member(f"g1:{number}", 0, stratum, reasons) for number, (stratum, reasons) in enumerate(rows)]


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60).map(members)


def after(rows: list[Member], changed: set[tuple[str, int]], adds: bool) -> list[Member]:
    return [row._replace(reasons=adds) if (row.id, row.copy) in changed else row for row in rows]


@pytest.mark.parametrize(
    ("share", "rows", "wanted"), [(0.4, 10, 4), (0.4, 11, 4), (0.35, 10, 4), (0.5, 5, 3), (0, 9, 0)]
)
def test_halves_are_rounded_up(share: float, rows: int, wanted: int) -> None:
    assert rounded(share, rows) == wanted


@settings(deadline=None)  # a loaded machine is no failure
@given(ROWS, SHARES, st.booleans())
def test_exactly_the_share_has_reasoning_or_it_is_said_why_not(rows: list[Member], share: float, adds: bool) -> None:
    wanted, there = rounded(share, len(rows)), sum(row.reasons for row in rows)
    if wanted < there if adds else wanted > there:
        with pytest.raises(UsageError, match=r"--reason-share .* of .* rows have reasoning"):
            chosen(rows, share, adds=adds, seed=0)
        return
    changed = chosen(rows, share, adds=adds, seed=0)
    assert all(row.reasons != adds for row in rows if (row.id, row.copy) in changed)
    assert sum(row.reasons for row in after(rows, changed, adds)) == wanted
    assert len(changed) == abs(wanted - there)


def test_every_stratum_has_the_share_as_nearly_as_whole_rows_allow() -> None:
    rows = members([("a", True)] * 50 + [("b", True)] * 25 + [("c", True)] * 10 + [("d", True)] * 5)
    changed = chosen(rows, 0.4, adds=False, seed=3)
    counts = Counter(row.stratum for row in after(rows, changed, adds=False) if row.reasons)
    assert counts == {"a": 20, "b": 10, "c": 4, "d": 2}


def test_the_largest_remainders_get_what_is_left() -> None:
    quotas = {"a": 2.8, "b": 1.2, "c": 0.6, "d": 0.4}
    bounds = (dict.fromkeys(quotas, 0), dict.fromkeys(quotas, 9))
    assert allotted(5, quotas, *bounds) == {"a": 3, "b": 1, "c": 1, "d": 0}


def test_a_stratum_that_cannot_give_its_part_is_made_up_for_by_the_others() -> None:
    rows = members([("a", True)] * 10 + [("b", False)] * 10)
    changed = chosen(rows, 0.4, adds=False, seed=0)
    assert len(changed) == 2


def test_what_is_drawn_depends_on_seed_and_row_not_on_order() -> None:
    rows = members([("a", True)] * 40)
    one, other = (chosen(rows, 0.5, adds=False, seed=seed) for seed in (0, 1))
    assert chosen(rows[::-1], 0.5, adds=False, seed=0) == one != other


@settings(deadline=None)  # a loaded machine is no failure
@given(ROWS, SHARES)
def test_without_the_surplus_the_share_is_exact(rows: list[Member], share: float) -> None:
    dropped = surplus(rows, share, seed=0)
    left = [row for row in rows if (row.id, row.copy) not in dropped]
    assert sum(row.reasons for row in left) == rounded(share, len(left))
    assert len({row.reasons for row in rows if (row.id, row.copy) in dropped}) <= 1


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(st.booleans(), min_size=1, max_size=9), SHARES)
def test_the_surplus_is_the_smallest_there_is(reasons: list[bool], share: float) -> None:
    rows = members([("a", each) for each in reasons])
    fewest = next(
        size
        for size in range(len(rows) + 1)
        if any(sum(part) == rounded(share, len(part)) for part in combinations(reasons, len(rows) - size))
    )
    assert len(surplus(rows, share, seed=0)) == fewest
