import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gristmill.errors import UsageError
from gristmill.filter.limits import Limit, any_of
from gristmill.filter.marks import dropped, kept
from gristmill.filter.rules import DEFAULT_RULES, PRIVATE_RULES, Rule, apply_rules, describe, explain, own_rule
from tests.tables import by_row, samples, table

LOOP = "and then we went on and on and on " * 12
BAD: list[tuple[str, str, str | None]] = [
    ("empty", "Name a fruit.", ""),
    ("empty", "Name a fruit.", None),
    ("empty", "Name a fruit.", " \n\u200b\ufeff"),
    ("too_long", "Name a fruit.", "apple, pear " * 20_001),
    ("repetitive", "Tell me a story.", LOOP),
    ("refusal", "Play a song.", "I'm sorry, but I can't help with that."),
    ("template_leak", "Tell me a story.", "Once there was a king.\n##\n10. Instruction: Name a fruit."),
    ("template_leak", "Name a fruit.\n<noinput>", "An apple."),
    ("echo", "What is the capital of France?", "what is the capital of France"),
    ("wrong_language", "Describe your day in a sentence.", "Сегодня я много работал и потом долго гулял в парке."),
]
GOOD = [
    ("What is 6 * 7?", "42"),
    ("Yes or no?", "B"),
    ("Is fire hot?", "True"),
    ("Hi", "Hi!"),
    ("Translate into Russian: today I worked a lot", "Сегодня я много работал и потом долго гулял."),
    ("今日は何をしましたか。教えてください。", "今日はたくさん働いて、それから公園を長い間散歩しました。"),
    ("Complain to a friend.", "I'm sorry to say that I am tired."),
    ("List the foods.", "\n".join(f"{food}: could be found in the kitchen" for food in "abcdefgh")),
]


def test_each_rule_drops_its_defect_and_says_so() -> None:
    rows = by_row(apply_rules(samples([(p, a) for _, p, a in BAD])), "drop_rule", "drop_value", "drop_limit")
    assert [rule for rule, _, _ in rows] == [rule for rule, _, _ in BAD]
    assert all(value != limit for _, value, limit in rows)


def test_evidence_shows_the_text() -> None:
    rows = by_row(apply_rules(samples([(p, a) for _, p, a in BAD])), "drop_evidence")
    facts = [json.loads(evidence) for (evidence,) in rows]
    assert facts[4]["measure"] == "top_2gram" and facts[4]["times"] == 35
    assert facts[5] == {"measure": "refusal", "text": "I'm sorry, but I can't help"}
    assert facts[7] == {"measure": "no_input", "text": "<noinput>"}
    assert facts[9]["script"] == "Cyrillic"


def test_good_rows_are_kept_and_measured() -> None:
    marked = apply_rules(samples(GOOD))
    assert kept(marked).count_rows() == len(GOOD)
    assert by_row(marked, "rule_chars", "rule_words")[0] == (2.0, 1.0)
    measured = [name for name in marked.column_names if name.startswith("rule_")]
    assert {f"rule_{limit.measure}" for rule in DEFAULT_RULES for limit in rule.limits} == set(measured)
    for values in by_row(marked, *measured):
        assert all(isinstance(value, float) for value in values)


def test_rows_dropped_before_keep_their_reason_and_are_not_measured() -> None:
    rows = [
        {"prompt": "Name a fruit.", "response": ""},
        {"prompt": "Name a fruit.", "response": "An apple."},
    ]
    marked = apply_rules(table("sample", rows), [own_rule("fruit", where="response = 'An apple.'")])
    again = apply_rules(marked)
    assert by_row(again, "drop_rule", "rule_chars") == [("empty", 0.0), ("fruit", None)]


def test_the_first_rule_of_the_list_wins() -> None:
    rules = {rule.name: rule for rule in DEFAULT_RULES}
    pair = samples([("Name a fruit.\nNo input", "")])
    for order in (["empty", "template_leak"], ["template_leak", "empty"]):
        assert by_row(apply_rules(pair, [rules[name] for name in order]), "drop_rule") == [(order[0],)]


