"""JSON: one value, bare or in one fence, of the schema, and nothing that parsers read in two ways."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.score.json_score import parsed
from gristmill.score.named import score
from gristmill.score.score import Item, Verdict

SCHEMA = {"type": "object", "required": ["name"], "properties": {"age": {"type": "integer", "minimum": 0}}}


def judged(response: str, spec: str = "json", **parameters: Any) -> Verdict:
    (verdict,) = score(spec, **parameters)([Item(response)])
    return verdict


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        " [1, 2.5, null]\n",
        '"text"',
        "null",
        '```json\n{"a": 1}\n```',
        "```\n[]\n```",
        "```JSON\n[]```",
        "<think>{</think>{}",
        '{"text": "a ``` b"}',
        "-0.5e-3",
    ],
)
def test_one_json_value_is_correct(text: str) -> None:
    assert judged(text)[:2] == (1, "correct")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "nothing"),
        ("<think>{}</think>", "nothing"),
        ('{"a": 1} That is it.', "Extra data"),
        ('Sure: {"a": 1}', "Expecting value"),
        ('Here:\n```json\n{"a": 1}\n```', "before a fence"),
        ("```json\n{}\n```\nDone.", "fence"),
        ("```json\n{}\n```\n```json\n{}\n```", "fence"),
        ("```json\n{}", "fence"),
        ("{}{}", "Extra data"),
        ('{"a": 1}\n{"a": 2}', "Extra data"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "'b' twice"),
        ("[NaN]", "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ("-Infinity", "Infinity"),
        ("1e999", "double"),
        ("1" * 5_000, "5,000 digits"),
        ("{'a': 1}", "double quotes"),
        ('{"a": 1,}', "property name"),
        ("// no\n{}", "Expecting value"),
        ("[" * 65 + "]" * 65, "deeper than 64"),
        ("[" * 100_000, "deeper than 64"),
        ('{"a":' * 100_000, "deeper than 64"),
        ('"' + "a" * 1_000_000 + '"', "1,000,002 characters"),
    ],
)
def test_anything_else_is_wrong_and_why_says_what(text: str, told: str) -> None:
    verdict = judged(text)
    assert verdict[:2] == (0, "wrong") and told in verdict.why and len(verdict.why) < 200


def test_limits_are_parameters() -> None:
    assert judged("[[]]", max_depth=2).value == 1 and judged("[[]]", max_depth=1).value == 0
    assert judged("1", max_depth=0).value == 1 and judged("[]", "json,max_chars=1").value == 0


def test_a_schema_is_met_or_the_place_named(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    spec = f"json:{tmp_path}/schema.json"
    assert judged('{"name": "A", "age": 3}', spec).value == 1
    assert judged("[]", spec).why == "[] is not of type 'object' at $"
    assert judged('{"name": "A", "age": -3}', spec).why.endswith("at $.age")
    made = score(spec)
    assert made.key(Item("{}")) != score("json").key(Item("{}"))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA | {"required": []}))
    assert score(spec).key(Item("{}")) != made.key(Item("{}")), "the schema's content is part of the key"


def test_a_schema_is_never_fetched(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"$ref": "https://example.com/schema.json"}')
    verdict = judged("{}", f"json:{tmp_path}/schema.json")
    assert (verdict.value, verdict.verdict) == (None, "unparseable_gold")


@pytest.mark.parametrize("text", [None, "{", '{"type": "objekt"}'])
def test_what_is_no_schema_is_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "schema.json").write_text(text)
    with pytest.raises(UsageError, match=r"schema\.json: .*give a") as caught:
        score(f"json:{tmp_path}/schema.json")
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES, st.booleans())
def test_every_value_comes_back(value: Any, fenced: bool) -> None:
    text = json.dumps(value)
    assert parsed(f"```json\n{text}\n```" if fenced else text) == value
