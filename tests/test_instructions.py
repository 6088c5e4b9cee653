"""Instructions of IFEval: each check on texts made for it, and all of them against the official verdicts."""

import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.score.instructions import CHECKS, followed
from gristmill.score.named import score
from gristmill.score.score import Item, Verdict
from gristmill.score.sentences import sentences, tokens, words
from tests.data_sets import rows

DIFFERENCES = json.loads((Path(__file__).parent / "data" / "ifeval_differences.json").read_text())["groups"]
AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}

MET: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    # instruction, kwargs, texts that meet it, texts that do not
    ("punctuation:no_comma", {}, ["no commas here"], ["one, two"]),
    ("length_constraints:number_words", {**AT_LEAST, "num_words": 3}, ["één twee drei", "a-b c"], ["a b"]),
    ("length_constraints:number_words", {**LESS, "num_words": 3}, ["a b", "слово слово"], ["a b c"]),
    (
        "length_constraints:number_sentences",
        {**AT_LEAST, "num_sentences": 2},
        ["One. Two.", "What?! No.", "ab. C"],
        ["Mr. Smith left.", "3.5 it is", "one\ntwo\nthree"],
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb", "a *** b ***"], ["a\n\nb", "a***"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, ["a***b***c"], ["a******b", "a*** ***b***c"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Second"},
        ["a\n\nsecond, b", "a\n\n'Second' b", "a\n\n\n\nsecond"],
        ["second\n\na", "a\nsecond", "a\n\nb\n\nsecond", "a\n\nseconds"],
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n* b", "x\n- a\n  - b"], ["* a", "**a**\n* b"]),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** *b*"],
        ["*a*", "* a\n* b", "** **", "*a\nb* c", "**a**"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section1 Section 2"],
        ["Section 1", "Section A Section B", "SECTION 1 SECTION 2"],
    ),
    ("detectable_format:title", {}, ["<<poem of joy>>\nx"], ["<poem>", "<<>>", "<<\n>>", "<< >>"]),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```json\n[1]\n```"], ["{a: 1}", 'So: {"a": 1}']),
    ("detectable_format:constrained_response", {}, ["My answer is yes."], ["Yes.", "My answer is perhaps."]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]"], ["[a]", "[a\nb] [c]", "]["]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["x\nP.S. y", "p. s. y"], ["PS y", "x"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["x\nP.P.S y", "P. P. S. y"], ["P.S. y"]),
    ("keywords:existence", {"keywords": ["C++", "go"]}, ["c++ and Golang"], ["c and go", "C++"]),
    ("keywords:frequency", {**AT_LEAST, "keyword": "a.b", "frequency": 2}, ["a.b A.B"], ["axb a.b"]),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "c++"]}, ["cats, concat"], ["The CAT.", "in C++!"]),
    (
        "keywords:letter_frequency",
        {"let_relation": "at least", "letter": "#", "let_frequency": 2},
        ["#a #b"],
        ["#a"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        ["I am BIG", "DON'T", "(A)-[B]", "A, B"],
        ["Big", "I am 5", "A-B"],
    ),
    ("change_case:english_capital", {}, ["THE CAT SAT ON THE MAT"], ["The cat sat", "DIE KATZE SITZT AUF DER MATTE"]),
    ("change_case:english_lowercase", {}, ["the cat sat on the mat"], ["The cat sat", "le chat est sur la table"]),
    ("language:response_language", {"language": "de"}, ["Die Katze sitzt auf der Matte."], ["The cat.", "123"]),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, ['x any questions?"\n'], ["Any questions? x"]),
    ("startend:quotation", {}, [' "a" '], ['"a', '"', "“a”"]),
    ("combination:two_responses", {}, ["a\n******\nb", "******a******b******"], ["a", "a******a", "a******b******c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, ["say hi.\nHi."], ["Hi. Say hi."]),
]


def one(text: str, id: str, kwargs: dict[str, Any], *, loose: bool = False) -> bool:
    (outcome,) = followed(text, [id], [kwargs], loose=loose)
    return bool(outcome["met"])


@pytest.mark.parametrize(("id", "kwargs", "meets", "fails"), MET)
def test_an_instruction_is_met_by_what_it_asks_for(
    id: str, kwargs: dict[str, Any], meets: list[str], fails: list[str]
) -> None:
    assert [text for text in meets if not one(text, id, kwargs)] == []
    assert [text for text in fails if one(text, id, kwargs)] == []


def test_every_instruction_is_tested_here() -> None:
    assert {id for id, *_ in MET} == set(CHECKS) and len(CHECKS) == 25


@pytest.mark.parametrize("response", ["", " \n", "<think>no commas</think>", "<think>cut off"])
@pytest.mark.parametrize("name", ["instructions", "instructions_loose"])
def test_an_empty_response_meets_nothing(response: str, name: str) -> None:
    assert judged(response, ["punctuation:no_comma"], [{}], name).value == 0


def test_what_was_thought_is_not_judged() -> None:
    assert judged("<think>one, two</think>\nnone", ["punctuation:no_comma"], [{}]).value == 1
    assert judged("one, two</think>none", ["punctuation:no_comma"], [{}]).value == 1


def test_loose_tries_the_response_without_its_first_and_last_lines_and_asterisks() -> None:
    quoted = 'Sure, here it is:\n*"hello"*\nEnjoy!'
    strict, loose = (judged(quoted, ["startend:quotation"], [{}], f"instructions{how}") for how in ("", "_loose"))
    assert (strict.value, strict.verdict, loose.value, loose.verdict) == (0, "wrong", 1, "correct")
    assert json.loads(loose.why)[0]["without"] == "first and last line, asterisks"


def test_one_that_is_not_met_makes_the_response_wrong_and_why_tells_which() -> None:
    verdict = judged("a, b", ["punctuation:no_comma", "length_constraints:number_words"], [{}, WORDS])
    assert verdict.value == 0
    assert json.loads(verdict.why) == [
        {"instruction": "punctuation:no_comma", "met": False, "found": 1},
        {"instruction": "length_constraints:number_words", "met": True, "found": 2},
    ]


WORDS = {"relation": "at least", "num_words": 2}


@pytest.mark.parametrize(
    ("ids", "kwargs", "told"),
    [
        (None, None, "no instruction_id_list"),
        ([], [], "no instruction_id_list"),
        ("not json", None, "no JSON"),
        ({"a": 1}, None, "no list"),
        (["keywords:magic"], [{}], "unknown"),
        ([["x"]], [{}], "unknown"),
        (["punctuation:no_comma"], [{"text": "x"}], "text"),
        (["length_constraints:number_words"], [{"relation": "at least"}], "num_words"),
        (["length_constraints:number_words"], [{"relation": "about", "num_words": 3}], "relation"),
        (["length_constraints:number_words"], [{"relation": "at least", "num_words": -1}], "num_words"),
        (["length_constraints:number_words"], None, "relation"),
        (["punctuation:no_comma"], [{"keyword": "x"}], "keyword"),
        (["punctuation:no_comma"], [{}, {}], "kwargs for 2"),
        (["punctuation:no_comma"], [["x"]], "object"),
    ],
)
def test_instructions_that_cannot_be_checked_are_the_rows_own_verdict(ids: Any, kwargs: Any, told: str) -> None:
    verdict = judged("text", ids, kwargs)
    assert (verdict.value, verdict.verdict) == (None, "unparseable_gold")
    assert told in verdict.why


@pytest.mark.parametrize("as_text", [False, True])
def test_published_tables_have_nulls_text_and_floats(as_text: bool) -> None:
    ids, kwargs = ["length_constraints:number_words"], [{"relation": "at least", "num_words": 2.0, "keyword": None}]
    meta = (json.dumps(ids), json.dumps(kwargs)) if as_text else (ids, kwargs)
    assert judged("a b", *meta).value == 1


def test_kwargs_are_never_changed() -> None:
    ids, kwargs = [id for id, *_ in MET], [kwargs for _, kwargs, *_ in MET]
    before = deepcopy(kwargs)
    first = followed("A text. Of two, sentences.", ids, kwargs, loose=True)
    assert kwargs == before and followed("A text. Of two, sentences.", ids, kwargs, loose=True) == first


@given(st.text(alphabet="aA.?!\"')*-[]<>, \n1", max_size=60))
def test_any_text_has_a_verdict_and_strict_implies_loose(text: str) -> None:
    for id, kwargs, *_ in MET:
        assert one(text, id, kwargs, loose=True) or not one(text, id, kwargs)


@given(st.text())
def test_sentences_lose_nothing_but_white_space(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Dr. Smith met Mrs. Jones. They left.", 2),
        ("She lives in the U.S. and works. The U.S. The end.", 3),
        ("J. K. Rowling wrote it.", 1),
        ("1. First thing\n2. Second thing", 3),  # as punkt: a number and a full stop are a sentence
        ("It is 5. and more", 1),
        ('He said "Hi." Then he left.', 2),
        ("Wait... what? Wait... What?", 3),
        ("", 0),
    ],
)
def test_sentences_end_where_punkt_ends_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_words_and_tokens() -> None:
    assert words("naïve café, 2 words… 漢字") == 5
    assert list(filter(None, tokens("don't (stop) A,B 3,5"))) == ["do", "n't", "stop", "A", "B", "3,5"]


