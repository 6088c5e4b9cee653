"""Templates: the prompts they make, what is told before, and what is refused."""

import itertools
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import BadInput, Refused, UsageError
from gristmill.generate.templates import Template, count, prompt_source, prompts
from gristmill.records import SCHEMAS, row_id

TEACHER = """
name: teacher
system: "You are a {{ persona }}."
prompt: "Help a {{ audience }} with {{ topic }}: {{ question }} Answer in a {{ style }} style."
reference: "{{ topic }}!"
slots:
  persona: [patient teacher, senior engineer, research scientist]
  audience: {values: [beginner, executive], weights: [3, 1]}
  style: [terse, friendly]
  question: {from: questions.jsonl, column: question}
  topic: {from: questions.jsonl, column: topic, with: question}
constraints: ["audience != 'executive' or style == 'terse'"]
seed: 7
tags: [explain]
"""


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {number}?", "topic": f"number {number}"} for number in range(4)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return written(tmp_path, TEACHER)


def written(folder: Path, text: str | dict[str, Any]) -> Path:
    path = folder / "template.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    return path


def made(**fields: Any) -> Template:
    return Template.model_validate({"name": "t", "prompt": "{{ a }}", **fields})


def texts(template: Template) -> list[str]:
    return [row["prompt"][-1]["content"] for row in prompts(template)]


# what is made


def test_rows_are_prompts_with_their_slots(teacher: Path) -> None:
    rows = list(prompts(Template.load(teacher)))
    carried = ["slot_persona", "slot_audience", "slot_style", "slot_question", "slot_topic"]
    assert len(rows) == 3 * 3 * 4  # the executive only in the terse style
    for number, row in enumerate(rows):
        assert set(row) == {*SCHEMAS["prompt"].names, *carried}
        system, user = row["prompt"]
        assert system == {"role": "system", "content": f"You are a {row['slot_persona']}.", "extra": None}
        assert user["content"] == (
            f"Help a {row['slot_audience']} with {row['slot_topic']}: {row['slot_question']} "
            f"Answer in a {row['slot_style']} style."
        )
        assert row["slot_topic"].split()[-1] == row["slot_question"][-2]
        assert (row["reference"], row["tags"]) == (f"{row['slot_topic']}!", ["explain"])
        assert (row["id"], row["copy"]) == (row_id("prompt", row), 0)
        assert (row["source_file"], row["source_row"]) == (str(teacher), number)
        assert json.loads(row["meta"])["template"] == "teacher"
    assert len({row["id"] for row in rows}) == len(rows)
    fields = [pa.field(name, pa.large_string()) for name in carried]
    pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMAS["prompt"], *fields]))


def test_a_column_comes_before_a_method_of_its_name() -> None:
    rows = [{"items": "pears", "copy": 2}, {"items": "plums", "copy": 3}]
    template = made(
        prompt="{{ a.copy }} {{ a.items }}{% for k, v in b.items() %} {{ k }}{% endfor %}",
        slots={"a": rows, "b": [{"x": 1}]},
    )
    assert sorted(texts(template)) == ["2 pears x", "3 plums x"]


def test_the_same_template_makes_the_same_rows_and_another_seed_others(teacher: Path) -> None:
    rows = list(prompts(Template.load(teacher)))
    assert list(prompts(Template.load(teacher))) == rows
    teacher.write_text(TEACHER.replace("seed: 7", "seed: 8"))
    others = list(prompts(Template.load(teacher)))
    assert {row["id"] for row in others} == {row["id"] for row in rows}
    assert [row["id"] for row in others] != [row["id"] for row in rows]


def test_fewer_samples_are_the_beginning_of_more(teacher: Path) -> None:
    template = Template.load(teacher)
    whole = list(prompts(template))
    for samples in (1, 7, 36):
        assert list(prompts(template.with_samples(samples))) == whole[:samples]


