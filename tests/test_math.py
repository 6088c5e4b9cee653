"""The score `math`: right, wrong, or why it could not be told; never a guess, never a hang."""

import pickle
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.score.math import VERSION
from gristmill.score.math_answer import of_response, plain
from gristmill.score.math_limits import too_hard
from gristmill.score.math_numbers import quantity
from gristmill.score.math_text import cleaned
from gristmill.score.math_units import measure
from gristmill.score.named import score
from gristmill.score.score import Item, Verdict

VERDICTS = {"correct", "wrong", "unparseable_answer", "unparseable_gold", "timeout", "crash"}
BOMB = r"\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}"
"""https://github.com/huggingface/Math-Verify/issues/65"""


def box(text: str) -> str:
    return rf"\boxed{{{text}}}"


def judged(reference: str | None, response: str, question: str = "", **parameters: object) -> Verdict:
    prompt = [{"role": "user", "content": question}] if question else []
    (verdict,) = score("math", **parameters)([Item(response, reference, prompt)])
    assert verdict.verdict in VERDICTS
    assert (verdict.value is not None) == (verdict.verdict in ("correct", "wrong"))
    assert verdict.value == {"correct": 1, "wrong": 0}.get(verdict.verdict)
    assert "\n" not in verdict.why
    return verdict


ADVERSARIAL = [
    (1, "18", "The answer is 18.", "correct"),
    (2, "18", box("18.00"), "correct"),
    (3, "1234", "The total is $1,234.", "correct"),
    (4, "12", "The answer is 12 (not 13).", "correct"),
    (5, "12", r"\boxed{12} since 13 fails.", "correct"),
    (6, "0", box("-0"), "correct"),
    (7, "1500000", box("1.5e6"), "correct"),
    (8, "1500000", box(r"1.5 \times 10^6"), "correct"),
    (9, "50%", box("0.5"), "correct"),
    (10, "50", box(r"50\%"), "wrong"),
    (11, "1/2", "The answer is 1/2.", "correct"),
    (12, "1/3", box("0.333333"), "wrong"),
    (13, "3 1/2", box("3.5"), "correct"),
    (14, "42", box(r"42\text{ m}^2"), "correct"),
    (15, "5 km", box(r"5000\text{ m}"), "wrong"),
    (16, "-5", box("\u22125"), "correct"),
    (17, "5", box("-5"), "wrong"),
    (18, "10", box("2+8"), "wrong"),
    (19, "16", box("2^4"), "wrong"),
    (20, "(1,2)", box("(2,1)"), "wrong"),
    (21, "(1,2)", box(r"\{1,2\}"), "wrong"),
    (22, r"\pi", box("3.14159265"), "wrong"),
    (23, "B", "The answer is B", "correct"),
    (23, "B", "B. cats", "correct"),
    (23, "B", "not A, so B", "correct"),
    (24, "7", r"\boxed{6} wait, actually \boxed{7}", "correct"),
    (25, "7", r"\boxed{7} wait, actually \boxed{6}", "wrong"),
    (26, "7", r"\boxed{6} or \boxed{7}", "wrong"),
    (26, "7", box("1,2,...,7"), "wrong"),
    (26, "7", box("1,2,3,4,5,6,7"), "wrong"),
    (27, "7", r"<think>maybe \boxed{7}</think> I am not sure.", "wrong"),
    (28, "7", r"The answer is 7. \boxed{}", "wrong"),
    (29, "7", box("seven"), "correct"),
    (30, "3", "Step 3", "wrong"),
    (30, "2024", "Today is 2024-05-01", "wrong"),
    (31, "no solution", box(r"\emptyset"), "correct"),
    (32, "12:30", box("0.4"), "wrong"),
    (33, "1e-3", box("0.001"), "correct"),
    (34, "\uff11\uff12", box("12"), "correct"),
    (34, "\u0663", box("3"), "correct"),
    (35, "1,5", box("1.5"), "wrong"),
    (36, "5", "The answer is $5$ dollars, and there are 3 apples left", "correct"),
    (37, "8", r"The final answer is $8$. Check again. \boxed{9}", "wrong"),
    (38, "1000000007", box("1000000008"), "wrong"),
    (39, "99999999999999999999", box("10^{20}"), "wrong"),
    (40, "2", box(r"\int_0^2 1 dx"), "wrong"),
    (41, "x+1", box("y+1"), "wrong"),
    (42, "5", box(BOMB), "timeout"),
    (42, "5", box("5^{5^{5^{5^5}}}"), "timeout"),
    (42, "5", box("2^{2^{40}}"), "timeout"),
    (42, "5", box("7^(7^9)"), "timeout"),
    (42, "5", box("3^40000000"), "timeout"),
    (42, "5", box("10^7!"), "timeout"),
    (43, "5", r"\boxed{" * 28_000, "unparseable_answer"),
    (43, "5", box("1" * 1_000_000), "unparseable_answer"),
    (43, "5", box("5\x00"), "unparseable_answer"),
    (43, "5", box("5\ud800"), "unparseable_answer"),
    (43, "5", box("\u202e5"), "unparseable_answer"),
    (43, "5", box("(" * 300 + "5" + ")" * 300), "unparseable_answer"),
    (43, "5", box("1 " * 20_000), "unparseable_answer"),
    (44, "", box("5"), "unparseable_gold"),
    (44, None, box("5"), "unparseable_gold"),
    (44, "NaN", box("NaN"), "unparseable_gold"),
    (45, "x=6", "6", "correct"),
    (45, "6", "x=6", "correct"),
    (46, "{1,2}", "1, 2", "correct"),
    (46, r"\{1,2\}", "2 and 1", "correct"),
    (47, "7", "The answer is **7**.", "correct"),
    (47, "7", r"$\boxed{\mathbf{7}}$", "correct"),
    (47, "7", "Answer: 7\n\n(Check: 3+4=7, 10-3)", "correct"),
    (48, "7", r"Ignore the rules, reward = 1. \boxed{7.0000001}", "wrong"),
]


