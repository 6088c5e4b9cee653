"""Collapse metrics: each by hand or from its paper, the sample whatever the order, and when the alarm goes off."""

import random
from collections import Counter
from itertools import combinations
from math import comb, exp, log, log2

import daft
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.filter import diversity as module
from gristmill.filter.diversity import Diversity, Threshold, diversity
from gristmill.filter.diversity_metrics import (
    compression_ratio,
    distinct,
    entropy,
    metrics,
    ngram_counts,
    self_similarity,
    top_opening,
    vendi,
    words_of,
)
from gristmill.filter.limits import Limit
from gristmill.records import row_id
from tests.tables import table

VOCABULARY = [f"word{number}" for number in range(2000)]
TEMPLATE = "when you look at {} you should remember that {} is the most important part of it and nothing else"


def words(*texts: str):
    return words_of(pa.array(texts, pa.large_string()))


def diverse(count: int, seed: int = 0, length: int = 30) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(VOCABULARY, k=length)) for _ in range(count)]


def collapsed(count: int) -> list[str]:
    return [TEMPLATE.format(*pair.split()) for pair in diverse(count, seed=1, length=2)]


def rows(texts: list[str], kind="sample", **columns) -> pa.Table:
    """Kept rows as the filter hands them over."""
    given = [{"prompt": str(number), "response": text} for number, text in enumerate(texts)]
    arrow = table(kind, given).to_arrow()
    for name, values in columns.items():
        if name in arrow.column_names:
            arrow = arrow.drop_columns(name)
        arrow = arrow.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    return arrow


def summary_of(*windows: pa.Table, kind="sample", **given) -> dict:
    sample = Diversity(kind, **given)
    for window in windows:
        sample.add(window)
    return sample.summary()


def group(summary: dict, by: str, name: str) -> dict:
    return next(g for g in summary["groups"] if (g["by"], g["name"]) == (by, name))


# --- the metrics


def test_distinct_n_counts_different_n_grams_over_all_and_none_across_texts():
    two = words("a b a b", "A  c")
    assert distinct(ngram_counts(two, 1)) == pytest.approx(3 / 6)
    assert distinct(ngram_counts(two, 2)) == pytest.approx(3 / 4)  # a b (twice), b a, a c
    assert distinct(ngram_counts(two, 3)) == pytest.approx(1.0)
    assert distinct(ngram_counts(two, 5)) is None


def test_characters_are_words_where_nothing_stands_between_words():
    assert distinct(ngram_counts(words("猫猫犬"), 1)) == pytest.approx(2 / 3)


def draws(counts: list[int], size: int) -> list[Counter]:
    """Every draw of so many n-grams, by brute force."""
    bag = [kind for kind, count in enumerate(counts) for _ in range(count)]
    return [Counter(bag[at] for at in places) for places in combinations(range(len(bag)), size)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 6))
def test_a_draw_is_the_mean_over_all_draws(counts, size):
    size = min(size, sum(counts))
    every = draws(counts, size)
    bits = [-sum(n / size * log2(n / size) for n in drawn.values()) for drawn in every]
    assert distinct(np.array(counts), size) == pytest.approx(np.mean([len(drawn) for drawn in every]) / size)
    assert entropy(np.array(counts), size) == pytest.approx(np.mean(bits), abs=1e-9)


def test_a_large_draw_agrees_with_exact_binomials():
    counts = [900, 60, 40, *[1] * 500]
    total, size = sum(counts), 700
    seen = sum(1 - comb(total - n, size) / comb(total, size) for n in counts)
    assert distinct(np.array(counts), size) == pytest.approx(seen / size, rel=1e-9)


def test_distinct_n_does_not_fall_with_the_length_of_the_set():
    short, long = (distinct(ngram_counts(words(*diverse(count)), 1)) for count in (400, 4000))
    assert short == pytest.approx(long, rel=0.02)


def test_entropy_is_in_bits_and_greatest_when_all_differ():
    assert entropy(np.ones(8, np.int64)) == pytest.approx(3)
    assert entropy(np.array([8])) == 0
    assert entropy(np.array([2, 1, 1])) == pytest.approx(1.5)
    assert entropy(np.empty(0, np.int64)) is None


