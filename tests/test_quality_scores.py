"""Axes of quality without a model: each tells good text from damaged text, names the damage, and knows its limits."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.score.named import score
from gristmill.score.readability import ease_and_grade, measured, syllables
from gristmill.score.score import Item, Verdict
from gristmill.score.structure import faults
from tests import tiny_model

GETTYSBURG = (
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing "
    "whether that nation, or any nation so conceived and so dedicated, can long endure."
)


def judged(spec: str, response: str) -> Verdict:
    (verdict,) = score(spec)([Item(response)])
    return verdict


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (GETTYSBURG, []),
        (" ".join(["the small black cat sleeps on that mat"] * 10), ["repetition"]),
        (" ".join(f"{n} + {n * n} = {n + n * n}" for n in range(20)), ["word length", "letters", "English"]),
        (GETTYSBURG.replace(" ", " # "), ["word length", "letters", "symbols"]),
        (" ".join(f"{a}uszug{b}" for a in "abcdef" for b in "abcdef"), ["English"]),
    ],
)
def test_fluency_is_the_share_of_tests_that_running_text_passes(text: str, failed: list[str]) -> None:
    verdict = judged("fluency", text)
    assert verdict.value == pytest.approx(1 - len(failed) / 5) and verdict.verdict == "scored"
    assert [told.split(":")[0] for told in verdict.why.split("; ") if failed] == failed


def test_fluency_does_not_judge_a_few_words_and_may_leave_english_out() -> None:
    assert judged("fluency", "Yes. " * 19)[:2] == (None, "too_short")
    german = " ".join(f"wort{n}lang" for n in "abcdefghijklmnopqrstuvwxyz")
    assert judged("fluency", german).value == pytest.approx(0.8)
    assert judged("fluency,english=false", german).value == 1


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("A whole answer.", []),
        ("42", []),
        ("# Title\n\n- one\n- two and more words\n\n| a | b |\n|---|---|\n| `x|y` | d |", []),
        ("```python\nx = '**'\n```", []),
        ("one part\n***\nanother part.", []),
        ("It costs $5 and `x` is **bold**.", []),
        ("$$x$$ and \\[y\\] and \\begin{align}\\begin{cases}1\\end{cases}\\end{align}.", []),
        ("It was cut in the middle of", ["ending"]),
        ("```python\nx = 1", ["fences"]),
        ("This is **bold and ends.", ["emphasis"]),
        ("\\begin{align} x = 1 \\end{equation}.", ["maths"]),
        ("\\begin{align} x = 1.", ["maths"]),
        ("So $$x = 1 is it.", ["maths"]),
        ("| a | b |\n|---|---|\n| c |", ["tables"]),
        ("word " * 301 + "end.", ["paragraphs"]),
        ("One line.\\nAnother line.", ["escapes"]),
        ("Tom &amp; Jerry ran.", ["escapes"]),
    ],
)
def test_structure_names_what_is_broken(text: str, failed: list[str]) -> None:
    assert [name for name, told in faults(text).items() if told] == failed
    assert judged("structure", text).value == pytest.approx(1 - len(failed) / 7)


def test_nothing_has_no_structure() -> None:
    assert judged("structure", "<think>a</think>")[:2] == (0, "scored")


def test_reading_ease_and_grade_are_the_published_formulas() -> None:
    # 13 words and 24 syllables, grade 11.3: https://en.wikipedia.org/wiki/Flesch-Kincaid_readability_tests
    words, per_word = measured("The Australian platypus is seemingly a hybrid of a mammal and reptilian creature.")
    assert (words, per_word) == (13, pytest.approx(24 / 13, abs=2 / 13))  # -ian is one syllable or two
    assert ease_and_grade(13, 24 / 13)[1] == pytest.approx(11.3, abs=0.05)
    easiest = " ".join(["Stop."] * 20)
    assert judged("readability,grade=true", GETTYSBURG).value == pytest.approx(13, abs=1)
    assert measured(easiest) == (1, 1)
    assert ease_and_grade(1, 1)[0] == pytest.approx(121.22)  # the highest there is


def test_simple_text_reads_more_easily_than_hard_text() -> None:
    simple = (
        "The cat sat on the mat. It was a warm day. The dog came in and lay down too. They both slept for a long time."
    )
    hard = GETTYSBURG
    assert (judged("readability", simple).value or 0) > 90 > (judged("readability", hard).value or 0) > 30


def test_readability_knows_what_it_cannot_judge() -> None:
    assert judged("readability", "Too short.")[:2] == (None, "too_short")
    assert judged("readability", "```\n" + "a word " * 40 + "\n```")[:2] == (None, "too_short")
    german = (
        "Die Katze sitzt auf der Matte und schaut aus dem Fenster, weil draußen ein Vogel im Baum singt und ruft. " * 2
    )
    assert judged("readability", german)[:2] == (None, "not_english")


def test_syllables_are_estimated_to_a_tenth() -> None:
    known = dict.fromkeys(("cat", "make", "walked", "there", "times", "played", "tree", "free", "queue", "whole"), 1)
    known |= dict.fromkeys(("table", "people", "wanted", "needed", "boxes", "houses", "little", "being", "reading"), 2)
    known |= dict.fromkeys(("banana", "beautiful", "created", "important", "different", "sentences"), 3)
    known |= {"education": 4, "university": 5}
    assert sum(abs(syllables(word) - count) for word, count in known.items()) <= 0.1 * sum(known.values())


@given(st.text(alphabet="abe yl'’-.", max_size=30))
def test_a_word_has_a_syllable(word: str) -> None:
    assert syllables(word) >= 1


def test_diversity_is_what_no_other_row_says(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "The  cat sat on a chair", "something wholly other here", "one two three four"]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": "q", "response": text}) + "\n" for text in [*texts, texts[3]]))
    made = score(f"diversity:{file}")
    values = [verdict.value for verdict in made([Item(text) for text in texts])]
    assert values == [0.5, 0.5, 1, 0]
    new, short = made([Item("the cat sat quietly"), Item("the cat")])
    assert new.value == 0.5  # a row that is not in the file: what no row there says
    assert short[:2] == (None, "too_short")


def test_diversity_is_of_the_content_of_the_file(tmp_path: Path) -> None:
    keys = []
    for name, texts in (("a", ["a b c", "d e f"]), ("b", ["d e f", "a b c"]), ("c", ["a b c"])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"prompt": "q", "response": text}) + "\n" for text in texts))
        keys.append(score(f"diversity:{file}").key(Item("a b c")))
    assert keys[0] == keys[1] != keys[2]
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "q"}\n')
    with pytest.raises(UsageError, match="name a file of rows with a response"):
        score(f"diversity:{tmp_path}/prompts.jsonl")


def test_fluency_by_a_model_is_the_mean_log_probability_of_its_tokens(tmp_path: Path) -> None:
    path = tiny_model.save(tmp_path / "model")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    made = score(f"fluency:hf:{path}")
    asked = [{"role": "user", "content": "hi"}]
    found, again, empty, long = made(
        [Item("hello", prompt=asked), Item("hello", prompt=asked), Item(""), Item("a" * 600, prompt=asked)]
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    tokens = tokenizer.apply_chat_template(asked, tokenize=True, return_dict=False, add_generation_prompt=True)
    total = 0.0
    for letter in tokenizer("hello", add_special_tokens=False)["input_ids"]:  # one at a time
        with torch.no_grad():
            total += model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)[letter].item()
        tokens = [*tokens, letter]
    assert found.value == pytest.approx(total / 5, abs=1e-4) and again == found
    assert empty[:2] == (None, "too_short") and "of 600 tokens" in long.why
    assert set(made.parameters) == {"model"}


def test_a_model_of_fluency_is_local() -> None:
    with pytest.raises(UsageError, match="fluency:hf:PATH"):
        score("fluency:http://localhost:1/v1#x")