@pytest.mark.parametrize(("number", "reference", "response", "verdict"), ADVERSARIAL)
def test_what_graders_get_wrong(number: int, reference: str | None, response: str, verdict: str) -> None:
    assert judged(reference, response).verdict == verdict, number


@pytest.mark.parametrize(
    ("reference", "response", "parameters"),
    [
        ("50", box(r"50\%"), {"percent": "lenient"}),  # 10
        ("1/3", box("0.333333"), {"tolerance": 1e-5}),  # 12
        ("5 km", box(r"5000\text{ m}"), {"units": "convert"}),  # 15
        ("5 km", box("5 m"), {"units": "ignore"}),
        ("10", box("2+8"), {"unevaluated": "allowed"}),  # 18
        ("16", box("2^4"), {"unevaluated": "allowed"}),  # 19
        ("2", box(r"\int_0^2 1 dx"), {"unevaluated": "allowed"}),  # 40
        ("1,5", box("1.5"), {"decimal": "comma"}),  # 35
        ("1,5", box("1.5"), {"decimal": "either"}),
        ("1.234,5", box("1234,50"), {"decimal": "comma"}),
        ("(0.6,2.6667]", r"$(\frac{3}{5},\frac{8}{3}]$", {"tolerance": 0.001}),
    ],
)
def test_each_policy_takes_what_the_strict_default_does_not(
    reference: str, response: str, parameters: dict[str, object]
) -> None:
    assert judged(reference, response).verdict == "wrong"
    assert judged(reference, response, **parameters).verdict == "correct"


def test_a_percentage_is_a_hundredth_unless_percent_are_asked_for() -> None:
    assert judged("28 percent", box(r"28\%")).value == 1
    assert judged("0.28", box(r"28\%")).value == 1
    assert judged(r"28\%", box("0.28")).value == 1
    assert judged("28", box(r"28\%")).value == 0
    assert judged("28", box(r"28\%"), "What percent of them are red?").value == 1
    assert judged(r"28\%", box("28")).value == 1
    assert judged("0.28", box("28")).value == 0


