"""Exact duplicates on normalised text."""

import json

import pytest

from gristmill.filter.duplicates import exact
from gristmill.filter.marks import kept
from tests.tables import by_row, samples, table

VARIANTS = ["Two  apples.", "two apples.", "TWO\napples. ", "Ｔwo\u00a0apples."]


def test_texts_equal_but_for_case_white_space_and_compatibility_forms_are_one():
    marked = exact(samples([("q", variant) for variant in VARIANTS] + [("q", "two pears.")])).collect()
    assert by_row(marked, "drop_rule").count((None,)) == 2
    survivor = min(row for (row,) in by_row(marked, "id")[:4])
    for rule, value, limit, evidence, size in by_row(
        marked, "drop_rule", "drop_value", "drop_limit", "drop_evidence", "rule_exact_duplicate"
    )[:4]:
        assert size == 4
        if rule:
            assert (rule, value, limit) == ("exact_duplicate", 1.0, 1.0)
            assert json.loads(evidence) == {"id": survivor, "copy": 0, "jaccard": 1.0}


@pytest.mark.parametrize(("text", "dropped"), [("both", 0), ("prompt", 2), ("response", 1)])
def test_the_compared_text_is_chosen(text, dropped):
    rows = samples([("q", "a"), ("q", "b"), ("r", "a"), ("q ", "c")])
    marked = exact(rows, text=text)
    assert 4 - kept(marked).count_rows() == dropped


def test_a_prompt_and_answer_split_elsewhere_are_the_same_text():
    assert kept(exact(samples([("a b", "c"), ("a", "b c")]))).count_rows() == 1


def test_preferences_compare_prompt_chosen_and_rejected():
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "b", "rejected": "a"}]
    assert kept(exact(table("preference", rows))).count_rows() == 2
    assert kept(exact(table("preference", [rows[0], rows[0]]))).count_rows() == 1


def test_rows_without_text_and_rows_alone_are_not_found():
    marked = exact(samples([("", ""), ("", None), ("q", "a")]))
    assert by_row(marked, "drop_rule", "rule_exact_duplicate") == [(None, None)] * 3


def test_the_equal_of_a_row_that_near_duplicates_remove_names_the_row_that_is_kept(tmp_path):
    import random

    import pyarrow.parquet as pq

    from gristmill.filter.pipeline import Settings, filter_files

    words = [f"word{n}" for n in random.Random(1).sample(range(9_000), 60)]
    texts = [" ".join(words), " ".join(words).upper(), " ".join([*words, "end"]), " ".join([*words, "END"])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": "q", "response": t}) + "\n" for t in texts))
    filter_files([str(tmp_path / "a.jsonl")], tmp_path / "out", Settings())
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    kept_ids = [row["id"] for row in rows if row["drop_rule"] is None]
    assert len(kept_ids) == 1
    assert {json.loads(row["drop_evidence"])["id"] for row in rows if row["drop_rule"]} == set(kept_ids)
