"""`gristmill why --run RUN`: a row across the steps of a run, back to the lines it was made from."""

import json
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gristmill.cli.main
from gristmill.errors import UsageError
from gristmill.filter.marks import kept, mark
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.generate.pipeline import generate_rows
from gristmill.generate.sample import Plan
from gristmill.generate.templates import prompt_source
from gristmill.lineage import across
from gristmill.models.fake import Fake
from gristmill.records import DROPS, row_id
from gristmill.run import Run
from gristmill.wording import key_text
from tests.milled import bad, key, milled
from tests.tables import table

PROMPT = [{"role": "user", "content": "What is two plus two?", "extra": None}]


def prompts(path):
    texts = Path(path).read_text().splitlines()
    rows = [{"prompt": text, "source_file": path, "source_row": n} for n, text in enumerate(texts)]
    return table("prompt", rows)


def answered(asked, answers):
    """Two samples a prompt; a sample names its prompt, and the first sample is its own ancestor by a loop."""
    found = []
    for row in asked.sort("source_row").to_pylist():
        for answer in answers:
            text = row["prompt"][0]["content"]
            made = {"prompt": text, "response": answer, "source_file": None, "source_row": None}
            own = row_id("sample", {"prompt": row["prompt"], "response": answer})
            found.append(made | {"parents": [row["id"], own]})
    return table("sample", found)


def scored(answers):
    return answers.with_column("score_right", (daft.col("response") == "Four.").cast(daft.DataType.float64()))


def judged(answers):
    wrong = answers.where("score_right < 1").select("id", "copy").to_arrow()
    drops = [wrong["id"], wrong["copy"], *([x] * len(wrong) for x in ("below_right", 0.0, 1.0, '{"measure": "right"}'))]
    return mark(answers, pa.table(drops, names=["id", "copy", *DROPS.names]))


def passed(answers):
    return kept(answers)


@pytest.fixture
def run(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("Name a colour.\nWhat is two plus two?\n")
    run = Run(tmp_path / "run")
    marked = run.step(
        judged, run.step(scored, run.step(answered, run.step(prompts, str(data)), answers=["Four.", "5"]))
    )
    run.step(passed, marked)
    return run


def asked(response):
    return key("What is two plus two?", response)


def test_a_row_is_told_step_by_step_back_to_its_line(run, tmp_path):
    told = across(run.path, asked("Four."))
    assert [stage["step"] for stage in told["stages"]] == ["answered", "scored", "judged", "passed"]
    assert [stage["new"] for stage in told["stages"]] == [{}, {"score_right": 1.0}, {}, {}]
    assert told["kept"] and told["output"] is None
    (parent,) = told["ancestors"]
    assert parent["id"] == row_id("prompt", {"prompt": PROMPT, "tools": None})
    assert (parent["source_file"], parent["source_row"]) == (str(tmp_path / "data.txt"), 1)
    assert [stage["step"] for stage in parent["stages"]] == ["prompts"] and parent["children"] == [told["id"]]


def test_a_dropped_row_ends_with_its_reason(run):
    told = across(run.path, asked("5")[:20])
    assert [stage["step"] for stage in told["stages"]] == ["answered", "scored", "judged"]
    last = told["stages"][-1]
    assert (last["rule"], last["value"], last["limit"], told["kept"]) == ("below_right", 0.0, 1.0, False)
    assert last["evidence"] == {"measure": "right"}
    assert told["verdict"].startswith("dropped by below_right")


def test_a_line_of_a_file_names_its_row(run):
    assert across(run.path, "data.txt:1")["text"] == "What is two plus two?"
    assert across(run.path, f"{asked('Four.')}#0")["copy"] == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("g1:", r"rows answer to it: g1:"),
        ("g1:zz", "no such row in the tables of"),
        ("data.txt:7", "no such row"),
        ("{id}#4", "has no copy 4; its copies are 0"),
        ("{id}#x", "the copy 'x' is not a number"),
    ],
)
def test_a_row_that_is_not_one_is_refused(run, row, message):
    with pytest.raises(UsageError, match=message):
        across(run.path, row.replace("{id}", asked("Four.")))


def test_an_ancestor_that_is_in_no_table_is_named(tmp_path):
    run = Run(tmp_path / "run")
    orphan = table("prompt", [{"prompt": "Hello.", "parents": ["g1:gone"]}])
    run.step(passed, orphan)
    (parent,) = across(run.path, orphan.to_pydict()["id"][0])["ancestors"]
    assert (parent["id"], parent["stages"], parent["verdict"]) == ("g1:gone", [], "in no table of this run")