@pytest.mark.parametrize(
    "text", ["<" * 50_000, "[" * 50_000, "*" * 50_000, "\n" * 50_000, "." * 50_000 + "x", '."' * 9_000]
)
def test_long_runs_of_one_character_take_no_longer_than_other_text(text: str) -> None:
    for id, kwargs, *_ in MET:
        one(text, id, kwargs)


def test_the_official_verdicts_are_met_but_for_the_listed_rows() -> None:
    prompts = {row["key"]: row for row in rows("ifeval/ifeval_prompts")}
    answers = rows("ifeval_responses/responses_by_model") + rows("ifeval_responses/gpt4_google_research")
    counted: Counter[str] = Counter()
    found = set()
    for row in answers:
        kwargs = row.get("kwargs") or prompts[row["key"]]["kwargs"]
        for mode in ("strict", "loose"):
            got = followed(row["response"] or "", row["instruction_id_list"], kwargs, loose=mode == "loose")
            counted[mode] += len(got)
            for outcome, official in zip(got, row[mode], strict=True):
                if outcome["met"] != official:
                    found.add((row["key"], row["model"], outcome["instruction"], mode))
    assert found == {tuple(row) for group in DIFFERENCES for row in group["rows"]}
    for mode, count in counted.items():
        assert 1 - sum(row[3] == mode for row in found) / count >= 0.995


def judged(response: str, ids: Any, kwargs: Any, name: str = "instructions") -> Verdict:
    (verdict,) = score(name)([Item(response, meta={"instruction_id_list": ids, "kwargs": kwargs})])
    return verdict
