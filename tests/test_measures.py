import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.filter import measures
from gristmill.filter.measures import DUPLICATE, TOP, names, repetition


def plainly(text: str) -> dict[str, float]:
    """The measures by the definition, one text at a time: the oracle."""
    words = [word for word in re.split(r"[ \t\n\r\v\f]+", text) if word]
    sizes = [len(word.encode()) for word in words]
    found: dict[str, float] = {"words": float(len(words)), "repeats": 0.0}
    for n in (*TOP, *DUPLICATE):
        places: dict[tuple[str, ...], list[int]] = {}
        for i in range(len(words) - n + 1):
            places.setdefault(tuple(words[i : i + n]), []).append(i)
        repeated = [starts for starts in places.values() if len(starts) > 1]
        times = max(map(len, repeated), default=0)
        groups = [s for s in repeated if len(s) == times] if n in TOP else [[i for s in repeated for i in s]]
        covered = [sum(sizes[i] for i in {i for start in s for i in range(start, start + n)}) for s in groups]
        found[f"{'top' if n in TOP else 'dup'}_{n}gram"] = max(covered, default=0) / sum(sizes) if sizes else 0.0
        if n == DUPLICATE[-1]:
            found["repeats"] = float(times)
    return found


few_words = st.lists(st.sampled_from(["a", "bb", "ccc", "über", "\u00a0"]), max_size=60)
loops = st.tuples(few_words, st.integers(1, 5)).map(lambda pair: pair[0] * pair[1])
texts = st.one_of(
    loops.flatmap(lambda words: st.sampled_from([" ", "\n", " \t "]).map(lambda gap: gap.join(words))),
    st.text(alphabet="ab \n", max_size=80),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=8), st.integers(20, 400))
def test_as_by_the_definition_in_chunks_of_any_size(rows: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "CHUNK_BYTES", size)
        found = repetition(pa.array(rows, pa.large_string()))
    for number, text in enumerate(rows):
        told = {name: values[number] for name, values in found.items()}
        assert told == pytest.approx(plainly(text), abs=1e-12)


def test_a_known_text() -> None:
    found = repetition(pa.array(["one two one two x", "no word here comes back", None], pa.large_string()))
    assert list(found) == names()
    assert found["words"].tolist() == [5, 5, 0]
    assert found["top_2gram"].tolist() == pytest.approx([12 / 13, 0, 0])
    assert found["top_3gram"].tolist() == [0, 0, 0]


def test_texts_do_not_share_their_ngrams() -> None:
    line = "one two three four five six seven eight nine ten eleven"
    found = repetition(pa.array([line, line, line], pa.large_string()))
    assert all(not np.any(found[name]) for name in names() if name != "words")


def test_slices_and_nulls_are_read_at_their_place() -> None:
    whole = pa.array(["a b a b", None, "c d e", "f f f f"], pa.string())
    assert repetition(whole.slice(1))["words"].tolist() == [0, 3, 4]
    assert repetition(whole.slice(4))["words"].tolist() == []


def test_only_the_beginning_of_a_huge_text_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MOST_BYTES", 8)
    monkeypatch.setattr(measures, "CHUNK_BYTES", 8)
    found = repetition(pa.array(["ab cd ef gh ij", "ab"], pa.large_string()))
    assert found["words"].tolist() == [3, 1]
