"""`--strict-gold` names the references that a score cannot use, and writes nothing."""

import json
from pathlib import Path

import pytest

from gristmill.cli.main import run
from gristmill.errors import Refused, UsageError
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.pipeline import score_files
from gristmill.score.score import Item


def test_golds_are_found_parsed_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = ["2", "It is\n\\boxed{x+1}", "", r"\le(-\iny,2]", None, "nan"]
    source = tmp_path / "in.jsonl"
    rows = [{"prompt": "p", "response": r"\boxed{2}", "reference": reference} for reference in references]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.parquet"
    with pytest.raises(SystemExit) as end:
        run(["score", str(source), "--with", "math", "--strict-gold", "-o", str(out), "--run", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert end.value.code == 1 and not out.exists()
    assert "4 of 6 references cannot be used" in told
    assert all(f"in.jsonl:{row} (math: unparseable_gold" in told for row in (2, 3, 4, 5))
    assert "in.jsonl:0" not in told and "in.jsonl:1" not in told

    told_without = score_files(str(source), [score("math")], out, run=Run(tmp_path / "run"))
    assert told_without["scores"]["math"]["verdicts"] == {"unparseable_gold": 4, "correct": 1, "wrong": 1}


def test_a_gold_that_would_never_be_worked_out_is_of_no_use() -> None:
    gold = score("math").gold
    assert gold is not None
    found = gold([Item(None, each) for each in ("5^{5^{5^{5}}}", "10!", r"\{1, \sqrt{2}\}", "no solution", "B")])
    assert [each.verdict for each in found] == ["unparseable_gold", *["correct"] * 4]
    assert "tower" in found[0].why


def test_good_golds_let_the_score_go_on_and_scores_without_golds_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "p", "response": "2", "reference": "2"}\n')
    (tmp_path / "mine.py").write_text("def short(response):\n    return len(response) < 5\n")
    short = score(f"{tmp_path / 'mine.py'}:short")
    out, here = tmp_path / "out.parquet", Run(tmp_path / "run")
    told = score_files(str(source), [score("math"), score("exact"), short], out, run=here, strict_gold=True)
    assert told["scores"]["math"]["mean"] == 1
    with pytest.raises(UsageError, match="short has no way to check references"):
        score_files(str(source), [short], out, run=here, strict_gold=True)
    (tmp_path / "empty.jsonl").write_text('{"prompt": "p", "response": "2", "reference": " "}\n')
    with pytest.raises(Refused, match=r"exact: no_reference"):
        score_files(str(tmp_path / "empty.jsonl"), [score("exact")], out, run=here, strict_gold=True)


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        ("choice", "B", "neither"),
        ("answer", "It is 5.\n#### 5", "  "),
        ("exact", "x", ""),
        ("code,weak=true", '{"inputs": ["1"], "outputs": ["2"]}', "{}"),
    ],
)
def test_other_verifiers_check_their_references_too(spec: str, good: str, bad: str) -> None:
    gold = score(spec).gold
    prompt = [{"role": "user", "content": "Which?\nA. dogs\nB. cats"}]
    assert gold is not None
    assert [
        each.value for each in gold([Item("r", good, prompt), Item("r", bad, prompt), Item("r", None, prompt)])
    ] == [
        1,
        None,
        None,
    ]