def test_the_order_does_not_depend_on_the_wording() -> None:
    slots = {"a": list("abcdef"), "b": {"range": [1, 9]}}
    one = made(slots=slots, prompt="{{ a }}{{ b }}")
    other = made(slots=slots, prompt="{{ a }} and {{ b }}!", name="other")
    assert [f"{text[0]} and {text[1]}!" for text in texts(one)] == texts(other)


def test_the_hash_of_the_content_tells_templates_and_tables_apart(teacher: Path) -> None:
    def hashed() -> str:
        found: str = json.loads(next(prompts(Template.load(teacher)))["meta"])["template_hash"]
        return found

    first = hashed()
    teacher.write_text(TEACHER + "samples: 3\n")
    assert hashed() == first  # more of the same
    teacher.write_text(TEACHER.replace("Help a", "Assist a"))
    second = hashed()
    teacher.write_text(TEACHER)
    (teacher.parent / "questions.jsonl").write_text('{"question": "Why?", "topic": "reasons"}\n')
    assert len({first, second, hashed()}) == 3


def test_several_turns() -> None:
    turns = [
        {"role": "user", "content": "{{ a }}?"},
        {"role": "assistant", "content": "What have you tried?"},
        {"role": "user", "content": "Nothing."},
    ]
    template = Template.model_validate(
        {"name": "t", "system": "Be {{ a }}.", "messages": turns, "slots": {"a": {"values": ["x"]}}}
    )
    (row,) = prompts(template)
    assert [(turn["role"], turn["content"]) for turn in row["prompt"]] == [
        ("system", "Be x."),
        ("user", "x?"),
        ("assistant", "What have you tried?"),
        ("user", "Nothing."),
    ]


def test_a_system_message_of_nothing_is_none() -> None:
    rows = list(prompts(made(system="{{ b }}", slots={"a": ["x"], "b": ["", "Be brief."]})))
    assert sorted(len(row["prompt"]) for row in rows) == [1, 2]


def test_a_template_without_slots_is_one_prompt() -> None:
    assert texts(made(prompt="Say {} and {% raw %}{{ this }}{% endraw %}.")) == ["Say {} and {{ this }}."]