def test_repetition_needs_all_figures_or_many_repeats() -> None:
    repetitive = next(rule for rule in DEFAULT_RULES if rule.name == "repetitive")
    words = [f"w{i}" for i in range(50)]
    long_loop, twice, short = " ".join(words * 5), " ".join(words * 2), "no no no no no"
    marked = apply_rules(samples([("Speak.", text) for text in (long_loop, twice, short)]), [repetitive])
    assert by_row(marked, "drop_rule") == [("repetitive",), (None,), (None,)]
    assert by_row(marked, "rule_repeats", "rule_dup_10gram")[:2] == [(5.0, 1.0), (2.0, 1.0)]


def test_preferences_are_judged_on_what_was_chosen() -> None:
    rows = [
        {"prompt": "Name a fruit.", "chosen": "Apple.", "rejected": ""},
        {"prompt": "Name a fruit.", "chosen": "", "rejected": "Apple."},
    ]
    assert by_row(apply_rules(table("preference", rows)), "drop_rule") == [(None,), ("empty",)]


def test_prompts_are_judged_by_length_and_placeholder() -> None:
    rows = [{"prompt": text} for text in ("Name a fruit.", " ", "Name a fruit.\n<noinput>", LOOP)]
    marked = apply_rules(table("prompt", rows))
    assert by_row(marked, "drop_rule") == [(None,), ("empty",), ("template_leak",), (None,)]
    assert "rule_refusal" not in marked.column_names
    assert by_row(apply_rules(table("prompt", [{"prompt": []}])), "drop_rule") == [("empty",)]


def test_the_last_message_is_the_prompt() -> None:
    turns = [
        {"role": "user", "content": "Name a fruit and a tree.", "extra": None},
        {"role": "assistant", "content": "Apple, oak.", "extra": None},
        {"role": "user", "content": "And another fruit, please?", "extra": None},
    ]
    rows = [{"prompt": turns, "response": text} for text in ("Name a fruit and a tree.", "And another fruit please")]
    assert by_row(apply_rules(table("sample", rows)), "drop_rule") == [(None,), ("echo",)]


def test_marks_do_not_depend_on_how_the_table_is_cut() -> None:
    pairs = [(p, a) for _, p, a in BAD if a is None or len(a) < 1000] * 3 + GOOD
    one = apply_rules(samples(pairs))
    many = apply_rules(samples(pairs).into_batches(4))
    columns = [name for name in one.column_names if name.startswith(("rule_", "drop_"))]
    assert by_row(one, *columns) == by_row(many, *columns)


def test_own_rules_in_sql_and_python() -> None:
    def share_of_digits(rows: pa.Table) -> Any:
        return [sum(c.isdigit() for c in text) / len(text) for text in rows["response"].to_pylist()]

    rules = [
        own_rule("no_urls", where="response ilike '%http%'", reason="links"),
        own_rule("wordy", where="length(response)", most=20),
        own_rule("digits", function=share_of_digits, most=0.5),
        own_rule("upper", function=lambda rows: pc.utf8_is_upper(rows["response"])),
    ]
    answers = ["see HTTP://x", "a rather long answer indeed", "12345", "LOUD", "fine"]
    marked = apply_rules(samples([("Say.", answer) for answer in answers]), rules)
    assert by_row(marked, "drop_rule") == [("no_urls",), ("wordy",), ("digits",), ("upper",), (None,)]
    assert by_row(marked, "rule_digits")[2] == (1.0,)
    assert by_row(marked, "rule_upper")[0] == (0.0,)
    first = json.loads(by_row(marked, "drop_evidence")[0][0])
    assert first == {"measure": "no_urls", "where": "response ilike '%http%'", "reason": "links"}


def test_own_rules_may_use_measures() -> None:
    rules = [*DEFAULT_RULES, own_rule("terse", where="rule_words < 3")]
    assert by_row(apply_rules(samples([("Say.", "two words")]), rules), "drop_rule") == [("terse",)]


