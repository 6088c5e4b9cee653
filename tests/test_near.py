"""Near duplicates against brute force: what is dropped is similar to a kept row, what is kept is similar to none."""

import json
import random

import daft
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.filter.duplicates import exact
from gristmill.filter.marks import dropped, kept
from gristmill.filter.near import near
from gristmill.filter.numbers import without_numbers, word_hashes
from gristmill.filter.shingles import NGRAM
from tests.tables import by_row, samples, table

VOCABULARY = [f"word{n}" for n in range(3_000)]


def text(seed, words=60):
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def edited(original, changes, seed=0):
    words = original.split()
    for place in random.Random(seed).sample(range(len(words)), changes):
        words[place] = f"edit{seed}x{place}"
    return " ".join(words)


def shingles(words):
    return {tuple(words[n : n + NGRAM]) for n in range(max(1, len(words) - NGRAM + 1))}


def jaccard(one, other):
    a, b = shingles(one.lower().split()), shingles(other.lower().split())
    return len(a & b) / len(a | b)


def texts_of(rows):
    return {(r["id"], r["copy"]): f"{r['prompt'][0]['content']} {r['response']}" for r in rows.to_pylist()}


def check_star(marked, threshold):
    """Every drop names a kept row, with the similarity it says and at least the threshold."""
    texts = texts_of(marked)
    survivors = texts_of(kept(marked)).keys()
    for row in dropped(marked).to_pylist():
        evidence = json.loads(row["drop_evidence"])
        assert (evidence["id"], evidence["copy"]) in survivors
        measured = jaccard(texts[row["id"], row["copy"]], texts[evidence["id"], evidence["copy"]])
        assert row["drop_value"] == pytest.approx(measured)
        assert measured >= threshold == row["drop_limit"]


def test_edited_copies_are_dropped_down_to_the_threshold_and_not_below():
    rows = [(f"q{n}", text(n)) for n in range(200)]
    rows += [(f"q{n}", edited(text(n), 1 + n % 10, n)) for n in range(200)]
    marked = near(samples(rows), 0.8).table.collect()
    check_star(marked, 0.8)
    texts = [" ".join(row) for row in rows]
    similar = {n for n in range(200) if jaccard(texts[n], texts[n + 200]) >= 0.8}
    gone = {row % 200 for (row,) in by_row(dropped(marked), "source_row")}
    assert gone <= similar
    assert len(gone) >= 0.98 * len(similar) > 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.sampled_from([0.5, 0.7, 0.8, 0.9]))
def test_no_two_kept_rows_are_similar(changes, threshold):
    rows = [(f"q{n % 7}", edited(text(n % 3, 40), changed, n)) for n, changed in enumerate(changes)]
    marked = near(samples(rows), threshold, recall=0.999).table.collect()
    check_star(marked, threshold)
    left = list(texts_of(kept(marked)).values())
    for n, one in enumerate(left):
        for other in left[:n]:
            assert jaccard(one, other) < threshold


def test_the_result_does_not_depend_on_order_or_partitions():
    rows = [(f"q{n % 5}", edited(text(n % 10), n % 4, n)) for n in range(150)]
    one = samples(rows)
    arrow = one.to_arrow()
    other = daft.from_arrow([arrow.slice(start, 40) for start in (120, 40, 0, 80)])

    def decided(rows):
        marked = near(rows, 0.8).table.select("id", "copy", "drop_rule", "drop_evidence", "rule_near_duplicate")
        return sorted(map(str, marked.to_pylist()))

    assert decided(one) == decided(other)


def test_there_is_no_chain_of_ties():
    # Each text differs from the next in one word more; the ends have little in common.
    base = text(1, 30).split()
    chain = [" ".join([f"new{n}" for n in range(step)] + base[step:]) for step in range(20)]
    marked = near(samples([("q", response) for response in chain]), 0.8).table.collect()
    check_star(marked, 0.8)
    assert kept(marked).count_rows() > 2


def test_copies_of_a_removed_row_go_with_it():
    rows = [("q", text(1))] * 3 + [("q", edited(text(1), 1, 5))] * 3
    marked = near(samples(rows), 0.8).table.collect()
    check_star(marked, 0.8)
    assert kept(marked).count_rows() == 1


def test_the_survivor_has_the_best_score_then_the_smallest_key():
    rows = [
        {"prompt": "q", "response": edited(text(1), n % 2, n), "score_quality": score}
        for n, score in enumerate([1.0, None, 3.0, 2.0])
    ]
    marked = near(table("sample", rows), 0.6, prefer="quality").table.collect()
    assert by_row(kept(marked), "score_quality") == [(3.0,)]
    with pytest.raises(UsageError, match="the scores are quality"):
        near(table("sample", rows), prefer="depth")


def numbers_left_out(*words):
    """Which words are numeric, and what is hashed of the others: 0 is a word as it is."""
    return without_numbers(pa.array(words, pa.large_string()), np.zeros(len(words), np.uint64))


@pytest.mark.parametrize(
    "token",
    [
        "7",
        "-3",
        "+12",
        "$4,000",
        "€5",
        "50%",
        "3.14",
        "(2)",
        "1/2",
        "12:30",
        "٣",
        "one",
        "twenty-five",
        "five.",
        "million",
    ],
)
def test_numeric_tokens(token):
    assert numbers_left_out(token)[0].tolist() == [True]


