"""`gristmill why` and `gristmill show`: a row's history, and safe text on a terminal."""

import json
import re

import pytest
import typer
from hypothesis import given as given_
from hypothesis import strategies as st
from typer.testing import CliRunner

from gristmill.cli.show import samples, show
from gristmill.cli.why import why
from gristmill.errors import UsageError
from gristmill.explain import history, readings
from gristmill.wording import cut, in_context, visible, word_diff
from tests.milled import QUESTION, STORY, given_id, milled, rows, sample, whole

ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e[bold]markup[/bold]\r"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("out"))


def call(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"NO_COLOR": "1"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


VERDICTS = {
    0: "kept",
    2: "dropped by near_duplicate: Jaccard 0.91 >= 0.80",
    3: "dropped by empty: words 0 < 1",
    4: "dropped by repetitive: top_2gram 1 > 0.2",
    5: "dropped by below_quality: quality 1 < 2",
    6: "dropped by unjudged_quality: score quality is null",
    7: "dropped by contaminated: 8-gram share 1 > 0.5",
    8: "dropped by collapsed: the answer opens as that of another row",
    9: "dropped by no_urls: value 1 > 0",
    10: "kept",
}


@pytest.mark.parametrize("number", VERDICTS)
def test_the_verdict_comes_first(directory, number):
    key = given_id(rows(), number)
    assert call(why, key, "--run", directory).splitlines()[0] == VERDICTS[number]
    assert history(directory, key)["source_row"] == number


def test_a_near_duplicate_shows_the_kept_text_and_the_difference(directory):
    text = call(why, given_id(rows(), 2), "--run", directory)
    assert f"lost to {given_id(rows(), 0)}" in text
    assert "ground [-rye.-] {+rye and oats.+}" in text.replace("\n  ", " ")
    known = history(directory, given_id(rows(), 2))
    assert known["duplicate_of"]["answers"] == {"response": f"{STORY}. "}
    assert known["evidence"]["jaccard"] == 0.91


def test_a_kept_row_tells_what_it_beat_and_its_nearest_pairs(directory):
    known = history(directory, given_id(rows(), 0))
    assert known["kept"]
    assert [each["source_row"] for each in known["copies"]] == [1]
    assert sorted(each["source_row"] for each in known["beat"]) == [1, 2, 8]
    assert [(pair["jaccard"], pair["source_row"]) for pair in known["pairs"]] == [(0.91, 2)]
    twin = history(directory, given_id(rows(), 11))
    assert [(pair["same_but_numbers"], pair["source_row"]) for pair in twin["pairs"]] == [(True, 10)]
    assert "0.750" in call(why, twin["id"], "--run", directory)


def test_a_copy_is_chosen_by_number(directory):
    id = given_id(rows(), 0)
    assert history(directory, f"{id}#1")["rule"] == "exact_duplicate"
    assert "the same words" in call(why, f"{id}#1", "--run", directory)
    with pytest.raises(UsageError, match="has no copy 2; its copies are 0, 1"):
        history(directory, f"{id}#2")
    with pytest.raises(UsageError, match="the copy 'x' is not a number"):
        history(directory, f"{id}#x")


def test_contamination_is_shown_in_its_context(directory):
    known = history(directory, given_id(rows(), 7))["contamination"]
    assert (known["evaluation"], known["item"]) == ("eval/test.jsonl", 3)
    assert known["context"][1] == QUESTION.upper()
    assert f"Two and five pears. >>{QUESTION.upper()}<<" in call(why, given_id(rows(), 7), "--run", directory)


def test_every_measure_stands_against_its_limit(directory):
    known = history(directory, given_id(rows(), 4))
    found = {(each["rule"], each["measure"]): (each["limit"], each["ok"], each["fails"]) for each in known["readings"]}
    assert found["below_quality", "score_quality"] == (2.0, True, False)
    assert found["empty", "rule_words"] == (1, True, False)
    assert found["repetitive", "rule_words"] == (19, False, False)


def test_limits_are_read_in_either_form_and_a_case_needs_all_of_its_limits():
    case = {"name": "r", "cases": [[{"measure": "a", "most": 1}, {"measure": "b", "most": 1}]]}
    rules = {"rules": [case]}
    assert [each["fails"] for each in readings({"rule_a": 2.0, "rule_b": 2.0}, rules)] == [True, True]
    assert [each["fails"] for each in readings({"rule_a": 2.0, "rule_b": 0.0}, rules)] == [False, False]
    assert [each["ok"] for each in readings({"rule_a": None, "rule_c": 1.0}, rules)] == [None, None, None]
    both = {"rules": {"r": {"measures": {"rule_a": {"min": 1, "max": 3}}}}}
    assert [(each["side"], each["ok"]) for each in readings({"rule_a": 4.0}, both)] == [
        ("least", True),
        ("most", False),
    ]


@pytest.mark.parametrize("beginning", ["g1:", ""])
def test_a_beginning_must_be_of_one_row(directory, beginning):
    with pytest.raises(UsageError, match=r"11 rows begin so: g1:\w{32}, .*; give more of the id"):
        history(directory, f"{beginning or 'g1:'}")
    id = given_id(rows(), 5)
    assert history(directory, beginning + id[3:12])["id"] == id


def test_rows_by_file_and_number(directory):
    assert history(directory, "test.jsonl:3")["rule"] == "empty"
    assert history(directory, "b/other.jsonl:2")["rule"] == history(directory, "other.jsonl:2")["rule"]
    assert history(directory, "other.jsonl:1")["copy"] == 1
    for row in ("ther.jsonl:2", "test.jsonl:99", "g1:ffff", "nothing"):
        with pytest.raises(UsageError):
            history(directory, row)


def test_a_file_name_that_two_files_share_lists_them(tmp_path):
    given = [sample(name, "Yes.", source_file=f"{name}/x.jsonl", source_row=4) for name in "ab"]
    with pytest.raises(UsageError, match=r"2 files end so: a/x\.jsonl:4, b/x\.jsonl:4; give more of the path"):
        history(milled(tmp_path, given), "x.jsonl:4")


def test_a_bad_row_is_explained(directory):
    assert history(directory, "test.jsonl:12")["bad"]["line"] == 12
    assert call(why, "test.jsonl:12", "--run", directory).startswith("not read: not JSON")


def test_a_directory_without_rows_is_named_with_the_fix(tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path}: no rows\.parquet .* --run DIR"):
        call(why, "g1:00", "--run", tmp_path)


def test_json_is_one_object(directory):
    for number in VERDICTS:
        known = json.loads(call(why, given_id(rows(), number), "--run", directory, "--json"))
        assert known["verdict"] == VERDICTS[number]


def test_long_texts_are_cut_unless_asked_for(tmp_path):
    id = given_id([sample("Long.", "oats " * 1000)], 0)
    out = milled(tmp_path, [sample("Long.", "oats " * 1000)])
    assert "3,800 more characters (--full)" in re.sub(r"\s+", " ", call(why, id, "--run", out))
    assert call(why, id, "--run", out, "--full").count("oats") == 1000


def test_show_gives_each_rule_and_the_kept(directory):
    found = json.loads(call(show, directory, "-n", 1, "--json"))
    assert next(iter(found)) == "kept"
    assert set(found) == {"kept", *(row["drop_rule"] for row in rows() if row["drop_rule"])}
    assert all(len(group) == 1 for group in found.values())
    assert found["kept"][0]["id"] == min(given_id(rows(), n) for n in (0, 10, 11))
    assert call(show, directory) == call(show, directory / "rows.parquet")


def test_show_narrows(directory):
    assert list(json.loads(call(show, directory, "--kept", "--json"))) == ["kept"]
    assert "kept" not in json.loads(call(show, directory, "--dropped", "--json"))
    assert "dropped by empty: words 0 < 1" in call(show, directory, "--rule", "empty")
    with pytest.raises(UsageError, match=r"--rule missing: dropped no row .*; rules that did: below_quality,"):
        call(show, directory, "--rule", "missing")
    with pytest.raises(UsageError, match="no such file or directory"):
        call(show, directory / "nothing.parquet")


def test_show_other_kinds(tmp_path):
    pair = {"prompt": "Which?", "chosen": "This one.", "rejected": "That one.", "drop_rule": None}
    assert samples(milled(tmp_path / "a", [pair], "preference"), 3)[None][0]["chosen"] == "This one."
    text = call(show, milled(tmp_path / "b", [{"prompt": "Which is it?"}], "prompt"))
    assert "Which is it?" in text


@pytest.mark.parametrize("command", ["why", "show"])
def test_a_row_cannot_steer_the_terminal(tmp_path, command):
    facts = {"reason": ESCAPES}
    row = sample(ESCAPES, ESCAPES, f"rule{ESCAPES}", why=(1.0, 0.0, facts), source_file=f"{ESCAPES}.jsonl")
    out = milled(tmp_path, [row | {"flag_private": ESCAPES}, sample("Other.", "Fine.")])
    text = call(why, given_id([row], 0), "--run", out) if command == "why" else call(show, out)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "\\x1b[31mred" in text
    assert "[bold]markup[/bold]" in text


@given_(st.text())
def test_visible_text_has_no_controls_and_leaves_the_rest(text):
    shown = visible(text, one_line=True)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e]", shown)
    assert text.isprintable() is False or shown == text


@given_(st.text(), st.text())
def test_a_diff_holds_both_texts(old, new):
    pieces = word_diff(old, new)
    assert "".join(p for sign, p in pieces if sign != "+").split() == old.split()
    assert "".join(p for sign, p in pieces if sign != "-").split() == new.split()


def test_spans_are_found_as_they_were_written():
    assert in_context("He said:  How Many,\npears? Yes", "how many pears") == (
        "He said:  ",
        "How Many,\npears",
        "? Yes",
    )
    assert in_context("no such words", "how many pears") is None
    assert in_context("anything", "") is None
    assert cut("abcdef", 4) == ("abcd", 2)