def test_the_newest_filter_output_that_holds_the_row_tells_its_whole_history(run, tmp_path, capsys):
    rows = [{"prompt": "What is two plus two?", "response": "Four."}]
    for name in ("older", "newer"):
        out = milled(tmp_path / name, rows)
        bad(out, [{"file": "data.txt", "line": 7, "reason": "not JSON"}])
        run.output(out, "filter")
    milled(tmp_path / "other", [{"prompt": "Hi.", "response": "Ho."}])
    run.output(tmp_path / "other", "filter")
    told = across(run.path, asked("Four."))
    assert told["output_path"] == str(tmp_path / "newer") and told["output"]["prompt"] == "What is two plus two?"
    assert [stage["step"] for stage in told["stages"]][-2:] == ["filter", "filter"]
    assert across(run.path, "data.txt:7")["bad"]["reason"] == "not JSON"
    with pytest.raises(SystemExit) as ended:
        gristmill.cli.main.run(["why", asked("Four."), "--run", str(run.path)])
    out = capsys.readouterr().out
    assert not ended.value.code and out.startswith("kept\n")
    assert out.index("prompts") < out.index("answered") < out.index("judged") < out.index(f"in {tmp_path / 'newer'}")
    assert f"row 1 of {tmp_path / 'data.txt'}" in out
    with pytest.raises(SystemExit):
        gristmill.cli.main.run(["why", asked("5"), "--run", str(run.path), "--json"])
    assert json.loads(capsys.readouterr().out)["kept"] is False


TEMPLATE = """
name: greet
messages:
  - {role: user, content: "Hi, I am {{ who }}."}
  - {role: assistant, content: "Hello!"}
  - {role: user, content: "Greet me\\nin {{ style }}."}
slots: {who: [Ann, Bob], style: [prose, verse]}
"""


@pytest.fixture
def generated(tmp_path):
    """A run that put four conversations to a model, twice each, and dropped every answer in verse."""
    (tmp_path / "greet.yaml").write_text(TEMPLATE)
    (tmp_path / "fake.yaml").write_text("replies: [{match: verse, reply: ''}, {default: 'Good day to you.'}]\n")
    run = Run(tmp_path / "run")
    out = tmp_path / "candidates.parquet"
    plan = Plan(n=2, temperatures=[0.5])
    generate_rows(prompt_source(tmp_path / "greet.yaml"), [Fake(tmp_path / "fake.yaml")], out, plan, run=run)
    filter_files([str(out)], tmp_path / "out", Settings(exact=False, near=None), run=run)
    return run


def test_a_candidate_reaches_its_prompt_and_template(generated, tmp_path, capsys):
    rows = pq.read_table(tmp_path / "candidates.parquet").to_pylist()
    row = next(row for row in rows if (row["slot_who"], row["slot_style"]) == ("Bob", "verse"))
    told = across(generated.path, row["id"])
    (parent,) = told["ancestors"]
    assert parent["id"] == row["parents"][0] and parent["children"] == [row["id"]] and parent["stages"] == []
    assert (parent["source_file"], parent["source_row"]) == (str(tmp_path / "greet.yaml"), row["source_row"])
    assert (parent["template"], parent["slots"]) == ("greet", {"who": "Bob", "style": "verse"})
    assert parent["text"] == "[user] Hi, I am Bob.\n[assistant] Hello!\n[user] Greet me\nin verse."
    made = told["stages"][0]["new"]
    assert made["model"] == "fake:fake" and json.loads(made["sampling"])["temperature"] == 0.5

    with pytest.raises(SystemExit):
        gristmill.cli.main.run(["why", row["id"], "--run", str(generated.path)])
    shown = capsys.readouterr().out
    assert "template greet, " in shown and "who: Bob" in shown and "in no table" not in shown
    assert f"row {row['source_row']} of {tmp_path / 'greet.yaml'}" in shown


def test_a_prompt_tells_what_became_of_its_answers(generated, tmp_path, capsys):
    rows = pq.read_table(tmp_path / "candidates.parquet").to_pylist()
    for style, said in (("prose", "kept"), ("verse", "dropped by empty")):
        mine = [row for row in rows if (row["slot_who"], row["slot_style"]) == ("Ann", style)]
        told = across(generated.path, mine[0]["parents"][0][:20])
        assert (told["id"], told["kept"], told["template"]) == (mine[0]["parents"][0], None, "greet")
        assert [each["key"] for each in told["answers"]] == [key_text(row["id"], row["copy"]) for row in mine]
        assert all(each["verdict"].startswith(said) for each in told["answers"])
    with pytest.raises(SystemExit) as ended:
        gristmill.cli.main.run(["why", told["id"], "--run", str(generated.path)])
    assert not ended.value.code and capsys.readouterr().out.count("dropped by empty") == 2
    with pytest.raises(UsageError, match="no such row"):
        across(generated.path, "g1:0000")


def test_a_prompt_of_a_table_is_told_by_its_line(tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n')
    (tmp_path / "fake.yaml").write_text("replies: [{default: 'Yes.'}]\n")
    run = Run(tmp_path / "run")
    source = prompt_source(tmp_path / "asked.jsonl")
    generate_rows(source, [Fake(tmp_path / "fake.yaml")], tmp_path / "c.parquet", Plan(), run=run)
    rows = pq.read_table(tmp_path / "c.parquet").to_pylist()
    (parent,) = across(run.path, rows[1]["id"])["ancestors"]
    assert (parent["source_file"], parent["source_row"]) == (str(tmp_path / "asked.jsonl"), 1)
    assert (parent["text"], parent["template"], parent["slots"]) == ("Two?", None, {})