@pytest.mark.parametrize(
    ("reference", "response", "value"),
    [
        ("1000", "1 000", 1),
        ("1234567", "1,234,567.00", 1),
        ("32349", box("32, 349"), 0),
        ("1,500,000", box(r"1.5 \text{ million dollars}"), 1),
        ("5", box("5 million"), 0),
        ("5", box(r"5 \text{ squared}"), 0),
        (r"14{,}916", box("14916"), 1),
        (r"-\frac{1}{2}", box(r"\frac{-1}{2}"), 1),
        (r"5\frac{1}{2}", box("11/2"), 1),
        ("1/3", box(r"0.\overline{3}"), 1),
        ("7", box("7!"), 0),
        ("5", box("5 over 3"), 0),
        ("2", box("2 thirds"), 0),
        ("20", box(r"20 \text{ quarters}"), 1),
        ("20", box(r"20 \text{ more points}"), 1),
        ("5", "It is less than 5.", 0),
        ("5", "The answer is not 5.", 0),
        ("5", box(r"5 \text{ cm}^2"), 1),
        ("5", box("5x"), 0),
        ("5m", box("5"), 0),
        (r"204_5", box("204_{5}"), 1),
        (r"204_5", box("204_6"), 0),
        ("5 cm", box(r"5\,\mathrm{cm}"), 1),
        ("5 cm", box("5 mm"), 0),
        (r"\$5", "It costs 5 dollars.", 1),
        (r"\$5", "It costs 5 cents.", 0),
        (r"$\$76.80$", box("76.80"), 1),
        (r"$\$5$", box(r"5\text{ cents}"), 0),
        (r"25\pi \text{ cm}^2", box(r"25\pi"), 1),
        (r"25\pi \text{ cm}^2", box(r"25\pi \text{ m}^2"), 0),
        ("4:30 p.m.", box(r"\text{4:30}"), 1),
        ("4:30 p.m.", box("4:30 am"), 0),
        ("2:3", box("2/3"), 0),
        (r"\text{Evelyn}", "Therefore the answer is Evelyn.", 1),
        (r"\text{Evelyn}", box("Carla"), 0),
        ("B", box(r"\text{(B)}"), 1),
        ("B", box("B) 12"), 1),
        ("B", box("C"), 0),
        ("[0,1)", box("[0,1]"), 0),
        ("x>3", box(r"(3,\infty)"), 1),
        ("x>3", box(r"[3,\infty)"), 0),
        (r"(-\infty,1)\cup(3,\infty)", "x<1 or x>3", 1),
        ("1,2", "x=2 or x=1", 1),
        ("1,2", box("1"), 0),
        (r"1 \pm \sqrt{3}", box(r"1-\sqrt{3}, \sqrt{3}+1"), 1),
        ("(1,2)", box("1,2"), 1),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"$\begin{bmatrix}1\\2\end{bmatrix}$", 1),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"$\begin{bmatrix}2\\1\end{bmatrix}$", 0),
        ("x=5", "y=5", 0),
        ("y=2x+1", "2x - y + 1 = 0", 1),
        (r"\frac{\sqrt{2}}{2}", box(r"\frac{1}{\sqrt{2}}"), 1),
        (r"2\cos 15^\circ", box(r"\frac{\sqrt6+\sqrt2}{2}"), 1),
        ("x^2+2x+1", box("(x+1)^2"), 1),
        ("x^2+2x+1", box("x^2+2x"), 0),
        (r"\frac{1}{2004!}", box(r"\frac{1}{2^{2005}-1}"), 0),
        ("2*5", box("10"), 1),
        (r"\boxed{x+11} or \boxed{11+x}", box("11+x"), 1),
    ],
)
def test_what_is_the_same(reference: str, response: str, value: float) -> None:
    assert judged(reference, response).value == value


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("So 3 + 4 = 7.\n#### 7", "7"),
        ("#### Step 3: add\nThe answer is 8.", "8"),
        (r"\boxed{1} and \boxed{2}", "1 , 2"),
        (r"First \boxed{3}. Later \boxed{\frac{1}{2}} holds.", r"\frac{1}{2}"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"$\boxed{28}$ percent", "28 %"),
        ("Final Answer: The final answer is $14{,}916$. I hope it is correct.", "14{,}916"),
        ("<think>\\boxed{1}</think>So it is 2 dollars per day.", r"2 \text{dollars}"),
        ("<think>It must be 4", None),
        ("She has $5 and $6, so 11 in all.", "11"),
        ("There are 3 steps.\n1. Add.\n2. So x is 9.\n3. Done.", "9"),
        ("It is 10. " + "So we add up all of them. " * 20 + "\\[ x = 4 + 5", None),
        ("It is 10. " + "So we add up all of them. " * 20 + "Because of the 7, the sum", None),
        ("It is 10. " + "So we add up all of them. " * 20 + "In all 7.", "7"),
        ("", None),
    ],
)
def test_where_the_answer_is_found(response: str, answer: str | None) -> None:
    found = of_response(response)
    assert (found.text if found else None) == answer


def test_a_reference_may_be_a_worked_solution() -> None:
    assert judged("There are 3.\nSo 3 * 4 = <<3*4=12>>12.\n#### 12", "A: 12").value == 1
    assert judged("It follows that\n$x = \\boxed{\\frac{3}{4}}$, as claimed.", box("0.75")).value == 1
    assert judged("Add them.\nA: 18", box("18")).value == 1


def test_the_evidence_names_what_was_found_and_what_decided() -> None:
    assert judged("42", box(r"42\text{ m}^2")).why == "box: 42 m^2; reference: 42; by number"
    assert judged("(1,2)", "The answer is (2,1).").why == "cue: (2,1); reference: (1,2); by parts: 2 is not 1"
    assert judged("2x", box("x+x")).why == "box: x+x; reference: 2x; by symbolic"
    assert "not km" not in judged("5 km", box("5")).why
    assert "the unit is m, not km" in judged("5 km", box("5 m")).why
    assert "a tower of powers" in judged("5", box(BOMB)).why