def test_few_shot_prompts_loop_over_different_examples(tmp_path: Path) -> None:
    rows = [{"task": f"task {number}", "answer": f"answer {number}"} for number in range(12)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt = "{% for each in seeds %}\n{{ loop.index }}. {{ each.task }}: {{ each.answer }}\n{% endfor %}\n4."
    slots = {"seeds": {"from": "seeds.jsonl", "sample": 3}}
    path = written(tmp_path, {"name": "t", "prompt": prompt, "slots": slots, "samples": 50})
    for row in prompts(Template.load(path)):
        *shown, last = row["prompt"][0]["content"].splitlines()
        numbers = [line.rsplit(" ", 1)[1] for line in shown]
        assert last == "4."
        assert shown == [f"{place}. task {number}: answer {number}" for place, number in enumerate(numbers, 1)]
        assert len(set(numbers)) == 3
        assert [each["task"] for each in json.loads(row["slot_seeds"])] == [f"task {number}" for number in numbers]


def test_slots_made_of_slots() -> None:
    slots = {
        "title": {"template": "{{ who | title }} and {{ b }}"},
        "who": {"template": "the {{ a }}"},
        "a": ["cat", "dog"],
        "b": {"range": [1, 2]},
    }
    template = made(prompt="{{ title }}", slots=slots, constraints=["title != 'The Dog and 2'"])
    assert sorted(texts(template)) == ["The Cat and 1", "The Cat and 2", "The Dog and 1"]


def test_values_that_are_not_text_are_shown_as_jinja_shows_them_and_kept_as_json() -> None:
    values = [10**30, 0.1, True, ["x", 1], {"é": [10**30]}]
    rows = list(prompts(made(slots={"a": values})))
    assert {row["prompt"][0]["content"] for row in rows} == set(map(str, values))
    assert sorted(map(repr, (json.loads(row["slot_a"]) for row in rows))) == sorted(map(repr, values))


def test_values_are_not_read_as_skeletons() -> None:
    assert texts(made(slots={"a": ["{{ 7 * 7 }}{% if x %}"]})) == ["{{ 7 * 7 }}{% if x %}"]


def test_text_of_every_kind_comes_through(tmp_path: Path) -> None:
    values = ["👩‍👩‍👧‍👦", "שלום", "a\u200dz\ufeff", "e\u0301", "\u2028", "𝔘", "line\nbreak\ttab"]
    path = written(tmp_path, {"name": "t", "prompt": "«{{ a }}»", "slots": {"a": values}})
    assert sorted(texts(Template.load(path))) == sorted(f"«{value}»" for value in values)


def test_words_that_old_yaml_reads_as_something_else_stay_words(tmp_path: Path) -> None:
    text = "name: t\nprompt: '{{ a }}'\nslots: {a: [yes, no, off, 2024-01-31, 12:30, 007, 1_000, .inf, on, n]}"
    expected = ["yes", "no", "off", "2024-01-31", "12:30", "007", "1_000", ".inf", "on", "n"]
    assert sorted(texts(Template.load(written(tmp_path, text)))) == sorted(expected)


def test_equal_prompts_are_one() -> None:
    template = made(prompt="{{ a | lower }}", slots={"a": ["x", "X", "y"]})
    rows = list(prompts(template))
    assert sorted(row["slot_a"].lower() for row in rows) == ["x", "y"]
    assert count(template).distinct == 2


# constraints


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=11), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_constraints_hold_on_every_row_and_take_no_other(forbidden: set[tuple[int, int]], seed: int) -> None:
    template = made(
        prompt="{{ a }} {{ b }} {{ c }}",
        slots={"a": {"range": [0, 2]}, "b": {"values": [0, 1, 2, 3], "weights": [4, 3, 2, 1]}, "c": ["x", "y"]},
        constraints=[f"not (a == {a} and b == {b})" for a, b in forbidden],
        seed=seed,
    )
    expected = {f"{a} {b} {c}" for a, b, c in itertools.product(range(3), range(4), "xy") if (a, b) not in forbidden}
    found = texts(template)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert count(template).allowed == len(expected)


def test_a_constraint_over_few_slots_of_a_huge_product_is_counted_exactly() -> None:
    ranges = {name: {"range": [1, 1_000]} for name in "defg"}
    template = made(
        prompt="{{ a }} {{ b }} {{ d }} {{ e }} {{ f }} {{ g }}",
        slots={"a": ["x", "y"], "b": ["x", "y"], **ranges},
        constraints=["a != b"],
        samples=100,
    )
    told = count(template)
    assert (told.possible, told.allowed, told.exact, told.distinct) == (4 * 10**12, 2 * 10**12, True, 100)
    assert all(row["slot_a"] != row["slot_b"] for row in prompts(template))


def test_a_constraint_over_too_many_combinations_is_checked_as_they_come() -> None:
    template = made(
        prompt="{{ a }} {{ b }}",
        slots={"a": {"range": [1, 1_000]}, "b": {"range": [1, 1_000]}},
        constraints=["a < b"],
        samples=500,
    )
    told = count(template)
    assert not told.exact
    assert told.allowed == pytest.approx(1_000 * 999 / 2, rel=0.05)
    assert "about" in str(told)
    rows = list(prompts(template))
    assert len(rows) == 500
    assert all(int(row["slot_a"]) < int(row["slot_b"]) for row in rows)
    assert list(prompts(template.with_samples(20))) == rows[:20]


def test_weights_of_what_is_left_by_constraints() -> None:
    template = made(
        prompt="{{ a }} {{ b }}",
        slots={"a": {"values": ["x", "y", "z"], "weights": [1, 1, 98]}, "b": {"range": [1, 90_000]}},
        constraints=["a != 'z'"],
        samples=1_000,
    )
    found = [text[0] for text in texts(template)]
    assert 400 < found.count("x") < 600
    assert "z" not in found


# what is told before