@pytest.mark.parametrize("token", ["x3", "3rd", "a", "someone", "-", "v1.2", "…", "", "well-known", "and/or", "--"])
def test_tokens_that_are_words(token):
    numeric, rest = numbers_left_out(token)
    assert not numeric.any()
    assert rest.tolist() == [0]


@pytest.mark.parametrize(
    ("one", "other"), [("60-item", "1912100-item"), ("$500/month.", "$9,653/month."), ("two-day", "5-day")]
)
def test_of_joined_words_the_numbers_count_as_numbers_and_the_rest_as_words(one, other):
    numeric, rest = numbers_left_out(one, other, "7-hour")
    assert not numeric.any()
    assert rest[0] == rest[1] != rest[2]
    assert 0 not in rest
    assert word_hashes(pa.array(["hour"]))[0] != rest[2]


def number_twins():
    story = text(3, 80)
    return [("q", f"{story} costs $40 for twenty days"), ("q", f"{story} costs $5,000 for three days")]


def test_number_twins_are_kept_and_flagged_and_merged_on_request():
    guarded = near(samples(number_twins()), 0.8)
    assert by_row(guarded.table, "drop_rule") == [(None,), (None,)]
    flags = [json.loads(flag) for (flag,) in by_row(guarded.table, "flag_number_twin")]
    ids = [row for (row,) in by_row(guarded.table, "id")]
    assert [flag["id"] for flag in flags] == ids[::-1]
    assert guarded.report["number_twins"] == 2
    merged = near(samples(number_twins()), 0.8, numbers="merge").table
    assert sorted(str(rule) for (rule,) in by_row(merged, "drop_rule")) == ["None", "near_duplicate"]


def test_a_word_changed_beside_a_number_is_a_duplicate():
    one, other = number_twins()
    marked = near(samples([one, ("q", other[1].replace("costs", "takes"))]), 0.8).table
    assert kept(marked).count_rows() == 1


def test_pairs_from_a_half_on_are_reported_with_their_similarity():
    rows = [("q", text(1)), ("q", edited(text(1), 4, 1)), ("q", text(2))]
    found = near(samples(rows), 0.8)
    similarity = jaccard(f"q {rows[0][1]}", f"q {rows[1][1]}")
    assert 0.5 <= similarity < 0.8
    assert found.pairs["jaccard"].to_pylist() == [pytest.approx(similarity)]
    measured = by_row(found.table, "rule_near_duplicate", "drop_rule")
    assert measured == [(pytest.approx(similarity), None)] * 2 + [(None, None)]


def test_short_texts_are_one_shingle_and_empty_texts_are_not_compared():
    rows = [("", ""), ("", None), ("a b", "c"), ("a b", " C "), ("a b", "d")]
    marked = near(samples(rows), 0.8).table.collect()
    assert [row for (row,) in by_row(dropped(marked), "source_row")] in ([2], [3])


def boilerplate_rows():
    prompt = " ".join(f"rule{n}" for n in range(80))
    return [(prompt, text(n, 12)) for n in range(60)] + [(prompt, text(1, 12) + " end")]


def test_boilerplate_makes_everything_similar_unless_it_is_left_out():
    plain = near(samples(boilerplate_rows()), 0.6).table
    assert kept(plain).count_rows() == 1
    masked = near(samples(boilerplate_rows()), 0.5, boilerplate=0.5).table.collect()
    assert [n for (n,) in by_row(dropped(masked), "source_row")] in ([1], [60])


def test_a_row_of_nothing_but_boilerplate_is_compared_whole():
    marked = near(samples([("same words in every row of it", "yes indeed it is so")] * 5), 0.8, boilerplate=0.5).table
    assert kept(marked).count_rows() == 1


def test_a_source_that_loses_half_and_a_large_cluster_raise_alarms(monkeypatch):
    monkeypatch.setattr("gristmill.filter.near.LARGE_CLUSTER", 100)
    rows = [("q", edited(text(1), 1, n)) for n in range(120)]
    report = near(samples(rows), 0.6).report
    assert {alarm["name"] for alarm in report["alarms"]} == {"source_loss", "large_cluster"}
    assert all(alarm["value"] > alarm["limit"] for alarm in report["alarms"])
    assert report["largest_cluster"] == 120


def test_near_duplicates_are_sought_among_kept_rows_only():
    rows = [("q", text(1)), ("q", text(1)), ("q", edited(text(1), 1, 1))]
    marked = near(exact(samples(rows)), 0.8).table.collect()
    assert sorted(str(rule) for (rule,) in by_row(marked, "drop_rule")) == ["None", "exact_duplicate", "near_duplicate"]
    check = {(r["id"], r["copy"]): r["drop_rule"] for r in marked.to_pylist()}
    near_row = next(r for r in marked.to_pylist() if r["drop_rule"] == "near_duplicate")
    evidence = json.loads(near_row["drop_evidence"])
    assert check[evidence["id"], evidence["copy"]] is None


def test_texts_in_a_script_without_spaces_are_compared_by_their_characters():
    text = "".join(chr(0x4E00 + n * 37 % 5_000) for n in range(300))
    marked = near(samples([("问", text), ("问", text[:150] + "错" + text[151:]), ("问", text[::-1])]), 0.8).table
    assert kept(marked).count_rows() == 2
