"""Ids hash content and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.records import SCHEMAS, kind_of, row_id

text = st.text(max_size=8)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": text, "extra": st.none() | text}),
    max_size=3,
)
rows = st.fixed_dictionaries({"prompt": turns, "tools": st.none() | text, "response": st.none() | text})


def test_an_id_is_g1_and_the_128_bit_blake2b_of_length_prefixed_fields():
    # The oracle is spelled out: field by field, its length in bytes, a colon, its bytes; a dash for null.
    from hashlib import blake2b

    hashed = "s" + "1:1" + "4:user" + "3:hé" + "-" + "-" + "2:ok" + "-"
    row = {"prompt": [{"role": "user", "content": "hé", "extra": None}], "response": "ok"}
    assert row_id("sample", row) == "g1:" + blake2b(hashed.encode(), digest_size=16).hexdigest()


@given(rows, rows)
def test_samples_share_an_id_exactly_when_they_share_their_content(one, other):
    assert (row_id("sample", one) == row_id("sample", other)) == (one == other)


def test_a_label_has_the_id_of_its_sample_and_a_prompt_has_not():
    row = {"prompt": [{"role": "user", "content": "q", "extra": None}], "response": None}
    assert row_id("sample", row) == row_id("label", row) != row_id("prompt", row)


@pytest.mark.parametrize("aside", ["reference", "source_file", "source_row", "meta", "score_x", "model"])
def test_provenance_and_scores_are_not_hashed(aside):
    row = {"prompt": [{"role": "user", "content": "q", "extra": None}], "response": "a"}
    assert row_id("sample", row) == row_id("sample", row | {aside: "changed"})


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_table_tells_its_kind_by_its_columns(kind):
    assert kind_of(SCHEMAS[kind].names) == kind


def test_a_table_without_a_prompt_is_none_of_ours():
    with pytest.raises(ValueError, match="no column 'prompt'"):
        kind_of(["question"])