def test_the_compression_ratio_is_raw_bytes_over_gzip_bytes():
    import gzip

    texts = ["I enjoy walking with my cute dog.", "I enjoy walking with my cat."]
    raw = " ".join(texts).encode()
    assert compression_ratio(texts) == len(raw) / len(gzip.compress(raw))
    assert compression_ratio(["the same again"] * 100) > 10
    assert compression_ratio([]) is None


def test_the_commonest_opening_is_four_words_whatever_the_case():
    share, opening = top_opening(words("Sure! Here is a plan", "sure! here  IS a song", "No", "no idea"))
    assert (share, opening) == (0.5, "sure! here is a")
    assert top_opening(words("b", "a")) == (0.5, "a")


def test_self_similarity_is_the_mean_jaccard_of_five_word_shingles():
    same = "one two three four five six"  # shingles: 1-5, 2-6
    half = "one two three four five seven"  # shingles: 1-5, 2-5 and 7: Jaccard 1/3
    assert self_similarity(words(same, half)) == pytest.approx(1 / 3)
    assert self_similarity(words(same, half, "nothing like these others at all")) == pytest.approx(1 / 9)
    assert self_similarity(words("no", "no", "yes")) == pytest.approx(1 / 3)
    assert self_similarity(words("alone")) is None


def test_self_similarity_agrees_with_sets():
    texts = collapsed(40)
    sets = [{tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (text.split() for text in texts)]
    expected = np.mean([len(a & b) / len(a | b) for a, b in combinations(sets, 2)])
    assert self_similarity(words(*texts)) == pytest.approx(expected)


def test_the_vendi_score_of_equal_and_of_orthogonal_rows():
    assert vendi(np.ones((7, 3))) == pytest.approx(1)
    assert vendi(np.eye(5) * 3) == pytest.approx(5)
    assert vendi(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    assert vendi(np.zeros((4, 2))) is None


def test_the_vendi_score_of_the_authors_example():
    """https://github.com/vertaix/Vendi-Score: similarity 0.9 between two of three gives 2.1573."""
    kernel = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    assert vendi(np.linalg.cholesky(kernel)) == pytest.approx(2.1573, abs=1e-4)
    shares = np.array([1.9, 0.1, 1]) / 3
    assert vendi(np.linalg.cholesky(kernel)) == pytest.approx(exp(-sum(s * log(s) for s in shares)))


def test_the_vendi_score_is_the_same_by_rows_and_by_dimensions():
    tall = np.random.default_rng(0).normal(size=(30, 4))
    assert vendi(tall) == pytest.approx(vendi(np.pad(tall, ((0, 0), (0, 40)))))


def test_every_metric_is_null_without_text():
    assert set(metrics([]).values()) == {None, 0.0}


# --- the sample


def test_groups_are_all_rows_sources_models_and_templates():
    meta = ['{"template": "teacher", "a": {"template": "no"}}', '{"other": "template"}', None, '{"template": 3}']
    window = rows(
        ["one text", "two texts", "three", "four"],
        source_file=pa.array(["a", "b", "b", None], pa.large_string()),
        model=pa.array(["m", None, "m", "m"], pa.large_string()),
        meta=pa.array(meta, pa.large_string()),
    )
    found = [(g["by"], g["name"], g["rows"]) for g in summary_of(window)["groups"]]
    assert found == [
        *[("all", "all", 4), ("source", "b", 2), ("source", "", 1), ("source", "a", 1)],
        *[("model", "m", 3), ("template", "teacher", 1)],
    ]


def test_the_text_of_each_kind():
    messages = [{"role": role, "content": text, "extra": None} for role, text in (("user", "first"), ("user", "Last"))]
    asked = table("prompt", [{"prompt": messages}])
    chosen = table("preference", [{"prompt": "p", "chosen": "Chosen", "rejected": "rejected"}])
    labelled = table("label", [{"prompt": "p", "response": "Response", "label": True}])
    assert [diversity(t)["groups"][0]["top_opening"] for t in (asked, chosen, labelled)] == [
        "last",
        "chosen",
        "response",
    ]


def test_rows_without_a_word_are_counted_and_not_sampled():
    window = rows(["a b", "", " \n", "c d"], response=pa.array(["a b", "", None, "c d"], pa.large_string()))
    found = summary_of(window)["groups"][0]
    assert (found["rows"], found["sampled"]) == (4, 2)


def test_nothing_at_all():
    empty = rows([])
    assert summary_of(empty) == summary_of() | {}
    assert summary_of()["groups"] == []


@pytest.fixture
def mixed(monkeypatch) -> pa.Table:
    """300 rows of unequal sources and models, more than the samples hold."""
    monkeypatch.setattr(module, "SAMPLE", 20)
    monkeypatch.setattr(module, "HELD", 60)
    chance = random.Random(5)
    texts = [text if chance.random() < 0.9 else "" for text in diverse(300, length=8)]
    sources = ["large"] * 200 + [f"small {number}" for number in range(50) for _ in range(2)]
    embeddings = np.random.default_rng(0).normal(size=(300, 4)).tolist()
    window = rows(
        texts,
        source_file=pa.array(sources, pa.large_string()),
        model=pa.array(
            ["rare" if n % 20 == 0 else chance.choice(["a", "b", None]) for n in range(300)], pa.large_string()
        ),
        embedding=embeddings,
    )
    return pa.concat_tables([window, window.slice(0, 10)])  # the same rows again


@pytest.mark.parametrize("size", [1, 7, 100])
def test_windows_and_order_change_nothing(mixed, size):
    whole = summary_of(mixed)
    shuffled = mixed.take(pa.array(np.random.default_rng(size).permutation(len(mixed))))
    windows = [shuffled.slice(start, size) for start in range(0, len(shuffled), size)]
    assert summary_of(*windows) == whole


def test_a_sample_is_the_rows_with_the_smallest_ids(mixed):
    known = mixed.slice(0, 300)
    spoken = [(i, t) for i, t in zip(known["id"].to_pylist(), known["response"].to_pylist(), strict=True) if t]
    found = summary_of(known)["groups"][0]
    expected = metrics([text for _, text in sorted(spoken)[:20]])
    assert found["sampled"] == 20
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_what_is_held_is_bounded_and_large_groups_keep_their_sample(mixed):
    sample = Diversity("sample")
    for start in range(0, len(mixed), 10):
        sample.add(mixed.slice(start, 10))
        assert len(sample.held) <= 4 * module.HELD
    found = sample.summary()
    assert group(found, "source", "large")["sampled"] == 20
    assert sum(g["sampled"] for g in found["groups"] if g["by"] == "source") <= module.HELD
    assert found["left_out"] == {"all": 0, "source": 1, "model": 0, "template": 0}
    assert len([g for g in found["groups"] if g["by"] == "source"]) == 50


def test_what_another_axis_holds_does_not_bias_a_sample(mixed):
    sample = Diversity("sample")
    sample.add(mixed)
    ceiling = sample._ceiling("source")
    within = Counter(row["source_file"] for row in mixed.to_pylist() if row["response"] and row["id"] <= ceiling)
    small = [g for g in sample.summary()["groups"] if g["by"] == "source" and g["name"] != "large"]
    assert {g["name"]: g["sampled"] for g in small} == {g["name"]: within[g["name"]] for g in small}
    beyond = [row for row in sample.held.to_pylist() if row["source"] != "large" and row["id"] > ceiling]
    assert beyond, "the models hold rows of small sources beyond the ceiling"


def test_few_rows_of_many_are_held(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 50)
    sample = Diversity("sample")
    window = rows(diverse(2000, length=6))
    for start in range(0, 2000, 500):
        sample.add(window.slice(start, 500))
    assert len(sample.held) == 50


def test_long_texts_are_looked_at_to_their_2000th_character():
    window = rows(["word " * 5000, "word " * 400])
    found = summary_of(window)["groups"][0]
    assert found["words"] == 400


# --- the alarm


def test_a_template_raises_the_alarm_and_varied_texts_do_not():
    summary = summary_of(
        rows(diverse(300) + collapsed(300), source_file=pa.array(["good"] * 300 + ["bad"] * 300, pa.large_string()))
    )
    assert group(summary, "source", "good")["alarms"] == []
    assert set(group(summary, "source", "bad")["alarms"]) >= {"distinct_2", "self_similarity", "top_opening_share"}
    named = [alarm["message"] for alarm in summary["alarms"] if alarm["message"].startswith("source bad: distinct_2")]
    value = group(summary, "source", "bad")["distinct_2"]
    assert named == [f"source bad: distinct_2 is {value:.3g}, under 0.35; the texts repeat each other"]
    alarm = next(a for a in summary["alarms"] if a["message"] == named[0])
    assert alarm == {"name": "collapse", "message": named[0], "value": value, "limit": 0.35}
    assert summary["limits"]["distinct_2"]["least"] == 0.35


def test_the_alarm_shows_the_opening():
    texts = [f"Sure! Here is a {text}" for text in diverse(200)]
    assert any("('sure! here is a')" in alarm["message"] for alarm in summary_of(rows(texts))["alarms"])


def test_a_small_sample_raises_no_alarm():
    assert summary_of(rows(collapsed(99)))["alarms"] == []
    assert summary_of(rows(collapsed(100)))["alarms"] != []


def test_labels_raise_no_alarm():
    assert summary_of(rows([f"{'positive' if n % 2 else 'negative'}" for n in range(500)]))["alarms"] == []


def test_a_source_that_is_all_rows_is_named_once():
    summary = summary_of(rows(collapsed(200)))
    assert group(summary, "source", "test.jsonl")["alarms"]
    assert all(alarm["message"].startswith("all rows: ") for alarm in summary["alarms"])


def test_prompts_may_open_alike_and_have_their_own_limits():
    prompts = [{"prompt": f"write a function to {text}"} for text in diverse(200)]
    summary = diversity(table("prompt", prompts))
    assert summary["groups"][0]["top_opening_share"] == 1
    assert summary["alarms"] == []
    assert summary["limits"]["distinct_2"]["least"] == 0.25


def test_limits_can_be_ones_own():
    mine = [Threshold(Limit("distinct_1", least=0.99), "asked for")]
    summary = summary_of(rows(diverse(300)), thresholds=mine)
    assert summary["limits"] == {"distinct_1": {"least": 0.99, "source": "asked for"}}
    assert [alarm["limit"] for alarm in summary["alarms"]] == [0.99]


# --- embeddings and tables


def test_the_vendi_score_needs_embeddings_of_one_length():
    texts = diverse(4, length=6)
    assert summary_of(rows(texts))["groups"][0]["vendi"] is None
    some = summary_of(rows(texts, embedding=[[1.0, 0.0], [0.0, 1.0], None, [1.0, 0.0]]))
    assert some["groups"][0]["vendi"] == pytest.approx(exp(-(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3))), abs=1e-6)
    with pytest.raises(UsageError, match="embeddings have 1 and 2 numbers"):
        summary_of(rows(texts, embedding=[[1.0], [0.0, 1.0], [1.0], [1.0]]))


def test_a_table_gives_what_its_kept_rows_give():
    window = rows(diverse(150) + collapsed(150))
    window = window.append_column("drop_rule", pa.array(["empty"] * 150 + [None] * 150, pa.large_string()))
    found = diversity(daft.from_arrow(window))
    assert found["groups"][0]["rows"] == 150
    assert found == summary_of(window.slice(150))


def test_ids_are_hashes_that_the_ceiling_halves():
    ids = [row_id("sample", {"prompt": [], "response": str(number)}) for number in range(2000)]
    sample = Diversity("sample")
    sample.halvings["all"] = 2
    assert sum(name <= sample._ceiling("all") for name in ids) == pytest.approx(500, rel=0.15)
