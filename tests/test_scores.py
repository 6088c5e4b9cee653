import pytest

from gristmill.errors import UsageError
from gristmill.filter.scores import keep_top, minimum_scores
from tests.tables import by_row, table


def scored(*scores):
    return table("sample", [{"prompt": f"p{i}", "response": "r", "score_q": s} for i, s in enumerate(scores)])


def test_below_unjudged_and_nan_are_told_apart():
    marked = minimum_scores(scored(5.0, 3.0, None, float("nan"), 4.0), {"q": 4.0})
    assert by_row(marked, "drop_rule", "drop_value", "drop_limit") == [
        (None, None, None),
        ("below_q", 3.0, 4.0),
        ("unjudged_q", None, 4.0),
        ("unjudged_q", None, 4.0),
        (None, None, None),
    ]


def test_unjudged_rows_stay_when_asked():
    kept = minimum_scores(scored(None, float("nan"), 1.0), {"q": 4.0}, keep_unjudged=True)
    assert by_row(kept, "drop_rule") == [(None,), (None,), ("below_q",)]


def test_an_unknown_score_names_those_there_are():
    with pytest.raises(UsageError, match="scores in this table: q"):
        minimum_scores(scored(1.0), {"other": 1.0})


def test_keep_top_keeps_the_exact_number_even_in_ties():
    rules = [r for (r,) in by_row(keep_top(scored(*[1.0] * 7, None), 0.5, "q"), "drop_rule")]
    assert (rules.count(None), rules.count("below_q"), rules.count("unjudged_q")) == (4, 3, 1)


def test_keep_top_considers_only_kept_rows():
    marked = keep_top(minimum_scores(scored(1.0, 5.0, 6.0), {"q": 2.0}), 0.5, "q")
    assert by_row(marked, "drop_rule", "drop_limit") == [("below_q", 2.0), ("below_q", 6.0), (None, None)]


@pytest.mark.parametrize("fraction", [0, -1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UsageError, match="fraction"):
        keep_top(scored(1.0), fraction, "q")
