import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.filter.contamination import (
    contamination_findings,
    contamination_hits,
    items_of_record,
    mark_contaminated,
)
from gristmill.filter.ngrams import Item, build, load
from tests.tables import by_row, samples

QUESTION = "Ann has nine red apples and gives four of them to her brother Tom today"
WORDS = [f"w{i}" for i in range(40)]


def rules(index, *pairs):
    return [r for (r,) in by_row(mark_contaminated(samples(pairs), index), "drop_rule")]


def found_in(rows, index):
    hits = contamination_hits(rows, index, carry=["id", "copy"]).to_arrow()
    return contamination_findings(np.arange(len(hits)), hits["hits"].to_pylist(), index)


def test_exact_recased_and_embedded_items_are_found_in_prompt_and_answer():
    index = build([Item("e", 3, "question", QUESTION)])
    pairs = [(QUESTION, "x"), (QUESTION.upper(), "x"), ("x", f"Well, so: {QUESTION} ok"), ("clean", "words")]
    assert rules(index, *pairs) == ["contaminated"] * 3 + [None]


def test_evidence_names_file_item_field_and_span():
    row = by_row(mark_contaminated(samples([(QUESTION, "x")]), build([Item("e", 3, "q", QUESTION)])), "drop_evidence")
    expected = {"file": "e", "item": 3, "field": "q", "rule": "8-gram share", "share": 1.0, "length": 15}
    assert json.loads(row[0][0]) == expected | {"span": QUESTION.lower()}


@pytest.mark.parametrize(("shared", "rule"), [(12, None), (13, "contaminated")])
def test_thirteen_words_in_a_long_item_decide(shared, rule):
    assert rules(build([Item("e", 0, "q", " ".join(WORDS))]), (" ".join(WORDS[:shared]), "x")) == [rule]


@pytest.mark.parametrize(("words", "rule"), [(16, None), (15, "contaminated")])
def test_more_than_half_of_the_item_must_be_covered(words, rule):
    assert rules(build([Item("e", 0, "q", " ".join(WORDS[:words]))]), (" ".join(WORDS[:8]), "x")) == [rule]


def test_an_item_across_prompt_and_answer_is_no_match():
    assert rules(build([Item("e", 0, "q", " ".join(WORDS[:8]))]), (" ".join(WORDS[:4]), " ".join(WORDS[4:8]))) == [None]


def test_short_items_match_only_whole_texts():
    index = build([Item("e", 0, "a", "yes"), Item("e", 1, "q", "What is the largest planet?")])
    assert rules(
        index, ("x", "yes"), ("what is the LARGEST planet?", "x"), ("So what is the largest planet?", "x")
    ) == [
        None,
        "contaminated",
        None,
    ]


def test_an_instruction_prefix_is_no_evidence_but_what_follows_is():
    prefix = " ".join(WORDS[:20])
    index = build([Item("e", n, "q", f"{prefix} question number {n} has its own words here") for n in range(11)])
    assert rules(index, (prefix, "x"), (f"{prefix} question number 4 has its own words here", "x")) == [
        None,
        "contaminated",
    ]


def test_the_evaluation_table_and_a_saved_index(tmp_path):
    items = [Item("e", 0, "q", QUESTION), Item("f", 0, "q", " ".join(WORDS))]
    build(items).save(str(tmp_path / "index.npz"))
    found = found_in(samples([(QUESTION, "x")]), load(str(tmp_path / "index.npz")))
    assert [(e["evaluation"], e["items"], e["items_hit"], e["rows"], e["flagged"]) for e in found.evaluations] == [
        ("e", 1, 1, 1, True),
        ("f", 1, 0, 0, False),
    ]


def test_ids_labels_and_system_prompts_are_no_items():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    record = {"id": "a", "type": "t", "messages": chat, "turns": ["x", "y"], "n": 4, "task_id": "z"}
    assert [(i.field, i.text) for i in items_of_record(record, "f", 0)] == [
        ("messages", "u"),
        ("turns", "x"),
        ("turns", "y"),
    ]


def test_an_item_that_repeats_one_word_a_thousand_times_costs_no_more_than_another() -> None:
    zeros = " ".join(["0"] * 3_000)
    found = found_in(samples([("Print zeros.", zeros)] * 20), build([Item("e", 0, "answer", zeros)]))
    assert set(found.findings["drop_rule"].to_pylist()) == {"contaminated"}  # the whole answer


def test_an_item_in_a_script_without_spaces_is_found_whole_and_embedded() -> None:
    question = "小明有十二个苹果他给了小红五个又买了三个请问小明现在一共有多少个苹果"
    rows = [(question, "十个"), (f"请回答下面的问题。{question}？谢谢", "十个"), ("今天天气怎么样", "很好")]
    found = found_in(samples(rows), build([Item("e", 0, "question", question)]))
    assert found.findings["drop_rule"].to_pylist() == ["contaminated", "contaminated"]


def share_and_run(item: list[str], row: list[str]) -> tuple[float, int] | None:
    """By the definition: the share of the item's words that shared 8-grams cover, and the longest run shared."""
    pairs = [(i, j) for i in range(len(item) - 7) for j in range(len(row) - 7) if item[i : i + 8] == row[j : j + 8]]
    run = 0
    for i, j in pairs:
        length = 8
        while i + length < len(item) and j + length < len(row) and item[i + length] == row[j + length]:
            length += 1
        run = max(run, length)
    return (len({i + k for i, _ in pairs for k in range(8)}) / len(item), run) if pairs else None


# Items of at most 17 words: none has an 8-gram so often that it counts as a table of zeros.
of_two_words = st.lists(st.sampled_from("ab"), min_size=8, max_size=17)


@settings(max_examples=30, deadline=None)
@given(
    items=st.lists(of_two_words, min_size=1, max_size=4), rows=st.lists(st.lists(of_two_words, max_size=3), max_size=6)
)
def test_share_and_longest_run_are_those_of_the_definition(items, rows):
    texts = [[word for part in row for word in part] for row in rows]
    index = build([Item("e", n, "q", " ".join(item)) for n, item in enumerate(items)])
    table = samples([("q", "start"), *(("q", " ".join(words)) for words in texts)])
    hits = contamination_hits(table, index, carry=["source_row"]).to_pylist()
    found = {(h["source_row"] - 1, hit["item"]): (hit["share"], hit["run"]) for h in hits for hit in h["hits"]}
    expected = {(r, i): share_and_run(item, words) for r, words in enumerate(texts) for i, item in enumerate(items)}
    assert found == {key: each for key, each in expected.items() if each}
