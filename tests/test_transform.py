"""Transform: each shipped transform, what its results are, what is marked, and what is said about bad input."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer

from gristmill.cli.main import app
from gristmill.cli.main import run as cli
from gristmill.errors import UsageError
from gristmill.generate.direct import direct_answer
from gristmill.generate.op_file import NAMES, Op, op_of
from gristmill.generate.ops import OPS, op_names
from gristmill.records import row_id

ROWS = [
    {"question": "What is 2 + 3?", "answer": "2 and 3 are 5.\n#### 5", "tags": ["sum"], "slot_kind": "easy"},
    {"question": "What is 4 + 5?", "answer": "4 and 5 are 9.\n#### 9", "tags": ["sum"], "slot_kind": "easy"},
    {"question": "What is 4 * 5?", "answer": "4 times 5 is 20.\n#### 20", "tags": ["product"], "slot_kind": "hard"},
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("in.jsonl", ROWS)
    return tmp_path


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def fake(*replies: dict[str, Any]) -> str:
    Path("fake.yaml").write_text(json.dumps({"replies": list(replies)}))
    return "fake:fake.yaml"


def transform(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
    """The rows that `transform in.jsonl` writes, with that exit code."""
    given = [str(each) for each in arguments]
    inputs = [] if given and given[0].endswith((".jsonl", ".parquet")) else ["in.jsonl"]
    with pytest.raises(SystemExit) as ended:
        cli(["transform", *inputs, *given, "-o", "out.parquet", "--run", "run"])
    assert int(ended.value.code or 0) == code
    rows: list[dict[str, Any]] = pq.read_table("out.parquet").to_pylist() if Path("out.parquet").exists() else []
    return rows


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def text_of(row: dict[str, Any]) -> str:
    text: str = row["prompt"][-1]["content"]
    return text


# The templates


@pytest.mark.parametrize("name", [*op_names(), "difficulty"])
def test_every_template_says_where_it_comes_from_and_shows_what_it_needs(name: str) -> None:
    op = Op.load(OPS / f"{name}.yaml")
    assert op.name == name and op.description
    assert re.search(r"arXiv:\d{4}\.\d{5}", op.source)
    assert op.sampling["max_tokens"] > 0
    assert set(op.needs) <= op.names
    values = {each: f"«{each}»" for each in NAMES}
    for context in ("", "«context»"):
        text = "\n".join(turn["content"] or "" for turn in op.messages(values | {"context": context}))
        assert all(values[each] in text for each in op.needs)
        assert not re.search(r"\{\{|\}\}|\bNone\b|\n{3}|\n$|  +\S", text), text


def test_a_template_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    head = "name: shout\nneeds: [response]\nmakes: [response]\nkeeps: [reference]\n"
    Path("shout.yaml").write_text(f"{head}prompt: 'LOUDER ({{{{ style }}}}): {{{{ response }}}}'\n")
    model = fake({"regex": r"^LOUDER \(very\): (\d)", "reply": r"\1!"}, {"default": "?"})
    rows = transform("--template", "shout.yaml", "--style", "very", "-m", model)
    assert [row["response"] for row in rows] == ["2!", "4!", "4!"]
    assert json.loads(rows[0]["meta"])["op"] == "shout"
    transform("--template", "shout.yaml", "-m", model, code=2)
    assert "--style: shout needs one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nneeds: [response]\nmakes: [response]\nprompt: '{{ answer }}'", "'answer' stands for nothing"),
        ("name: a\nneeds: [response]\nmakes: [answer]\nprompt: x", "makes.0"),
        ("name: a\nneeds: [response]\nmakes: [response]\nkeeps: [response]\nprompt: x", "both made and kept"),
        ("name: a\nneeds: [response]\nmakes: [response]\nmoves: harder\nprompt: x", "moves is for"),
        (
            "name: a\nneeds: [response]\nmakes: [response]\nprompt: x\nslots: {}",
            "slots: unknown key; allowed are name, ",
        ),
        ("name: a\nneeds: [response]\nmakes: [response]", "prompt: missing"),
        ("name: a\nneeds: [response]\nmakes: [response]\nprompt: '{{ response'", "not a Jinja skeleton"),
        ("- a", "holds a list"),
    ],
)
def test_a_template_that_makes_no_sense_is_one_line(text: str, said: str) -> None:
    Path("t.yaml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        op_of(None, "t.yaml")
    assert "\n" not in str(error.value) and "t.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("reply", "made"),
    [
        ("  Five. ", {"response": "Five."}),
        ("<response>\nFive.\n</response>", {"response": "Five."}),
        ("Write <response>5</response> there.", {"response": "Write <response>5</response> there."}),
        ("<response> </response>", "empty: the reply is empty"),
        (None, "empty: the reply is empty"),
    ],
)
def test_what_a_reply_makes(reply: str | None, made: object) -> None:
    assert op_of("restyle").made(reply) == made


# What results are


def test_a_result_knows_its_original_and_what_made_it() -> None:
    model = fake({"match": "in this style: terse", "reply": "Five.\n#### 5"})
    rows = transform("--op", "restyle", "--style", "terse", "-m", model)
    assert [row["response"] for row in rows] == ["Five.\n#### 5"] * 3
    for number, (row, given) in enumerate(zip(rows, ROWS, strict=True)):
        prompt = [{"role": "user", "content": given["question"], "extra": None}]
        original = row_id("sample", {"prompt": prompt, "response": given["answer"]})
        assert row["parents"] == [original] and row["prompt"] == prompt and row["tags"] == given["tags"]
        assert (row["source_file"], row["source_row"]) == ("in.jsonl", number)
        assert row["id"] == row_id("sample", row) != original
        assert row["slot_style"] == "terse" and row["slot_kind"] == given["slot_kind"] and row["model"] == "fake:fake"
        meta = json.loads(row["meta"])
        assert meta["op"] == "restyle" and len(meta["template_hash"]) == 32
        assert row["drop_rule"] is None and row["error"] is None and row["tokens_out"] == 3


def test_why_leads_from_a_result_to_its_original(capsys: pytest.CaptureFixture[str]) -> None:
    row = transform("--op", "strip")[2]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli(["why", row["id"], "--run", "run", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["id"] == row["id"] and [each["id"] for each in told["ancestors"]] == row["parents"]
    assert (told["ancestors"][0]["source_file"], told["ancestors"][0]["source_row"]) == ("in.jsonl", 2)
    with pytest.raises(SystemExit):
        cli(["why", "in.jsonl:2", "--run", "run", "--json"])
    assert json.loads(capsys.readouterr().out)["id"] == row["parents"][0]  # the row that stands there


def test_why_leads_from_an_answer_to_a_transformed_question_to_its_original(
    capsys: pytest.CaptureFixture[str],
) -> None:
    question, *_ = transform("--op", "harder", "-m", fake({"default": "harder"}), "--check", "off", "--limit", 1)
    with pytest.raises(SystemExit):
        cli(["generate", "out.parquet", "-m", "fake:fake.yaml", "-o", "answers.parquet", "--run", "run"])
    (answer,) = pq.read_table("answers.parquet").to_pylist()
    assert text_of(answer) == "harder" and question["id"] in answer["parents"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli(["why", answer["id"], "--run", "run", "--json"])
    told = {each["id"]: each for each in json.loads(capsys.readouterr().out)["ancestors"]}
    assert told[question["parents"][0]]["source_file"] == "in.jsonl"


def test_of_several_styles_each_row_gets_one_whatever_the_order() -> None:
    write("many.jsonl", [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(40)])
    write("turned.jsonl", [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(40)][::-1])
    model = fake({"regex": r"in this style: (\w+)", "reply": r"\1"})
    drawn = []
    for name in ("many.jsonl", "turned.jsonl"):
        rows = transform(name, "--op", "restyle", "--style", "terse", "--style", "warm", "-m", model)
        assert all(row["response"] == row["slot_style"] for row in rows)
        drawn.append({text_of(row): row["slot_style"] for row in rows})
    assert drawn[0] == drawn[1] and set(drawn[0].values()) == {"terse", "warm"}


def test_a_rephrased_question_keeps_its_answer_and_the_turns_before_it() -> None:
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Add 2 and 3.")]
    chat = [{"role": role, "content": content} for role, content in turns]
    write("chat.jsonl", [{"prompt": chat, "response": "5", "reference": "5"}])
    model = fake({"match": "[assistant] Hello", "reply": "Sum up 2 and 3."})
    (row,) = transform("chat.jsonl", "--op", "rephrase", "-m", model)
    said = [(turn["role"], turn["content"]) for turn in row["prompt"]]
    assert said == [*turns[:3], ("user", "Sum up 2 and 3.")]
    assert row["response"] == "5" and row["reference"] == "5"


def test_reasoning_is_added_and_the_answer_stays() -> None:
    model = fake({"default": "2 and 3.\nAnswer: 5", "reasoning": "the model's own thoughts about the task"})
    row = transform("--op", "reason", "-m", model)[0]
    assert row["reasoning"] == "2 and 3.\nAnswer: 5" and row["response"] == ROWS[0]["answer"]


def test_a_marked_answer_is_taken_without_a_model_and_another_by_one() -> None:
    rows = [*ROWS, {"question": "Is 7 prime?", "answer": "It has no divisor, so yes."}]
    write("in.jsonl", rows)
    found = transform("--op", "strip")
    assert [row["response"] for row in found] == ["5", "9", "20", None]
    assert found[3]["error"].startswith("unmarked: ") and found[3]["drop_rule"] == "failed"
    assert all(row["model"] is None for row in found)
    found = transform("--op", "strip", "-m", fake({"default": "Yes."}))
    assert [row["response"] for row in found] == ["5", "9", "20", "Yes."]
    assert [row["model"] for row in found] == [None, None, None, "fake:fake"]


def test_an_instruction_is_written_for_an_answer_or_a_text_alone() -> None:
    model = fake({"match": "<text>\nA haiku about rain\n</text>", "reply": "Write a haiku."}, {"default": "Add."})
    rows = transform("--op", "instruction", "-m", model)
    assert [(text_of(row), row["response"]) for row in rows] == [("Add.", row["answer"]) for row in ROWS]
    write("texts.jsonl", [{"text": "A haiku about rain"}])
    (row,) = transform("texts.jsonl", "--op", "instruction", "-m", model)
    assert (text_of(row), row["response"], row["error"]) == ("Write a haiku.", "A haiku about rain", None)


def test_a_translation_has_question_and_answer_or_says_what_is_missing() -> None:
    model = fake(
        {"match": "4 * 5", "reply": "<prompt>Was ist 4 mal 5?</prompt>"},
        {"match": "into German", "reply": "<prompt>\nWas ist 2 + 3?\n</prompt>\n<response>\nFünf\n</response>"},
    )
    rows = transform("--op", "translate", "--to", "German", "-m", model)
    assert (text_of(rows[0]), rows[0]["response"], rows[0]["slot_language"]) == ("Was ist 2 + 3?", "Fünf", "German")
    assert rows[2]["error"] == "unparsed: the reply has no <response>…</response>"
    assert rows[2]["response"] is None and rows[2]["drop_rule"] == "failed"


def test_originals_are_written_before_their_results_when_wanted() -> None:
    model = fake({"default": "other words"})
    rows = transform("--op", "rephrase", "-m", model, "-n", 2, "--keep-original")
    assert len(rows) == 9
    for original, *results in (rows[start : start + 3] for start in (0, 3, 6)):
        assert original["parents"] is None and [row["parents"] for row in results] == [[original["id"]]] * 2
        assert [row["sample"] for row in results] == [0, 1]
        assert original["response"] == results[0]["response"]


# What is marked


def test_failures_are_rows_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    model = fake(
        {"match": "4 * 5", "reply": "x", "fail": 1.0}, {"match": "4 + 5", "reply": " "}, {"default": "one two"}
    )
    rows = transform("--op", "rephrase", "-m", model, "--max-tokens", 1, "--max-failures", "50%", "--json")
    assert [row["error"].partition(":")[0] for row in rows] == ["cut", "empty", "server"]
    assert {row["drop_rule"] for row in rows} == {"failed"}
    assert json.loads(rows[2]["drop_evidence"]) == {"error": rows[2]["error"]}
    told = summary(capsys)
    assert (told["rows"], told["rows_kept"], told["dropped"], told["failed"]) == (3, 0, {"failed": 3}, {"server": 1})
    assert told["first_failure"] == rows[0]["error"]


def test_a_result_that_is_its_original_is_marked() -> None:
    rows = transform("--op", "rephrase", "-m", fake({"default": "what is  2 + 3?"}))
    assert [row["drop_rule"] for row in rows] == ["unchanged", None, None]


JUDGED = [
    {"regex": r"(?s)Which of them.*<first>\nwhat is 2.*<second>\nharder", "reply": "I think the SECOND"},
    {"regex": r"(?s)Which of them.*<first>\nharder.*<second>\nwhat is 2", "reply": "First."},
    {"regex": r"(?s)Which of them.*(4 \+ 5)", "reply": "SECOND"},  # whatever stands there
    {"match": "Which of them", "reply": "hard to tell"},
]


@pytest.mark.parametrize(("op", "moved"), [("harder", True), ("easier", False)])
def test_rows_whose_difficulty_did_not_move_are_dropped(
    op: str, moved: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write("in.jsonl", [{**row, "question": row["question"].lower()} for row in ROWS])
    model = fake(*JUDGED, {"default": "harder than before"})
    rows = transform("--op", op, "-m", model, "--json")
    assert [row["verdict_difficulty"] for row in rows] == ["harder", "inconsistent", "unjudged"]
    assert [row["drop_rule"] for row in rows] == [None if moved else f"not_{op}", f"not_{op}", "unjudged_difficulty"]
    assert rows[0]["why_difficulty"] == "asked in both orders: second, first"
    assert all(row["response"] is None and row["reference"] is None for row in rows)
    told = summary(capsys)
    assert told["verdicts"] == {"difficulty": {"harder": 1, "inconsistent": 1, "unjudged": 1}} and told["calls"] == 9


def test_a_check_that_fails_is_no_verdict_and_another_model_may_judge(capsys: pytest.CaptureFixture[str]) -> None:
    Path("judge.yaml").write_text('replies: [{match: "Which", reply: "SECOND", fail: 1.0}]')
    arguments = ["--op", "harder", "-m", fake({"default": "harder"}), "--check", "fake:judge.yaml", "--json"]
    rows = transform(*arguments, "--max-failures", "100%")
    assert {row["drop_rule"] for row in rows} == {"unjudged_difficulty"}
    assert all(row["why_difficulty"].startswith("server: ") and row["error"] is None for row in rows)
    assert {each["model"] for each in summary(capsys)["by"]} == {"fake:fake", "fake:judge"}


def test_a_score_may_say_that_the_difficulty_moved() -> None:
    Path("mine.py").write_text("def length(response): return None if '4 * 5' in response else len(response)\n")
    model = fake({"match": "2 + 3", "reply": "What is 2 + 3 + 4?"}, {"default": "Why?"})
    rows = transform("--op", "harder", "-m", model, "--check", "mine.py:length")
    assert [row["drop_rule"] for row in rows] == [None, "not_harder", "unjudged_difficulty"]
    assert [row["score_difficulty"] for row in rows] == [18, 4, None]
    assert (rows[1]["drop_value"], rows[1]["drop_limit"]) == (4, 14)


def test_without_a_check_harder_questions_are_taken_as_they_are() -> None:
    rows = transform("--op", "harder", "-m", fake({"default": "harder"}), "--check", "off")
    assert {row["drop_rule"] for row in rows} == {None} and "verdict_difficulty" not in rows[0]


def test_a_result_that_is_no_longer_right_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    model = fake({"match": "2 + 3", "reply": "Thinking.\nAnswer: 5"}, {"default": "Thinking.\nAnswer: 8"})
    rows = transform("--op", "reason", "-m", model, "--verify", "exact", "--json")
    assert [row["drop_rule"] for row in rows] == [None, "unverified", "unverified"]
    assert [row["score_exact"] for row in rows] == [1, 0, 0] and rows[1]["verdict_exact"] == "wrong"
    assert (rows[1]["drop_value"], rows[1]["drop_limit"]) == (0, 1)
    assert json.loads(rows[1]["drop_evidence"])["verdict"] == "wrong" and rows[1]["reasoning"]
    assert summary(capsys)["verdicts"] == {"exact": {"wrong": 2, "correct": 1}}


def test_the_reference_is_what_an_answer_is_verified_against() -> None:
    write("in.jsonl", [{"prompt": "2 + 3?", "response": "So.\n#### 5", "reference": "6"}, {"prompt": "Why?"}])
    rows = transform("--op", "strip", "--verify", "exact", "--max-bad", "50%")
    assert [row["drop_rule"] for row in rows] == ["unverified"]


def test_a_rephrased_question_is_answered_to_see_whether_its_answer_is_the_same() -> None:
    answers = [{"exact": "Same 2 + 3?", "reply": "5"}, {"exact": "Other?", "reply": "6"}]
    model = fake(*answers, {"match": "2 + 3", "reply": "Same 2 + 3?"}, {"default": "Other?"})
    rows = transform("--op", "rephrase", "-m", model, "--verify", "exact")
    assert [row["drop_rule"] for row in rows] == [None, "unverified", "unverified"]
    assert rows[0]["response"] == ROWS[0]["answer"]  # that of the original


# A mix with a share of reasoning


def many(count: int = 50) -> None:
    kinds = [["sum"], ["product"], None]
    rows = [
        {"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}", "tags": kinds[n % 3]} for n in range(count)
    ]
    write("in.jsonl", rows)


def test_a_mix_has_exactly_its_share_of_reasoning_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    many()
    rows = transform("--op", "strip", "--reason-share", "40%", "--json")
    reasoning = [row for row in rows if direct_answer(row)]
    assert len(rows) == 50 and len(reasoning) == 20
    assert all(row["response"].isdigit() and row["parents"] for row in rows if row not in reasoning)
    assert all(row["parents"] is None for row in reasoning)
    told = summary(capsys)["reason_share"]
    assert {name: told[name] for name in ("asked", "rows", "with_reasoning", "direct", "share", "dropped")} == {
        "asked": 0.4,
        "rows": 50,
        "with_reasoning": 20,
        "direct": 30,
        "share": 0.4,
        "dropped": 0,
    }
    assert {each["with_reasoning"] / each["rows"] for each in told["strata"]} <= {7 / 17, 6 / 16, 7 / 16, 6 / 17}
    assert transform("--op", "strip", "--reason-share", "0.4") == rows
    assert transform("--op", "strip", "--reason-share", "0.4", "--seed", 1) != rows


def test_failures_do_not_bend_the_share(capsys: pytest.CaptureFixture[str]) -> None:
    write("in.jsonl", [{"prompt": f"What is {n}?", "response": f"{n}"} for n in range(100)])
    model = fake({"match": "thinking of somebody", "reply": "So.", "fail": 0.4}, {"default": "?"})
    rows = transform("--op", "reason", "--reason-share", "40%", "-m", model, "--max-failures", "100%", "--json")
    kept = [row for row in rows if row["drop_rule"] is None]
    reasoning = sum(bool(row["reasoning"]) for row in kept)
    told = summary(capsys)
    assert len(rows) == 100 and told["dropped"]["failed"] > 5
    assert reasoning == int(0.4 * len(kept) + 0.5) == told["reason_share"]["with_reasoning"]
    assert told["rows_kept"] == len(kept) == told["reason_share"]["rows"]
    dropped = [row for row in rows if row["drop_rule"] == "reason_share"]
    assert len(dropped) == told["reason_share"]["dropped"] > 0 and not any(row["reasoning"] for row in dropped)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--op", "sharpen"],
            "--op sharpen: allowed are easier, harder, instruction, reason, rephrase, restyle, strip",
        ),
        ([], "--op"),
        (["--op", "strip", "--template", "x.yaml"], "--template"),
        (["--template", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--op", "restyle"], "--style: restyle needs one"),
        (["--op", "restyle", "--style", " "], "--style: it is empty"),
        (["--op", "rephrase", "--style", "terse"], "--style terse: rephrase takes none"),
        (["--op", "translate"], "--to: translate needs one"),
        (["--op", "rephrase", "-n", "0"], "n=0: allowed are whole numbers from 1"),
        (["--op", "harder", "--verify", "exact"], "--verify exact"),
        (["--op", "strip", "--check", "off"], "--check off: strip does not move"),
        (["--op", "harder", "--check", "nobody"], "--check nobody: no MODEL"),
        (["--op", "strip", "--verify", "nothing"], "score nothing: no such score"),
        (["--op", "rephrase", "--reason-share", "40%"], "--reason-share: rephrase neither adds nor takes reasoning"),
        (["--op", "strip", "--reason-share", "140%"], "--reason-share 140%"),
        (["--op", "reason", "--reason-share", "40%"], "use --op strip"),
        (["--op", "strip", "--reason-share", "40%", "--keep-original"], "--keep-original"),
        (["--op", "strip", "--reason-share", "40%", "-n", "2"], "use -n 1"),
        (["--op", "strip", "--map", "response=nothing"], "no column 'nothing'"),
    ],
)
def test_bad_flags_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert transform(*arguments, "-m", fake({"default": "x"}), code=2) == []
    shown = capsys.readouterr().err.splitlines()
    assert said in shown[-1] and len([line for line in shown if line.startswith("gristmill:")]) == 1


def test_a_model_is_needed_unless_answers_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    transform("--op", "rephrase", code=2)
    assert "-m: rephrase asks a model; name one" in capsys.readouterr().err


def test_rows_without_what_is_needed_are_set_aside_with_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    write(
        "in.jsonl",
        [{"prompt": "Why?", "response": None}, {"prompt": turns, "response": "y"}, {"prompt": "a", "response": "b"}],
    )
    model = fake({"default": "<prompt>P</prompt><response>R</response>"})
    rows = transform("--op", "translate", "--to", "French", "-m", model, "--json")
    assert [row["source_row"] for row in rows] == [2]
    told = summary(capsys)
    assert told["rows_bad"] == 2 and [(bad["source_row"], bad["_bad"]) for bad in told["bad_rows"]] == [
        (0, "no response, which translate needs"),
        (1, "several turns; translate takes rows with one message of the user"),
    ]
    Path("out.parquet").unlink()
    transform("--op", "translate", "--to", "French", "-m", model, "--max-bad", "0", code=2)
    assert "in.jsonl:0: no response, which translate needs" in capsys.readouterr().err


def test_calls_that_failed_before_are_passed_over_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.yaml").write_text('name: t\nprompt: "Say {{ n }}"\nslots: {n: {range: [1, 40]}}\n')
    model = fake({"match": "Say", "reply": "So.\n#### 5", "fail": 0.3})
    with pytest.raises(SystemExit):
        cli(["generate", "t.yaml", "-m", model, "-o", "g.parquet", "--run", "run", "--max-failures", "100%"])
    capsys.readouterr()
    rows = transform("g.parquet", "--op", "strip", "--json")
    told = summary(capsys)
    assert told["rows_unanswered"] == 40 - len(rows) > 0 and told["rows_bad"] == 0
    generated = {row["id"] for row in pq.read_table("g.parquet").to_pylist()}
    assert {row["parents"][0] for row in rows} <= generated
    assert rows[0]["slot_n"] and "cost" not in json.loads(rows[0]["meta"])


def test_preferences_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write("in.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    transform("--op", "strip", code=2)
    assert "preferences" in capsys.readouterr().err


def test_a_dry_run_and_a_preview_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = fake({"default": "other"})
    assert transform("--op", "harder", "-m", model, "--dry-run", "--json") == []
    told = summary(capsys)
    assert (told["prompts"], told["calls"]) == (3, 9) and len(told["models"]) == 2
    assert transform("--op", "rephrase", "-m", model, "--preview", 2) == []
    shown = capsys.readouterr().out
    assert shown.count("── original") == shown.count("── result") == 2 and "[prompt] other" in shown


# The page


PAGE = Path(__file__).parent.parent / "docs" / "transform.md"


def test_the_template_and_the_python_of_the_page_work(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    Path("formal.yaml").write_text(text)
    (asked,) = op_of(None, "formal.yaml").messages({"prompt": "Why?", "response": "Because."})
    assert asked["content"] == "Rewrite this for a lawyer, in reply to: Why?:\nBecause."
    many()
    Path("in.jsonl").rename("data.jsonl")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "docs/transform.md", "exec"), {})
    assert capsys.readouterr().out == "20\n"


def test_the_page_names_every_transform_and_every_flag() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert set(op_names()) <= set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    options = typer.main.get_command(app).commands["transform"].params  # type: ignore[attr-defined]
    flags = {flag for option in options for flag in option.opts if flag.startswith("--")}
    assert {flag for flag in flags - {"--out", "--model"} if flag not in page} == set()
