from pathlib import Path

import pytest

from gristmill.errors import UsageError
from gristmill.filter.rules import DEFAULT_RULES, apply_rules, describe
from gristmill.filter.rules_file import read_rules
from tests.tables import by_row, samples

DEFAULTS = [rule.name for rule in DEFAULT_RULES]


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_rules_follow_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, """rules: [{name: no_urls, where: "response ilike '%http%'", reason: links}]""")
    rules = read_rules(path)
    assert [rule.name for rule in rules] == [*DEFAULTS, "no_urls"]
    table = samples([("Where is it?", "See HTTP://example.org"), ("Where is it?", "In the garden.")])
    assert by_row(apply_rules(table, rules), "drop_rule", "rule_no_urls") == [("no_urls", 1.0), (None, 0.0)]


def test_a_file_changes_limits_switches_off_and_turns_on(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        rules:
          - {name: too_short, limits: {words: 3}}
          - {name: echo, enabled: false}
          - {name: secrets, action: drop}
        """,
    )
    rules = describe(read_rules(path))
    assert list(rules) == [*(name for name in DEFAULTS if name != "echo"), "secrets"]
    assert rules["too_short"]["cases"] == [[{"measure": "chars", "least": 1}], [{"measure": "words", "least": 3}]]
    assert rules["secrets"]["action"] == "drop"


def test_without_defaults_only_the_file_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "defaults: false\nrules: [{name: too_long, limits: {chars: 10}}]")
    assert [rule.name for rule in read_rules(path)] == ["too_long"]


def test_a_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouts_rules.py").write_text(
        "import pyarrow.compute as pc\n\ndef shouting(rows):\n    return pc.utf8_is_upper(rows['response'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rules = read_rules(written(tmp_path, "rules: [{name: shouting, function: 'shouts_rules:shouting'}]"))
    table = samples([("Say something.", "NO WAY"), ("Say something.", "Certainly.")])
    assert by_row(apply_rules(table, rules), "drop_rule") == [("shouting",), (None,)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [{name: a, wher: x}]", ["rules.0 (a).wher: unknown key", "allowed are name, where"]),
        ("rules: [{where: x}]", ["rules.0.name: missing"]),
        ("rules: [{name: 'No Urls', where: x}]", ["rules.0 (No Urls).name", "'No Urls'", "pattern"]),
        ("rules: [{name: a, where: x, least: low}]", ["rules.0 (a).least", "'low'", "number"]),
        ("rules: [{name: too_shrt, limits: {chars: 3}}]", ["rule too_shrt", "where and function", "too_short"]),
        ("rules: [{name: too_short, limits: {letters: 3}}]", ["rule too_short", "letters", "chars, words"]),
        ("rules: [{name: too_short, where: x}]", ["rule too_short", "where", "limits"]),
        ("rules: [{name: echo, action: mask}]", ["rule echo", "action"]),
        ("rules: [{name: secrets, action: hide}]", ["rules.0 (secrets).action", "'hide'", "report"]),
        ("rules: [{name: wrong_language, languages: [english]}]", ["languages", "'english'", "en"]),
        ("rules: [{name: a, where: x, function: y}]", ["rule a", "one of where and function"]),
        ("rules: [{name: words, where: x}]", ["rule words", "measure already"]),
        ("rules: [{name: a, function: 'no_such_module:f'}]", ["rule a", "no_such_module", "module:function"]),
        ("rules: [{name: a, where: x}, {name: a, where: y}]", ["rule a", "2 times"]),
        ("ruls: []", ["missing"]),
        ("rule: []\nrules: []", ["rule", "unknown key", "rules, defaults"]),
        ("rules: 3", ["rules", "3", "list"]),
        ("[1, 2]", ["holds a list", "init rules"]),
        ("rules: [", ["not YAML"]),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, text: str, told: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        read_rules(path)
    message = str(error.value)
    assert "\n" not in message
    for part in [str(path), *told]:
        assert part in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: cannot be read"):
        read_rules(tmp_path / "nowhere.yaml")
