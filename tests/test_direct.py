r"""Answers with their reasoning: what is marked, and what is left of a row without the way to it."""

from pathlib import Path

import pytest

from gristmill.formats import raw_records
from gristmill.generate.direct import direct_answer, marked_answer

GSM8K = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = 72 altogether.\n#### 72"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GSM8K, "72"),
        ("#### 1,000 ", "1,000"),
        (r"So $x = \frac{1}{2}$, and the sum is $\boxed{\frac{1}{2} + \{3\}}$.", r"\frac{1}{2} + \{3\}"),
        (r"First \boxed{1}. No: \boxed{2}.", "2"),
        ("48/2 is 24.\nThe answer is 72.", "72"),
        ("24 and 48. So, the final answer is: **72**", "72"),
        ("steps\n**Answer:** 72 clips", "72 clips"),
        ("Steps.\nFinal answer: yes", "yes"),
        ("The answer is in the book, which is on the table.\nLook there.", None),
        ("My answer would be 3", None),
        (r"an open \boxed{3", None),
        ("#### ", None),
        ("# A heading\n## Another", None),
        ("", None),
    ],
)
def test_the_marked_answer(text: str, answer: str | None) -> None:
    found = marked_answer(text)
    assert (found and found.answer) == answer


@pytest.mark.parametrize(
    ("response", "reasoning", "direct"),
    [
        (GSM8K, None, "72"),
        ("<think>\n48/2\n</think>\n\nIt is 72.", None, "It is 72."),
        ("<think>48/2</think>\nSo.\n#### 72", None, "72"),
        ("It is 72.", "48/2 is 24", "It is 72."),
        ("72", None, None),
        ("#### 72", None, None),
        (r"The answer is \boxed{72}.", None, None),
        (r"48/2 is 24. The answer is \boxed{72}.", None, "72"),
        ("The answer is 72.", None, None),
        ("<think>cut", None, None),
        (None, "48/2", None),
    ],
)
def test_the_direct_answer_of_a_row_with_reasoning(
    response: str | None, reasoning: str | None, direct: str | None
) -> None:
    assert direct_answer({"response": response, "reasoning": reasoning}) == direct


def test_every_answer_of_gsm8k_is_found() -> None:
    file = Path(__file__).parent.parent / "gristmill" / "data" / "gsm8k_train.jsonl.zst"
    rows = [record for _, record, _ in raw_records(str(file)) if isinstance(record, dict)]
    assert len(rows) > 1_000
    for row in rows:
        text = row["answer"]
        assert direct_answer({"response": text}) == text.rpartition("####")[2].strip()