@pytest.mark.parametrize(
    "where", ["nothing > 3", "response", "response ilikee 'x'", "response = ", "copy ++", "copy likee"]
)
def test_expressions_that_mean_nothing_are_refused(where: str) -> None:
    with pytest.raises(UsageError, match="rule broken: where: "):
        apply_rules(samples([("a", "b")]), [own_rule("broken", where=where)])


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="rule empty: given 2 times"):
        apply_rules(samples([("a", "b")]), [*DEFAULT_RULES, own_rule("empty", where="true")])


@pytest.mark.parametrize(
    ("action", "drop", "answer"),
    [("report", None, "Mail a@b.org"), ("drop", "personal_data", "Mail a@b.org"), ("mask", None, "Mail [EMAIL]")],
)
def test_personal_data(action: Any, drop: str | None, answer: str) -> None:
    private = PRIVATE_RULES[0]
    rule = Rule(private.name, private.cases, private.reason, action=action)
    marked = apply_rules(samples([("Who is c@d.org?", "Mail a@b.org"), ("Who?", "Jo")]), [rule])
    assert by_row(marked, "drop_rule", "rule_email", "response") == [(drop, 2.0, answer), (None, 0.0, "Jo")]
    prompts = [messages[0]["content"] for (messages,) in by_row(marked, "prompt")]
    assert prompts == ["Who is [EMAIL]?" if action == "mask" else "Who is c@d.org?", "Who?"]
    if action == "mask":
        assert by_row(marked, "flag_masked") == [("email,phone,card",), (None,)]
    if action == "drop":
        assert "a@b.org" not in by_row(marked, "drop_evidence")[0][0]


def test_languages_when_a_list_is_given() -> None:
    german = "Das ist ein ganz normaler deutscher Text, der erklärt, wie man Kuchen backt und was man dafür braucht."
    english = "This is a plain English text that tells how to bake a cake, and what you will need to buy for it today."
    rule = Rule("wrong_language", any_of(Limit("other_language", most=0.8)), languages=("en",))
    marked = apply_rules(samples([("Write.", text) for text in (german, english, "Kuchen")]), [rule])
    assert by_row(marked, "drop_rule") == [("wrong_language",), (None,), (None,)]
    assert json.loads(by_row(marked, "drop_evidence")[0][0])["language"] == "de"


def test_a_row_with_tools_may_decline() -> None:
    answer = "I'm sorry, but I can't assist with that."
    rows = [
        {"prompt": "Book a flight.", "response": answer, "tools": tools} for tools in (None, "[]", '[{"name": "sum"}]')
    ]
    found = by_row(apply_rules(table("sample", rows)), "drop_rule", "rule_refusal")
    assert found == [("refusal", 1.0), ("refusal", 1.0), (None, None)]


def test_explain_tells_every_limit() -> None:
    row = dropped(apply_rules(samples([("Play a song.", "I'm sorry, but I can't help with that.")]))).to_pylist()[0]
    readings = explain(row)
    assert {reading.rule for reading in readings} == {rule.name for rule in DEFAULT_RULES}
    assert [(r.rule, r.measure, r.value, r.limit) for r in readings if r.failed] == [("refusal", "refusal", 1.0, 0)]
    assert not any(reading.exceeded for reading in explain({}))


def test_describe_is_plain_json() -> None:
    def odd(rows: pa.Table) -> Any:
        return rows

    described = describe([*DEFAULT_RULES, own_rule("odd", function=odd)])
    assert json.loads(json.dumps(described)) == described
    assert described["empty"] == {
        "action": "drop",
        "cases": [[{"measure": "chars", "least": 1}]],
        "reason": "no visible character",
    }
    assert described["odd"]["function"].endswith("odd")
    figures = {limit["measure"]: limit.get("most") for limit in described["repetitive"]["cases"][0]}
    assert [figures[f"top_{n}gram"] for n in (2, 3, 4)] == [0.20, 0.18, 0.16]
    assert [figures[f"dup_{n}gram"] for n in range(5, 11)] == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]


def test_a_number_without_a_limit_is_no_condition() -> None:
    with pytest.raises(UsageError, match="is a number; give least or most"):
        apply_rules(samples([("q", "a")]), [own_rule("long", where="length(response)")])