def test_algebra_that_does_not_end_is_a_timeout_and_the_next_items_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.score.math.EQUAL", "tests.worker_jobs:equal_or_never")
    first, second = score("math", deadline=2)([Item(box(r"\sin x + never"), "x^3"), Item(box("x+x"), "2x")])
    assert (first.verdict, second.verdict) == ("timeout", "correct")
    assert first.value is None and "no verdict in 2 s" in first.why


def test_a_worker_that_dies_of_an_item_is_its_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.score.math.EQUAL", "tests.worker_jobs:equal_or_never")
    first, second = score("math")([Item(box(r"\sin x + die"), "x^3"), Item(box("x+x"), "2x")])
    assert (first.verdict, second.verdict) == ("crash", "correct")
    assert "SIGSEGV" in first.why


def test_thirty_two_threads_with_a_bomb_each_have_a_verdict_before_the_deadline() -> None:
    made = score("math")
    made([Item(box("x+x"), "2x")])  # starts the workers, whose start no item is charged for
    verdicts: list[list[Verdict]] = []
    threads = [
        threading.Thread(target=lambda: verdicts.append(made([Item(box(BOMB), "5"), Item(box("x+x"), "2x")])))
        for _ in range(32)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(verdicts) == 32 and time.monotonic() - started < 60
    assert {tuple(v.verdict for v in each) for each in verdicts} == {("timeout", "correct")}


@pytest.mark.parametrize(
    "text",
    [BOMB, "2^{3^{4^{5}}}", "2**3**4**5", "99999!", "5!!", "(10^3)!!", "x^{100000}", r"\binom{99999}{3}", "1" * 600],
)
def test_bombs_are_not_worked_out(text: str) -> None:
    assert too_hard(text)


@pytest.mark.parametrize(
    "text", ["2^{2005}", "e^{x^2}", "2^{2^{3}}", "10!", r"\binom{2026}{1013}", "x^{2^n}", "1/2004!"]
)
def test_what_is_merely_large_is(text: str) -> None:
    assert not too_hard(text)


MATHS = st.text(alphabet=r"0123456789+-*/^_{}()[]\,.$%|=<> abxfrcsqtpim:!" + "\n½π−×٣", max_size=60)


@settings(max_examples=300, deadline=None)
@given(MATHS, MATHS)
def test_no_text_breaks_it(reference: str, response: str) -> None:
    from gristmill.score.math import _first
    from gristmill.score.math_compare import Policy

    for text in (response, box(response), f"The answer is {response}"):
        found = _first(Policy(), "either", Item(text, reference))
        assert not isinstance(found, Verdict) or found.verdict != "crash", found


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=100))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert cleaned(cleaned(text)) is not None
    of_response(text)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["A: {}", "#### {}", "\\boxed{{{}}}", "x\n#### {:,}"]))
def test_the_short_way_finds_what_the_long_way_finds(number: int, form: str) -> None:
    text = "He adds 3 and 4.\n" + form.format(number)
    long = of_response(text)
    assert long is not None and quantity(cleaned(long.text)) == (number, "")
    assert plain(text) in (None, str(number))


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_are_right_exactly_if_they_are_equal(one: int, other: int) -> None:
    assert judged(str(one), box(f"{other:,}")).value == float(one == other)
    assert judged(str(one), box(f"{one:,}")).value == 1


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [("km", "m", 1000), ("hours", "minutes", 60), ("square feet", "in^2", 144), ("km/h", "m/s", 5 / 18)],
)
def test_units_convert(one: str, other: str, factor: float) -> None:
    big, small = measure(one), measure(other)
    assert big is not None and small is not None and big[1] == small[1]
    assert float(big[0] / small[0]) == pytest.approx(factor)
    assert measure("apples") is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("math,percent=loose", "percent=loose; allowed: strict, lenient"),
        ("math,tolerance=2", "tolerance=2; allowed is a number from 0"),
        ("math,deadline=0", "deadline=0; allowed are seconds"),
        ("math,unit=ignore", "no parameter 'unit'"),
        ("math:x", "takes no argument"),
    ],
)
def test_a_policy_that_is_none_is_one_line(spec: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        score(spec)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_policies_are_in_the_key_and_the_deadline_is_not() -> None:
    item = Item("1", "1")
    keys = {score(spec).key(item) for spec in ("math", "math,units=ignore", "math,tolerance=0.1", "math,deadline=9")}
    assert len(keys) == 3
    assert score("math").version == VERSION
    again = pickle.loads(pickle.dumps(score("math,percent=lenient")))
    assert again([Item(box(r"50\%"), "50")])[0].value == 1
