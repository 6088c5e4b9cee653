"""Scores of the text alone: what they take for equal, in it, matched, chosen, long, tagged; and what is not judged."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.score.choice import chosen, options_of
from gristmill.score.final import final_answer, plain
from gristmill.score.named import SCORES, score
from gristmill.score.score import Item, Verdict
from tests.data_sets import rows

QUESTION = "Which?\nA. dogs\nB. cats\nC. It is a bird\n(D) fish"
OPTIONS = options_of(QUESTION)


def judged(spec: str, response: str, reference: str | None = None, **item: Any) -> Verdict:
    (verdict,) = score(spec)([Item(response, reference, **item)])
    return verdict


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"judge", "math", "code"}))
def test_no_text_makes_a_score_raise(name: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "response": "a b c"}\n')
    (tmp_path / "schema.json").write_text("{}")
    arguments = {"regex": "a+", "language": "en", "diversity": str(tmp_path / "rows.jsonl")}
    made = score(f"{name}:{arguments[name]}" if name in arguments else name)
    items = [Item(text, "B", [{"role": "user", "content": QUESTION}]) for text in ODD]
    assert all(v.value is None or 0 <= abs(v.value) < 1e6 for v in made(items)) and len(made([])) == 0


ODD = [
    "",
    " ",
    "\x00",
    "\ud800",
    "a" * 10_000,
    "<think>",
    "</think>",
    "```",
    "\n" * 1_000,
    "A " * 5_000,
    "﷽ 漢字 🙂 ١٢٣",
]


def test_exact_compares_but_for_white_space_and_thought() -> None:
    assert judged("exact", "<think>hm</think>\nParis\n", "Paris").value == 1
    assert judged("exact", "paris", "Paris").value == 0
    assert judged("exact", "Paris").verdict == "no_reference"


def test_contains_a_text_or_the_reference() -> None:
    assert judged("contains:Hello, you", "Hello, you there") == (1, "correct", "at character 0")
    assert judged("contains", "It is Paris.", "Paris").value == 1
    assert judged("contains", "It is PARIS.", "Paris").value == 0
    assert judged("contains,case=false", "It is PARIS.", "Paris").value == 1
    assert judged("contains", "x", " ").verdict == "no_reference"


def test_a_pattern_is_re2s_and_no_text_makes_it_slow() -> None:
    assert judged(r"regex:\d{1,3} cats,full=true", "3 cats").value == 1
    assert judged(r"regex:\d{1,3} cats,full=true", "3 cats!").value == 0
    assert judged("regex:(?i)CATS", "é 3 cats here").why == "found: cats here"
    assert judged("regex:(a+)+$", "a" * 50_000 + "b").value == 0  # never ends with a backtracking engine


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(", "a{2000}"])
def test_a_pattern_that_re2_does_not_know_is_one_line(pattern: str) -> None:
    with pytest.raises(UsageError, match="RE2") as caught:
        score(f"regex:{pattern}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *(
            (text, "B")
            for text in ("B", "(B)", "(b)", "B.", "**B**", "B. cats", "B) cats", "Option B", "cats", "Cats.")
        ),
        *((text, "B") for text in ("The answer is (B)", "The answer is B.", "the answer is **B**", "ANSWER: B")),
        *((text, "B") for text in (r"\boxed{B}", r"so \boxed{\text{(B)}}.", "not A, so B", "I choose B over A")),
        ("Answer: A\n\nWait. Answer: B", "B"),
        ("A dog is an animal. The answer is B", "B"),
        ("The answer is B, because A is too small", "B"),
        ("I think it's a cat, so B", "B"),
        ("Let's go\n\nB", "B"),
        ("B\n\nBecause A is not right.", "B"),
        ("A: no\nB: yes\nAnswer: B", "B"),
        ("A is wrong. So it must be C.", "C"),
        ("The answer isn't B. It is C", "C"),
        ("The answer is not A but C", "C"),
        ("It can't be B, and C is false; D", "D"),
        ("Final Answer: **(D) fish**", "D"),
        ("A", "A"),
        ("A is correct", "A"),
        ("The answer is A.", "A"),
        *((text, None) for text in ("", "E", "b", "I", "A or B", "The answer is A or B", "Both A and B are possible")),
        *((text, None) for text in ("The answer is (A) and (C).", "A cat is not a dog.", "The answer is a cat")),
        ("A) dogs\nB) cats", None),
    ],
)
def test_the_option_that_a_text_chooses(text: str, letter: str | None) -> None:
    assert chosen(text, OPTIONS) == letter


def test_choices_are_judged_by_letter_or_by_the_text_of_the_option() -> None:
    prompt = [{"role": "user", "content": QUESTION}]
    assert judged("choice", "The answer is B", "B", prompt=prompt) == (1, "correct", "B, expected B")
    assert judged("choice", "The answer is B", "cats", prompt=prompt).value == 1
    assert judged("choice", "dogs", "B. cats", prompt=prompt).value == 0
    assert judged("choice", "hm", "B", prompt=prompt)[:2] == (None, "unparseable_answer")
    assert judged("choice", "B", "perhaps", prompt=prompt)[:2] == (None, "unparseable_gold")
    assert judged("choice", "B").verdict == "no_reference"
    assert judged("choice", "The answer is J", "J").value == 1  # without options any letter may be one


@pytest.mark.parametrize("text", ["answer" + " " * 50_000 + "x", "answer is " * 20_000, "not " * 20_000, "(" * 50_000])
def test_long_texts_have_a_choice_too(text: str) -> None:
    assert chosen(text, OPTIONS) is None


@given(st.text(alphabet="ABCD ()*.:\n'answerisnotorboxed\\{}", max_size=60))
def test_what_is_chosen_is_an_option(text: str) -> None:
    assert chosen(text, OPTIONS) in {None, "A", "B", "C", "D"}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("5 + 4 = 9\nA: 26", "26"),
        ("The answer is 26. I am sure.", "26"),
        ("**Answer:** $1,000.", "1000"),
        ("so\n#### 1,234\n", "1234"),
        (r"thus \boxed{\frac{1}{2}} and \boxed{x", r"\frac{1}{2}"),
        ("The answer is: 3.5 apples. Good", "3.5 apples"),
        ("Final answer:\n42", "42"),
        ("  Paris. ", "paris"),
        ("A: 1,2", "1,2"),
        ("ＡＢ", "ab"),
    ],
)
def test_the_final_answer_of_a_text(text: str, answer: str) -> None:
    assert plain(final_answer(text)) == answer


def test_final_answers_of_gsm8k_are_right_where_openai_says_so() -> None:
    given = rows("gsm8k_rollouts/example_model_solutions")
    verdicts = score("answer")([Item(row["solution"], row["ground_truth"]) for row in given])
    assert [bool(verdict.value) for verdict in verdicts] == [row["is_correct"] for row in given]


def test_length_is_a_count_or_within_limits() -> None:
    assert judged("length", "<think>a</think>one two") == (2, "scored", "2 words")
    assert judged("length,least=2,most=2", "one two").value == 1
    assert judged("length,least=3", "one two") == (0, "wrong", "2 words, fewer than 3")
    assert judged("length,most=1", "one two").value == 0
    assert judged("length,unit=characters", "é漢").value == 2
    assert judged("length,unit=sentences", "One. Two!").value == 2
    for spec in ("length,unit=pages", "length,least=3,most=2"):
        with pytest.raises(UsageError):
            score(spec)


def test_language_is_judged_where_there_is_enough_text() -> None:
    german = (
        "Die Katze sitzt auf der Matte und schaut aus dem Fenster, weil draußen ein Vogel im Baum singt und sie ruht."
    )
    assert judged("language:de", german)[:2] == (1, "correct")
    assert judged("language:en+de", german).value == 1
    assert judged("language:en", german).value == 0
    assert judged("language:en", "Ja.")[:2] == (None, "too_short")
    assert judged("language:de,least=1", "Die Katze sitzt.").value == 1
    with pytest.raises(UsageError, match="'klingon' is no code"):
        score("language:klingon")


@pytest.mark.parametrize(
    ("spec", "text", "value", "why"),
    [
        ("format", "<think>a</think>b", 1, "<think>"),
        ("format", " <think>\na\n</think>\n\nb\n", 1, "<think>"),
        ("format", "b", 0, "no <think>"),
        ("format", "<think>a", 0, "no </think>"),
        ("format", "<think> </think>b", 0, "nothing in <think>"),
        ("format", "<think>a</think>", 0, "no answer after </think>"),
        ("format", "hi <think>a</think>b", 0, "text before <think>"),
        ("format", "<think>a</think>b<think>c</think>", 0, "<think> again"),
        ("format", "<think><think>a</think></think>b", 0, "<think> where </think> belongs"),
        ("format", "</think>a<think>", 0, "</think> where <think> belongs"),
        ("format", "<THINK>a</THINK>b", 0, "no <think>"),
        ("format,opened=true", "a</think>b", 1, "<think>"),
        ("format:think+answer", "<think>a</think>\n<answer>b</answer>\n", 1, "<think> <answer>"),
        ("format:think+answer", "<answer>b</answer><think>a</think>", 0, "<answer> where <think> belongs"),
        ("format:think+answer", "<think>a</think>so<answer>b</answer>", 0, "text before <answer>"),
        ("format:think+answer", "<think>a</think><answer>b</answer>!", 0, "text after </answer>"),
    ],
)
def test_tags_are_there_in_order_once_each(spec: str, text: str, value: float, why: str) -> None:
    assert judged(spec, text) == (value, "correct" if value else "wrong", why)


def test_reasoning_that_the_server_split_off_is_a_think_block() -> None:
    assert judged("format", "b", reasoning="a").value == 1
    assert judged("format", "b", reasoning=None).value == 0
    for spec in ("format:a b", "format:think+think", "format:<think>"):
        with pytest.raises(UsageError, match="think"):
            score(spec)


@pytest.mark.parametrize(
    ("spec", "argument", "parameters"),
    [
        ("regex:a{1,3}", "a{1,3}", {}),
        ("regex:a{1,3},full=true", "a{1,3}", {"full": True}),
        ("contains:x=1; y", "x=1; y", {}),
        ("contains:Hello, you,case=false", "Hello, you", {"case": False}),
    ],
)
def test_an_argument_may_hold_commas(spec: str, argument: str, parameters: dict[str, Any]) -> None:
    made = score(spec)
    assert {"pattern": argument, "text": argument}.items() & made.parameters.items()
    assert parameters.items() <= made.parameters.items()
    assert json.dumps(made.parameters) and re.fullmatch(r"[a-z]+", made.name)
