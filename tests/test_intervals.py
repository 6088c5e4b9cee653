"""Intervals of shares: as scipy has them, as published, and for shares of what is no whole number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gristmill.intervals import wilson


@given(st.integers(1, 500), st.sampled_from([0.5, 0.8, 0.95, 0.99]), st.data())
def test_wilsons_interval_is_scipys(n: int, confidence: float, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    expected = binomtest(count, n).proportion_ci(confidence, method="wilson")
    assert wilson(count, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_published_examples() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


@given(st.floats(0, 1), st.floats(0.1, 1e6))
def test_any_share_of_any_number_lies_in_its_interval(share: float, n: float) -> None:
    low, high = wilson(share * n, n)
    assert -1e-12 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1 + 1e-12


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
