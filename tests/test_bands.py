"""The banding arithmetic against published figures."""

import pytest

from gristmill.errors import UsageError
from gristmill.filter.bands import MAX_HASHES, Bands, bands_for


@pytest.mark.parametrize(
    ("bands", "rows", "jaccard", "published"),
    [
        # 1 - (1 - s^r)^b of other tools' defaults, and Leskovec et al., fig. 3.8 (b = 20, r = 5).
        (14, 8, 0.8, 0.924),
        (14, 8, 0.5, 0.053),
        (20, 13, 0.8, 0.677),
        (25, 10, 0.9, 1.000),
        (8, 16, 0.8, 0.204),
        (20, 5, 0.2, 0.006),
        (20, 5, 0.5, 0.470),
        (20, 5, 0.8, 0.9996),
    ],
)
def test_the_s_curve_is_that_of_the_literature(bands, rows, jaccard, published):
    assert Bands(bands, rows).probability(jaccard) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("recall", [0.9, 0.98, 0.99])
def test_the_target_is_reached_with_no_band_to_spare(threshold, recall):
    bands = bands_for(threshold, recall)
    assert bands.probability(threshold) >= recall
    assert Bands(bands.bands - 1, bands.rows).probability(threshold) < recall
    assert bands.hashes <= MAX_HASHES


def test_the_default_is_sixteen_bands_of_six():
    assert bands_for(0.8, 0.99) == (16, 6)


@pytest.mark.parametrize(("threshold", "recall"), [(0, 0.9), (1, 0.9), (0.8, 0), (0.8, 1), (0.01, 0.999999)])
def test_targets_out_of_reach_are_refused(threshold, recall):
    with pytest.raises(UsageError, match=r"allowed|hashes"):
        bands_for(threshold, recall)
