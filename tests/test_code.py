"""The score `code`: programs in responses, references of each style, and verdicts that the tests alone decide."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gristmill.errors import UsageError
from gristmill.score.code import extract
from gristmill.score.code import job as asked
from gristmill.score.named import score
from gristmill.score.pass_at_k import pass_at_k
from gristmill.score.score import Item, Score, Verdict
from tests.test_cli import gristmill

SQUARE = {
    "prompt": 'from math import sqrt\n\ndef helper(x):\n    return x\n\ndef square(x):\n    """The square of x."""\n',
    "test": "def check(candidate):\n    assert candidate(3) == 9\n    assert helper(candidate(2)) == 4, 'two'\n",
    "entry_point": "square",
}
MBPP = {"test_list": ["assert area(2, 3) == 6", "assert area(0, 3) == 0"], "test_setup_code": ""}


@pytest.fixture(scope="module")
def code() -> Score:
    return score("code,deadline=3", weak=True)


def judged(code: Score, response: str | None, reference: object) -> Verdict:
    text = reference if isinstance(reference, str | None) else json.dumps(reference)
    return code([Item(response, text)])[0]


@pytest.mark.parametrize(
    ("response", "entry", "expected"),
    [
        ("    return 1\n", "", "    return 1\n"),
        ("Here:\n```python\na = 1\n```\nand\n```py\nb = 2\n```\n", "", "b = 2\n"),
        ("```python\ndef f(): pass\n```\nUse it:\n```python\nf()\n```", "f", "def f(): pass\n"),
        ("```python\ndef f(): pass\n```\n```py\nf()\n```", "g", "f()\n"),
        ("```bash\nls\n```\n```\nx = 1\n```\n```json\n{}\n```", "", "x = 1\n"),
        ("```python\nx = 1\n", "", "x = 1\n"),
        ("```python\nx = 1\n```\nIt prints:\n```\n1\n```", "", "x = 1\n"),
        ("```\nx = 1\n```\nthen\n```\nx = 2\n```", "", "x = 2\n"),
        ("- So:\n  ```python\n  def f():\n      return 1\n  ```", "f", "def f():\n    return 1\n"),
        ("<think>\n```python\nx = 1\n```\n</think>\n```python\nx = 2\n```", "", "x = 2\n"),
        ("1. So:\n   ```Python 3\n   x = 1\n   ```", "", "x = 1\n"),
        ("```python\ns = '''\n  ``inline``\n'''\n```", "", "s = '''\n  ``inline``\n'''\n"),
        ("", "", ""),
    ],
)
def test_the_program_in_a_response(response: str, entry: str, expected: str) -> None:
    assert extract(response, {entry}) == expected


@pytest.mark.parametrize(
    ("response", "word", "said"),
    [
        ("    return x * x\n", "correct", "check passed"),
        ("    return sqrt(x ** 4)\n", "correct", ""),
        ("def square(x):\n    return helper(x) * x\n", "correct", ""),
        ("Sure!\n```python\ndef square(x):\n    return sqrt(x) ** 4\n```\n", "wrong", "square(3) = 8.9999"),
        ("square = lambda x: x * x", "correct", ""),
        ("    return x + x\n", "wrong", "assert candidate(3) == 9; square(3) = 6"),
        ("    return 9 if x == 3 else 5\n", "wrong", "square(2) = 5; two"),
        ("    return x / 0\n", "wrong", "square(3) raised ZeroDivisionError: division by zero (line 8)"),
        ("    return x\n\ndef helper(x):\n    return 4\n", "wrong", "square(3) = 3"),
        ("    return 9 if x == 3 else 0\n\ndef helper(x):\n    return 4\n", "wrong", "square(2) = 0"),
        ("```python\ndef sqare(x):\n    return x * x\n```", "wrong", "square(3) = None"),
        ("    return (x *\n", "unparseable_answer", "never closed"),
        ("I cannot do that.", "unparseable_answer", "SyntaxError"),
        ("  \n", "unparseable_answer", "no code"),
        ("<think>    return x * x", "unparseable_answer", ""),
    ],
)
def test_humaneval(code: Score, response: str, word: str, said: str) -> None:
    verdict = judged(code, response, SQUARE)
    assert verdict.verdict == word and said in verdict.why, verdict
    assert verdict.value == {"correct": 1, "wrong": 0}.get(word)


def test_tests_may_call_check_themselves(code: Score) -> None:
    reference = {**SQUARE, "test": SQUARE["test"] + "\ncheck(square)\n"}
    assert judged(code, "    return x * x\n", reference).verdict == "correct"
    assert judged(code, "    return x\n", reference).verdict == "wrong"


def test_a_prompt_that_is_no_code_is_left_out(code: Score) -> None:
    reference = {**SQUARE, "prompt": "Write a function `square`.", "test": "def check(f):\n    assert f(3) == 9"}
    assert judged(code, "```python\ndef square(x): return x*x\n```", reference).verdict == "correct"
    verdict = judged(code, "```python\ndef other(x): return x*x\n```", reference)
    assert verdict.verdict == "wrong" and "defines no 'square'; it defines other" in verdict.why


@pytest.mark.parametrize(
    ("response", "word", "said"),
    [
        ("def area(a, b):\n    return a * b", "correct", "2 tests"),
        ("def area(a, b):\n    return 6", "wrong", "test 2 of 2: assert area(0, 3) == 0; area(0, 3) = 6"),
        ("def volume(a, b):\n    return 6", "wrong", "test 1 of 2: assert area(2, 3) == 6; NameError"),
        ("print(area", "unparseable_answer", ""),
        ("```python\ndef area(a, b):\n    return a * b\n```\n```python\nprint(area(1, 2))\n```", "correct", ""),
        ("raise ValueError('\\ud800')", "wrong", "ValueError: ?"),
        ("1 / 0", "wrong", "loading it raised ZeroDivisionError"),
        ("while True: pass", "timeout", "no end of loading"),
    ],
)
def test_mbpp(code: Score, response: str, word: str, said: str) -> None:
    verdict = judged(code, response, MBPP)
    assert verdict.verdict == word and said in verdict.why, verdict


def test_only_a_program_that_hangs_takes_its_deadline(code: Score) -> None:
    items = [Item(f"def area(a, b):\n    return a * b * {n}", json.dumps(MBPP)) for n in range(3)]
    items.insert(1, Item("def area(a, b):\n    while b: pass\n    return 0", json.dumps(MBPP)))
    assert [v.verdict for v in code(items)] == ["wrong", "timeout", "correct", "wrong"]
    assert "no end of area(2, 3)" in code(items[1:2])[0].why


PROGRAMS = yaml.safe_load((Path(__file__).parent / "data" / "code_programs.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROGRAMS["right"])
def test_values_and_objects_that_tests_may_use(code: Score, name: str) -> None:
    case = PROGRAMS["right"][name]
    assert judged(code, case["program"], {"test_list": case["tests"]}).verdict == "correct"


@pytest.mark.parametrize("name", PROGRAMS["forged"])
def test_what_a_program_says_of_itself_decides_nothing(code: Score, name: str) -> None:
    case = PROGRAMS["forged"][name]
    assert judged(code, case["program"], {"test_list": case["tests"]}).verdict == "wrong"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "no JSON"),
        ("assert f() == 1", "no JSON"),
        ([1], "no JSON object"),
        ({"tests": []}, "neither test and entry_point"),
        ({"test_list": []}, "no test"),
        ({"test_list": [1]}, "test_list is no list of texts"),
        ({"test": 5, "entry_point": "f"}, "test is no text"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "1 inputs and 2 outputs"),
        ({"inputs": [], "outputs": []}, "no test"),
        ({"test_list": ["assert f()"], "test_setup_code": 1}, "test_setup_code is no text"),
        ({"test_list": ["assert f( == 1"]}, "no Python"),
        ({"test": "def check(", "entry_point": "f"}, "no Python"),
        ({"test": "x = 1", "entry_point": "f"}, "defines no check"),
        ({"test": "x = f", "entry_point": "f"}, "defines no check"),
        ({"test": "raise OSError('x')", "entry_point": "f"}, "the test itself failed"),
        ({"test_list": ["assert f(lambda: 1) == 1"]}, "passes a function, which is no data"),
    ],
)
def test_a_reference_that_cannot_be_used_is_said_to_be(code: Score, reference: object, said: str) -> None:
    verdict = judged(code, "def f(x=1): return 1\ndef check(f): return 1", reference)
    assert verdict.verdict == "unparseable_gold" and verdict.value is None and said in verdict.why, verdict


def test_single_texts_are_one_test(code: Score) -> None:
    assert judged(code, "print(input())", {"inputs": "a", "outputs": "a\n"}).verdict == "correct"
    assert judged(code, "print(input())", {"inputs": "a", "outputs": "b\n"}).verdict == "wrong"


def test_the_isolation_is_told_and_part_of_the_key(code: Score) -> None:
    assert code.parameters["isolation"] in ("namespaces", "bubblewrap", "none")
    other: dict[str, Any] = {**code.parameters, "isolation": "another"}
    item = Item("x", "y")
    assert Score(code.name, code.version, code.judge, other).key(item) != code.key(item)


def test_it_can_be_pickled(code: Score) -> None:
    assert judged(pickle.loads(pickle.dumps(code)), "def area(a, b): return a * b", MBPP).verdict == "correct"


@pytest.mark.parametrize("spec", ["code,deadline=0", "code,memory=1", "code:x", "code,weaker=true"])
def test_settings_that_cannot_be_are_one_line(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        score(spec)
    assert "\n" not in str(error.value)


def test_a_response_of_any_kind_has_a_verdict(code: Score) -> None:
    odd = ["\0", "\ud800", "(" * 10**5, "x = " + "1" * 10**5, "é = 1", "#" * 10**6, "\r\n\r", "\f", "`" * 999]
    for verdict in code([Item(text, json.dumps(MBPP)) for text in odd]):
        assert verdict.verdict in ("wrong", "unparseable_answer")


def test_the_tests_are_not_in_what_the_program_is_sent() -> None:
    sent = asked(Item("def square(x): return 9", json.dumps(SQUARE)), 1)
    assert isinstance(sent, dict) and not any("candidate" in text for text in sent["program"])


@pytest.mark.parametrize(
    ("samples", "right", "k", "expected"),
    [
        (1, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (10, 3, 1, 0.3),
        (4, 1, 2, 0.5),
        (5, 2, 3, 0.9),
        (100, 99, 2, 1.0),
        (200, 1, 100, 0.5),
    ],
)
def test_pass_at_k(samples: int, right: int, k: int, expected: float) -> None:
    assert pass_at_k(samples, right, k) == pytest.approx(expected)


def test_the_sets_own_solutions_pass(code: Score) -> None:
    data = Path(__file__).parent.parent.parent / "shared" / "data" / "humaneval" / "HumanEval.jsonl.gz"
    if not data.exists():
        pytest.skip("the data set is not here")
    rows = [json.loads(line) for line in gzip.decompress(data.read_bytes()).splitlines()[::8]]
    items = [Item(r["canonical_solution"], json.dumps({k: r[k] for k in SQUARE})) for r in rows]
    assert [v.verdict for v in code(items)] == ["correct"] * len(rows)


def test_the_command_line_prints_the_isolation(tmp_path: Path) -> None:
    rows = [
        {"prompt": "area", "response": f"def area(a, b): return a * b * {n}", "reference": json.dumps(MBPP)}
        for n in (1, 2)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["score", tmp_path / "rows.jsonl", "--with", "code", "--with", "exact", "--allow-weak-sandbox"]
    done = gristmill(*arguments, "-o", tmp_path / "out.parquet", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "code             isolation: " in done.stdout and "1 correct, 1 wrong" in done.stdout
    assert pq.read_table(tmp_path / "out.parquet")["verdict_code"].to_pylist() == ["correct", "wrong"]
