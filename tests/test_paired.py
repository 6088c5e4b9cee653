"""Two models on the same items: published intervals, exact levels, and power that is the power there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from gristmill.loop.paired import (
    Pairs,
    holm,
    interval,
    items_better,
    items_not_worse,
    mcnemar,
    pairs_of,
    power_better,
    power_not_worse,
    score,
)
from tests.data_sets import rows


def test_tangos_interval_has_published_values() -> None:
    # Fagerland, Lydersen and Laake 2014 (Stat. Med. 33:2850), airway hyper-responsiveness: 1, 1, 7, 12
    assert interval(Pairs(21, 1, 7)) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_tangos_interval_solves_the_quartic_of_its_closed_form(n: int, data: st.DataObject) -> None:
    """Yang, Sun and Hardin 2012 (doi:10.1002/sim.5561): the limits are roots of a quartic in the difference."""
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    g, d = float(norm.ppf(0.975)) ** 2, gained - lost
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * ((gained + lost) / g + 1),
        n * d * (2 * (gained + lost) / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - (gained + lost)) / g,
    ]
    for limit in interval(Pairs(n, gained, lost)):
        assert abs(limit) == 1 or abs(np.polyval(quartic, limit)) < 1e-6 * max(map(abs, quartic))


@given(st.integers(1, 400), st.data())
@settings(max_examples=60, deadline=None)
def test_an_interval_is_finite_holds_the_difference_and_mirrors(n: int, data: st.DataObject) -> None:
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    low, high = interval(Pairs(n, gained, lost))
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert interval(Pairs(n, lost, gained)) == pytest.approx((-high, -low), abs=1e-9)


def test_without_a_discordant_item_the_limit_is_that_of_a_share_of_none() -> None:
    z2 = float(norm.ppf(0.95)) ** 2
    assert interval(Pairs(30, 0, 0), 0.9) == pytest.approx((-z2 / (30 + z2), z2 / (30 + z2)))
    with pytest.raises(ValueError, match="no item"):
        interval(Pairs(0, 0, 0))


def test_mcnemar_is_a_coin_over_the_discordant_items() -> None:
    assert mcnemar(Pairs(50, 9, 1)) == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert mcnemar(Pairs(50, 9, 1), "greater") == pytest.approx(binom.cdf(1, 10, 0.5))
    assert mcnemar(Pairs(50, 0, 0)) == 1


def test_llama_against_dart_on_math() -> None:
    results = [row["real"] for row in rows("evaltree_weakness/MATH_results")]
    llama, dart = (
        [bool(r[name]) for r in results] for name in ("Llama-3.1-8B-Instruct", "dart-math-llama3-8b-uniform")
    )
    pairs = pairs_of(llama, dart)
    assert pairs == Pairs(5000, gained=491, lost=712)
    assert mcnemar(pairs) == pytest.approx(2.01e-10, rel=2e-3)
    assert pairs.difference == pytest.approx(-0.0442)
    assert pairs.lost / pairs.n == pytest.approx(0.1424)
    wald = 1.959964 * np.sqrt(1203 - 221**2 / 5000) / 5000
    assert (-0.0442 - wald, -0.0442 + wald) == pytest.approx((-0.0577, -0.0307), abs=5e-5)
    assert interval(pairs) == pytest.approx((-0.0442 - wald, -0.0442 + wald), abs=5e-5)


def trinomial(n: int, gained: float, lost: float):
    """All counts of n items with their probabilities, term by term."""
    for won in range(n + 1):
        for fell in range(n + 1 - won):
            chance = binom.pmf(won, n, gained) * binom.pmf(fell, n - won, lost / (1 - gained))
            yield won, fell, chance


def test_power_is_the_sum_over_all_counts() -> None:
    n, margin, level, share, difference = 40, 0.1, 0.05, 0.3, 0.1
    counts = list(trinomial(n, (share + difference) / 2, (share - difference) / 2))
    z = norm.isf(level)
    not_worse = sum(p for won, fell, p in counts if score(won, fell, n, -margin) >= z)
    assert power_not_worse(n, margin, level, share, difference) == pytest.approx(not_worse, abs=1e-5)
    better = sum(p for won, fell, p in counts if mcnemar(Pairs(n, won, fell), "greater") <= level)
    assert power_better(n, level, share, difference) == pytest.approx(better, abs=1e-5)


@pytest.mark.parametrize("n", [12, 20, 50, 100, 300])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_a_candidate_worse_by_the_margin_passes_about_as_seldom_as_it_should(n: int, margin: float) -> None:
    """At the first look's level, over all counts; nearer to it the more items there are."""
    for share in (margin, 1.2 * margin, 0.15, 0.3, 0.7):
        assert power_not_worse(n, margin, 0.025, share, -margin) < (0.027 if n >= 100 else 0.032)


@pytest.mark.parametrize(
    ("share", "margin", "n"), [(0.1, 0.05, 247), (0.1, 0.02, 1546), (0.2, 0.05, 495), (0.2, 0.02, 3093)]
)
def test_the_items_needed_are_near_those_of_the_formula(share: float, margin: float, n: int) -> None:
    """(1.645 + 0.842)^2 times the discordant share over the margin squared, at 5 % and a power of 80 %."""
    needed = items_not_worse(margin, 0.05, share)
    assert n * 0.98 < needed < n * 1.08
    assert power_not_worse(needed, margin, 0.05, share) >= 0.8


def test_the_items_needed_have_the_power() -> None:
    needed = items_better(0.025, 0.2, 0.05)
    assert power_better(needed, 0.025, 0.2, 0.05) >= 0.8 > power_better(needed // 2, 0.025, 0.2, 0.05)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
