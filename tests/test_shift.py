"""The statistics against definitions, scipy and published examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, hypergeom, mannwhitneyu

from gristmill.filter.shift import dominance, holm, js_distance, p_values, stability_index

values = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30).map(np.array)
counts = st.lists(st.integers(1, 60), min_size=3, max_size=3).map(np.array)


@given(values, values)
def test_the_effect_is_cliffs_delta_of_kept_against_all_and_its_parts_sum_to_it(kept, dropped):
    every = np.concatenate([kept, dropped])
    found = dominance(kept, dropped)
    assert found.effect == pytest.approx(np.sign(kept[:, None] - every[None, :]).mean(), abs=1e-12)
    assert found.parts.sum() == pytest.approx(found.effect, abs=1e-12)
    assert -1 <= found.low <= found.effect + 1e-12 and found.effect - 1e-12 <= found.high <= 1


@given(counts, counts)
def test_distance_and_index_follow_their_definitions(kept, dropped):
    distance, low, high = js_distance(kept, dropped)
    assert distance == pytest.approx(jensenshannon(kept, kept + dropped, base=2), abs=1e-7)
    assert 0 <= low <= high <= 1
    p, q = (kept + 0.5) / (kept + 0.5).sum(), (kept + dropped + 0.5) / (kept + dropped + 0.5).sum()
    assert stability_index(kept, dropped) == pytest.approx(
        sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True))
    )


def test_intervals_hold_the_truth_nineteen_times_of_twenty():
    bins, odds = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.3, 0.4, 0.5, 0.8])
    p, q = bins * odds / (bins * odds).sum(), bins * (1 - odds) / (bins * (1 - odds)).sum()
    share = float((bins * odds).sum())
    distance = jensenshannon(p, bins, base=2)
    sign = np.sign(np.subtract.outer(np.arange(4), np.arange(4)))
    effect = (1 - share) * p @ sign @ q
    held = np.zeros(2)
    for trial in range(200):
        random = np.random.default_rng(trial)
        sample = random.choice(4, 500, p=bins)
        kept = random.random(500) < odds[sample]
        _, low, high = js_distance(*(np.bincount(sample[side], minlength=4) for side in (kept, ~kept)))
        found = dominance(sample[kept].astype(float), sample[~kept].astype(float))
        held += [low <= distance <= high, found.low <= effect <= found.high]
    assert (held >= 180).all()


def test_without_a_shift_the_interval_of_the_distance_begins_at_zero():
    held = 0
    for trial in range(100):
        kept, dropped = np.random.default_rng(trial).multinomial(60, [0.1] * 10, 2)
        held += js_distance(kept, dropped)[1] == 0
    assert held >= 95


def test_large_counts_are_tested_as_by_scipy():
    kept, dropped = np.array([300, 400, 200, 100]), np.array([260, 400, 220, 150])
    location, shape = p_values(kept, dropped)
    codes = [np.repeat(np.arange(4), side) for side in (kept, dropped)]
    plain = mannwhitneyu(*codes, use_continuity=False, method="asymptotic").pvalue
    assert location == pytest.approx(plain)
    assert shape == pytest.approx(chi2_contingency([kept, dropped], correction=False).pvalue)


def test_small_counts_are_tested_by_random_keeps():
    location, shape = p_values(np.array([3, 0]), np.array([12, 85]))
    draws = hypergeom(100, 15, 3)  # the kept that fall in the first bin: 3 is the farthest from the expected 0.45
    assert (location, shape) == pytest.approx((draws.pmf(3), draws.pmf(3)), abs=0.001)


def test_one_bin_says_nothing():
    assert p_values(np.array([5, 0]), np.array([20, 0])) == (1.0, 1.0)


def test_published_examples():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