def test_count_tells_what_is_possible_allowed_and_different(teacher: Path) -> None:
    told = count(Template.load(teacher).with_samples(20))
    assert (told.possible, told.allowed, told.exact, told.asked, told.distinct) == (48, 36, True, 20, 20)
    assert str(told) == "teacher: 48 possible, 36 meet the constraints; 20 different prompts"


def test_a_huge_product_is_counted_and_drawn_in_little_memory() -> None:
    slots = {name: {"range": [1, 1_000]} for name in "abcd"}
    template = made(prompt="{{ a }} {{ b }} {{ c }} {{ d }}", slots=slots)
    tracemalloc.start()
    told = count(template)
    assert len(list(itertools.islice(prompts(template), 1_000))) == 1_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (told.possible, told.distinct) == (10**12, None)
    assert str(told) == "t: 1,000,000,000,000 possible; at most 1,000,000,000,000 prompts"
    assert peak < 8 << 20


def test_more_samples_than_combinations_are_refused_before_any() -> None:
    template = made(slots={"a": ["x", "y"]}, samples=3)
    for asked in (count, prompts):
        with pytest.raises(UsageError, match=r"samples: 3: only 2 combinations.*at most 2"):
            asked(template)


def test_more_samples_than_different_prompts_are_told_before_and_at_the_end() -> None:
    template = made(prompt="{{ a | lower }}", slots={"a": ["x", "X", "y"]}, samples=3)
    with pytest.raises(UsageError, match=r"samples: 3: only 2 prompts differ: 1 combinations repeat"):
        count(template)
    rows = prompts(template)
    assert [next(rows)["prompt"][0]["content"], next(rows)["prompt"][0]["content"]] in (["x", "y"], ["y", "x"])
    with pytest.raises(Refused, match=r"3 prompts wanted, 2 made: 1 combinations repeat a prompt"):
        next(rows)


def test_a_value_that_a_skeleton_fails_for_costs_the_others_nothing() -> None:
    values = [{"n": number} for number in range(1, 400)] + [{"m": 0}]
    template = made(prompt="{{ a.n }}", slots={"a": values}, seed=1)
    found = []
    with pytest.raises(Refused, match=r"399 made: 1 fail \(t: prompt: .*no attribute 'n'.*'m': 0"):
        for row in prompts(template):
            found.append(row["prompt"][0]["content"])  # noqa: PERF401 (what came before the end)
    assert sorted(map(int, found)) == list(range(1, 400))


def test_failures_do_not_matter_where_there_are_enough_others() -> None:
    values = [{"n": number} for number in range(1, 400)] + [{"m": 0}]
    assert len(texts(made(prompt="{{ a.n }}", slots={"a": values}, seed=1, samples=399))) == 399


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.generate.templates.MISSES", 500)
    slots = {"a": {"range": [1, 1_000]}, "b": {"range": [1, 1_000]}}
    few = made(prompt="{{ a % 2 }}{{ b % 2 }}", slots=slots)
    found = prompts(few)
    assert len({next(found)["id"] for _ in range(4)}) == 4
    with pytest.raises(Refused, match=r"all prompts wanted, 4 made: .*the last 500 made no new prompt"):
        next(found)
    with pytest.raises(UsageError, match=r"constraints: none of 500 combinations meets a \* b == 0; loosen one"):
        prompts(made(prompt="{{ a }}{{ b }}", slots=slots, constraints=["a * b == 0"]))


