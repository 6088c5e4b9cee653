from gristmill.filter.collapse import mark_openings, openings_findings
from gristmill.filter.signatures import signed
from tests.tables import by_row, samples, table


def test_the_first_200_characters_decide_and_marking_is_asked_for():
    rows = samples([("a", "X" * 200 + "one"), ("b", "x" * 200 + "two"), ("c", "x" * 199), ("d", ""), ("e", "")])
    signatures, keys = signed(rows, text="both", prefer=None, openings=True)
    reported = openings_findings(signatures, rows, keys.select(["id", "copy"]))
    assert reported.report == {"groups": 1, "rows": 2, "largest": [{"opening": "x" * 200, "size": 2}]}
    assert by_row(mark_openings(rows), "rule_collapsed", "drop_rule") == [(2.0, None)] * 2 + [(None, None)] * 3


def test_the_best_score_survives():
    given = [{"prompt": str(s), "response": "Same  words", "score_q": s} for s in (1.0, None, 3.0)]
    marked = mark_openings(table("sample", given), drop=True, prefer="q")
    assert by_row(marked, "drop_rule", "drop_value", "drop_limit") == [
        ("collapsed", 3.0, 1.0),
        ("collapsed", 3.0, 1.0),
        (None, None, None),
    ]
