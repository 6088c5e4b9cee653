import numpy as np
import pyarrow as pa
import pytest

from gristmill.filter.traits import (
    code_shares,
    fluency,
    languages,
    opening_verbs,
    question_types,
    varieties,
    word_counts,
)


def texts(*given):
    return pa.array(given, pa.large_string())


@pytest.mark.parametrize(
    ("message", "kind", "verb"),
    [
        ("Write a poem", "imperative", "write"),
        ("Please, explain this. Why so?", "imperative", "explain"),
        ("Could you tell me why?", "imperative", "tell"),
        ("Hello! Give me a list.", "imperative", "give"),
        ("What's up?", "what", None),
        ("Whose car is it?", "who", None),
        ('"How far?"', "how", None),
        ("Isn't it so?", "yes/no", None),
        ("In which year did she die?", "other question", None),
        ("The cat sat.", "statement", None),
        ("12 + 4 =", "other", None),
        ("", "other", None),
        ("Напиши стих", "imperative", "напиши"),
    ],
)
def test_how_a_message_asks(message, kind, verb):
    assert question_types(texts(message)).to_pylist() == [kind]
    assert opening_verbs(texts(message)).to_pylist() == [verb]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("plain words; and more of them", 0),
        ("```\nx = 1\n```", 1),
        ("Do this:\n```python\nx = 1", 12 / 19),
        ("def f():\n    return 1", 1),
        ("int x;\nfoo", 5 / 8),
        ("List:\n    - one\n    2. two", 0),
    ],
)
def test_code_is_fenced_indented_or_looks_like_it(text, share):
    assert code_shares(texts(text))[0] == pytest.approx(share, abs=0.001)


def test_fluency_and_variety_by_their_definitions():
    text = "The mill is old. It grinds rye\nand wheat!"
    found = fluency(texts(text))
    assert word_counts(texts(text, "", "a  b")).tolist() == [9, 0, 2]
    assert found["word length"][0] == pytest.approx(len("".join(text.split())) / 9)
    assert found["sentence length"][0] == pytest.approx(9 / 3)
    assert found["function words"][0] == pytest.approx(4 / 9)  # the, is, it, and
    assert varieties(texts("a b " * 25 + "c d"))[0] == 2 / 50


def test_what_a_text_does_not_have_is_unknown_not_zero():
    empty = texts("")
    assert np.isnan([code_shares(empty)[0], varieties(empty)[0], *(each[0] for each in fluency(empty).values())]).all()
    assert languages(texts("", "short")).to_pylist() == [None, None]


def test_languages_by_script_and_then_by_words():
    german = (
        "Die alte Mühle steht am Fluss, und der Müller mahlt dort jeden Tag den Weizen und den Roggen für das Dorf."
    )
    assert languages(texts(german, "мельница стоит на берегу реки")).to_pylist() == ["de", "Cyrillic"]