# what is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prompt: x", ["name", "missing"]),
        ("name: t", ["prompt", "messages"]),
        ("name: t\nprompt: x\nmessages: [{role: user, content: x}]", ["one of prompt", "messages"]),
        ("name: a b\nprompt: x", ["name", "'a b'"]),
        ("name: t\nprompt: x\nslot: {}", ["slot", "unknown key", "slots, constraints"]),
        ("name: t\nprompt: 3", ["prompt", "3", "string"]),
        ("name: t\nprompt: x\nsamples: 0", ["samples", "0", "greater than or equal to 1"]),
        ("name: t\nprompt: x\nsamples: 1.5", ["samples", "1.5", "integer"]),
        ("name: t\nprompt: x\nsamples: true", ["samples", "True", "integer"]),
        ("name: t\nprompt: x\nseed: now", ["seed", "'now'", "integer"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: teacher}", ["slots.a", "'teacher'", "a list of values"]),
        (
            "name: t\nprompt: '{{ a }}'\nslots: {a: {value: [1]}}",
            ["slots.a.value", "unknown key", "from, column, with"],
        ),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: {range: [1, x]}}", ["slots.a.range.1", "'x'"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: {values: [x], sample: 0}}", ["slots.a.sample", "0"]),
        ("name: t\nmessages: [{role: judge, content: x}]", ["messages.0.role", "'judge'", "'assistant'"]),
        ("name: t\nmessages: [{role: user, text: x}]", ["messages.0", "content", "missing"]),
        ("name: t\nmessages: []", ["messages", "at least 1"]),
        ("name: t\nmessages: [{role: assistant, content: x}]", ["messages", "user"]),
        ("name: t\nsystem: x\nmessages: [{role: system, content: x}]", ["messages[0]", "system"]),
        ("name: t\nprompt: '{{ a }}'", ["prompt", "'a' is not a slot", "none"]),
        ("name: t\nprompt: '{{ a }} {{ b }}'\nslots: {a: [x]}", ["prompt", "'b' is not a slot", "slots are a"]),
        ("name: t\nprompt: x\nsystem: '{{ b }}'", ["system", "'b' is not a slot"]),
        ("name: t\nprompt: x\nconstraints: [b > 1]", ["constraints[0]", "'b' is not a slot"]),
        ("name: t\nprompt: x\nslots: {a: [x]}", ["slots.a", "used nowhere"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: []}", ["slots.a", "empty"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: {template: '{{ b }}'}, b: {template: '{{ a }}'}}", ["circle"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: [1, 2]}\nconstraints: [a > 1, a < 2]", ["a > 1; a < 2", "no comb"]),
        ("name: t\nprompt: x\nconstraints: ['false']", ["constraints[0]", "false", "names no slot"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: [1]}\nconstraints: ['a >']", ["constraints[0]", "not a Jinja"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: [1, x]}\nconstraints: [a > 1]", ["constraints[0]", "a > 1", "'x'"]),
        ("name: t\nprompt: '{{ a'", ["prompt", "not a Jinja skeleton"]),
        ("name: t\nprompt: |\n  x\n  {% if a %}", ["prompt", "not a Jinja skeleton", "line 2"]),
        ("name: t\nprompt: '{{ a | nosuch }}'\nslots: {a: [1]}", ["prompt", "nosuch"]),
        ("name: t\nprompt: '{{ a | random }}'\nslots: {a: [[1]]}", ["prompt", "random"]),
        ("name: t\nprompt: '{{ a.x }}'\nslots: {a: [y]}", ["prompt", "no attribute 'x'", "a = 'y'"]),
        ("name: t\nprompt: '{{ 1 / a }}'\nslots: {a: [0]}", ["prompt", "division by zero", "a = '0'"]),
        ("name: t\nprompt: '  {{ a }} '\nslots: {a: ['']}", ["the prompt is empty"]),
        ("name: t\nprompt: '{% include a %}'\nslots: {a: [x]}", ["prompt", "no loader"]),
        ('name: t\nprompt: "a\\0b"', ["prompt", "NUL", "at 1"]),
        ('name: t\nprompt: "{{ a }}"\nslots: {a: [x, "y\\ud83d"]}', ["slots.a[1]", "U+D83D", "at 1"]),
        ("name: t\nprompt: '{{ \"\\0\" ~ a }}'\nslots: {a: [x]}", ["the prompt has", "NUL"]),
        ("name: t\nprompt: x\nname: u", ["'name' is given twice", "line"]),
        ("name: t\nprompt: x\nslots: {a: [1], a: [2]}", ["'a' is given twice"]),
        ("name: t\nprompt: x\nslots: &s {a: *s}", ["slots.a", "holds itself"]),
        ("name: t\nprompt: '{{ a }}'\nslots: {a: &s [x, *s]}", ["slots.a[1]", "holds itself"]),
        ("[1, 2]", ["list", "a template"]),
        ("name: [", ["not YAML", "line 1"]),
        ("", ["nothing", "a template"]),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, text: str, told: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        prompts(Template.load(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize(
    "skeleton",
    [
        "{{ ''.__class__ }}",
        "{{ a.__class__.__mro__[1].__subclasses__() }}",
        "{{ a | attr('__class__') }}",
        "{{ ''['__class__'] }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{% for x in [a] %}{{ loop.__class__ }}{% endfor %}",
        "{% for x in [a] %}{{ loop._iterator }}{% endfor %}",
        "{{ b.append(1) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(10 ** 9) %}{% endfor %}{{ a }}",
    ],
)
def test_the_sandbox_holds(skeleton: str) -> None:
    with pytest.raises(UsageError) as caught:
        prompts(made(prompt=skeleton + "{{ a }}{{ b }}", slots={"a": ["x"], "b": [[0]]}))
    assert str(caught.value).startswith("t: prompt: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        prompt_source(tmp_path / "missing.yaml")
    with pytest.raises(BadInput, match="no such file"):
        prompt_source(tmp_path / "missing.jsonl")
    (tmp_path / "latin.yaml").write_bytes(b"name: t\nprompt: caf\xe9")
    with pytest.raises(UsageError, match="not UTF-8 at byte 19"):
        prompt_source(tmp_path / "latin.yaml")


# where prompts come from


def test_a_source_of_a_template(teacher: Path) -> None:
    teacher.write_text(TEACHER + "sampling: {max_tokens: 9}\nschema: {type: object}\n")
    source = prompt_source(teacher, samples=5)
    assert (source.name, source.sampling, source.schema) == ("teacher", {"max_tokens": 9}, {"type": "object"})
    assert source.count().asked == 5
    assert list(source) == list(source) == list(prompts(Template.load(teacher).with_samples(5)))
    with pytest.raises(UsageError, match="samples 0: allowed are whole numbers from 1"):
        prompt_source(teacher, samples=0)


def test_a_source_of_a_table(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "What is 1 + 1?", "answer": "2", "level": 3, "slot_kind": "sum"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
        {"instruction": "Sort.", "input": "b a", "output": "a b", "tags": ["x"]},
        {"prompt": "dropped", "drop_rule": "empty"},
        {"question": "What is 1 + 1?", "answer": "two"},
    ]
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "nonsense\n")
    source = prompt_source(path)
    told = source.count()
    assert (told.possible, told.distinct) == (4, 3)
    found = list(source)
    assert [row["prompt"][-1]["content"] for row in found] == ["What is 1 + 1?", "Hi", "Sort.\nb a", "What is 1 + 1?"]
    assert [row["reference"] for row in found] == ["2", None, None, "two"]
    assert [(row["source_row"], row["copy"]) for row in found] == [(0, 0), (1, 0), (2, 0), (4, 1)]
    assert [row["slot_kind"] for row in found] == ["sum", None, None, None]
    assert (found[2]["tags"], json.loads(found[0]["meta"])) == (["x"], {"level": 3})
    assert all(row["id"] == row_id("prompt", row) for row in found)
    assert all(set(row) == {*SCHEMAS["prompt"].names, "slot_kind"} for row in found)
    with pytest.raises(UsageError, match="samples is for templates"):
        prompt_source(path, samples=3)


def test_a_table_with_too_many_bad_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"prompt": "x"}\n' + '{"prompt": 3}\n' * 6)
    with pytest.raises(BadInput, match=r"6 of 7 rows cannot be read.*table.jsonl:1: prompt is a number"):
        prompt_source(path).count()


def test_the_page_shows_what_its_code_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "templates.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for kind, name in (("yaml", "teacher.yaml"), ("csv", "questions.csv")):
        (block,) = re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)
        Path(name).write_text(block, encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 2
    for code, printed in shown:
        exec(compile(code, "docs/templates.md", "exec"), {})
        assert capsys.readouterr().out == printed
