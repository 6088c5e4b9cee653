"""Exports: exactly what each trainer reads, checked row by row before it is written."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gristmill.errors import BadInput, UsageError
from gristmill.export.formats import FORMATS
from gristmill.export.pipeline import export_files
from gristmill.run import Run

ASK = {"role": "user", "content": "2+2?"}
SAMPLE: dict[str, Any] = {"prompt": [ASK], "response": "4", "reasoning": "two and two"}
PROMPT = {"prompt": "2+2?", "reference": "4"}
PAIR = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
LATE = {"role": "system", "content": "late"}
LABEL = {"prompt": "2+2?", "response": "4", "label": True}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def exported(tmp_path: Path, to: str, *rows: dict[str, Any], suffix: str = ".jsonl", **options: Any) -> Any:
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = export_files(str(source), to, out, run=Run(tmp_path / "run"), **options)
    if suffix == ".parquet":
        return told, pq.read_table(out).to_pylist()
    return told, [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("to", "row", "expected"),
    [
        ("trl-sft", SAMPLE, {"messages": [ASK, says("<think>\ntwo and two\n</think>\n\n4")]}),
        ("trl-preference", PAIR, {"prompt": [ASK], "chosen": [says("4")], "rejected": [says("5")]}),
        ("trl-reward", PAIR, {"chosen": [ASK, says("4")], "rejected": [ASK, says("5")]}),
        ("trl-kto", LABEL, {"prompt": [ASK], "completion": [says("4")], "label": True}),
        ("trl-prompt", PROMPT, {"prompt": [ASK], "reference": "4", "meta": None}),
    ],
)
def test_trl(tmp_path: Path, to: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert exported(tmp_path, to, row)[1] == [expected]


def test_openai_takes_ten_rows_at_least(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="10 at least"):
        exported(tmp_path, "openai-sft", SAMPLE)
    rows = exported(tmp_path, "openai-sft", *[SAMPLE] * 10, reasoning="drop")[1]
    assert rows == [{"messages": [ASK, says("4")]}] * 10
    rows = exported(tmp_path, "openai-preference", *[{**PAIR, "tools": TOOLS}] * 10)[1]
    assert rows[0] == {
        "input": {"messages": [ASK], "tools": TOOLS, "parallel_tool_calls": True},
        "preferred_output": [says("4")],
        "non_preferred_output": [says("5")],
    }
    rows = exported(tmp_path, "openai-rft", *[PROMPT] * 10)[1]
    assert rows[0] == {"messages": [ASK], "reference": "4"}
    assert json.loads((tmp_path / "out.grader.json").read_text())["reference"] == "{{item.reference}}"


def test_verl(tmp_path: Path) -> None:
    row = {**PROMPT, "data_source": "gsm8k", "ability": "math"}
    (made,) = exported(tmp_path, "verl", row, suffix=".parquet")[1]
    assert made.pop("extra_info").pop("id").startswith("g1:")
    assert made == {
        "data_source": "gsm8k",
        "prompt": [ASK],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
    }


@pytest.mark.parametrize(
    ("reasoning", "turn"),
    [("field", {**says("4"), "reasoning_content": "two and two"}), ("drop", says("4"))],
)
def test_where_reasoning_goes(tmp_path: Path, reasoning: str, turn: dict[str, str]) -> None:
    assert exported(tmp_path, "trl-sft", SAMPLE, reasoning=reasoning)[1] == [{"messages": [ASK, turn]}]


def test_every_row_has_the_same_keys(tmp_path: Path) -> None:
    plain, tooled = {"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d", "tools": TOOLS}
    rows = exported(tmp_path, "trl-sft", plain, tooled, suffix=".parquet")[1]
    assert [row.keys() for row in rows] == [{"messages", "tools"}] * 2
    assert rows[0]["tools"] is None and json.loads(rows[1]["tools"]) == TOOLS
    mixed = exported(tmp_path, "trl-sft", SAMPLE, plain, reasoning="field")[1]
    assert [row["messages"][1].get("reasoning_content", "-") for row in mixed] == ["two and two", None]


@pytest.mark.parametrize(
    ("to", "row", "reason"),
    [
        ("trl-sft", {"prompt": "a", "response": " "}, "no response"),
        (
            "trl-sft",
            {"prompt": [ASK, LATE], "response": "b"},
            "message 1 is the system's",
        ),
        ("trl-sft", {"prompt": [{"role": "user", "content": ""}], "response": "b"}, "message 0 (user) is empty"),
        ("trl-preference", {"prompt": "a", "chosen": "b", "rejected": "b"}, "equal"),
        ("trl-preference", {"prompt": "a", "chosen": "b", "rejected": ""}, "rejected is empty"),
        ("trl-prompt", {"prompt": [ASK, says("x"), {"role": "system", "content": "y"}]}, "message 2"),
        ("verl", {"prompt": "a", "reference": None}, "no reference"),
    ],
)
def test_what_a_trainer_could_not_read_is_set_aside_and_its_neighbours_survive(
    tmp_path: Path, to: str, row: dict[str, Any], reason: str
) -> None:
    good = {"trl-sft": SAMPLE, "trl-preference": PAIR}.get(to, PROMPT)
    told, rows = exported(tmp_path, to, good, row, good, suffix=FORMATS[to].suffixes[-1])
    assert len(rows) == 2 and told["rows_bad"] == 1
    assert told["bad_rows"][0]["source_row"] == 1 and reason in told["bad_rows"][0]["_bad"]


def test_too_many_bad_rows_write_nothing(tmp_path: Path) -> None:
    bad = [{"prompt": "a", "response": ""}] * 7
    with pytest.raises(BadInput, match="7 of 8"):
        exported(tmp_path, "trl-sft", SAMPLE, *bad)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        ("trl", {}, "allowed are trl-sft"),
        ("trl-kto", {}, r"sample rows; it takes label rows \(gristmill pick"),
        ("verl", {}, "local .parquet file"),
        ("trl-sft", {"reasoning": "hide"}, "allowed are think, field, drop"),
    ],
)
def test_usage(tmp_path: Path, to: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        exported(tmp_path, to, SAMPLE, **options)


def test_a_file_of_anothers_is_not_replaced_but_ours_is(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        exported(tmp_path, "trl-sft", SAMPLE)
    exported(tmp_path, "trl-sft", SAMPLE, force=True)
    assert len(exported(tmp_path, "trl-sft", SAMPLE, SAMPLE)[1]) == 2


def test_a_card_tells_stages_models_and_what_is_left_to_fill_in(tmp_path: Path) -> None:
    row = {**SAMPLE, "model": "m1", "sampling": '{"temperature": 0.7}', "tokens_out": 5, "tags": ["sums"], "cost": 0.5}
    exported(tmp_path, "trl-sft", row, {**row, "model": "m2"}, with_card=True)
    text = (tmp_path / "out.card.md").read_text()
    for told in (
        "2 rows for `trl-sft`",
        "| m1 | 1 |",
        "| 0.7 | 2 |",
        "10 out",
        "1.0000",
        "| sums | 2 |",
        "license: unknown",
    ):
        assert told in text, told
    assert str(tmp_path / "in.jsonl") in text


def test_the_data_sets_library_reads_what_is_written(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra 'train' is not installed")
    for to, row in {"trl-sft": SAMPLE, "trl-preference": PAIR, "trl-kto": LABEL, "trl-prompt": PROMPT}.items():
        exported(tmp_path, to, row, row)
        found = datasets.load_dataset("json", data_files=str(tmp_path / "out.jsonl"), cache_dir=str(tmp_path / to))
        assert found["train"].num_rows == 2
