"""Readers of others' logs: every file is read or refused with the reason, and the counts are right."""

import gzip
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gristmill.errors import BadInput
from gristmill.loop.logs.read import read_logs
from gristmill.loop.logs.rows import Row, number
from tests.data_sets import DATA


def lines(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def one(*paths: str) -> list[Row]:
    logs, unread = read_logs(paths)
    assert not unread
    return [row for log in logs for row in log.rows]


def sample(id: Any, value: Any, epoch: int = 1, **more: Any) -> dict[str, Any]:
    scores = {} if value is None else {"match": {"value": value, "answer": "x"}}
    output = {"choices": [{"message": {"role": "assistant", "content": "said"}, "stop_reason": "stop"}]}
    return {"id": id, "epoch": epoch, "input": "Asked?", "target": "gold", "scores": scores, "output": output, **more}


def log(*samples: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"task": "lab/popularity", "model": "openai/m"}
    return {"version": 2, "status": "success", "eval": about, "samples": list(samples), **more}


INSPECT = {
    "2024-11-05T13-31-45-05-00_input-task_8zXjbRzCWrL9GXiXo2vus9.json.gz": (1, 1),
    "2025-02-11T15-18-04-05-00_popularity_mj7khqpMM4GBCfVQozKgzB.eval": (10, 8),
    "2025-05-12T20-28-13-04-00_popularity.json.gz": (3, 2),
    "2025-05-12T20-28-26-04-00_security-guide.json.gz": (3, 3),
    "log_formats.eval": (1, 0),
    "log_formats.json.gz": (1, 0),
    "log_tool_call_error.json.gz": (1, None),
    "mmlu-summary-choices.eval": (1, 0),
}
"""Samples that the files hold, and how many of them are right; None: not scored."""


@pytest.mark.parametrize("name", INSPECT)
def test_every_published_log_of_inspect_is_read(name: str) -> None:
    path = DATA / "inspect_logs" / name
    if not path.exists():
        pytest.skip(f"no {path}: the logs are not shipped; GRISTMILL_DATA names their place")
    samples, right = INSPECT[name]
    rows = one(str(path))
    assert len(rows) == samples
    values = [row[each] for row in rows for each in row if each.startswith("score_")]
    assert (sum(values) if values else None) == right
    assert all(row["prompt"] and row["item"] for row in rows)


def test_the_accuracy_of_a_log_is_the_one_it_states() -> None:
    for path in sorted((DATA / "inspect_logs").glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            said = json.load(file)["results"]["scores"][0]
        found = [row.get(f"score_{said['name']}") for row in one(str(path))]
        judged = [value for value in found if value is not None]
        assert not judged or sum(judged) / len(judged) == pytest.approx(said["metrics"]["accuracy"]["value"])


def test_a_file_that_is_no_log_is_refused_beside_those_that_are(tmp_path: Path) -> None:
    good = tmp_path / "a.json"
    good.write_text(json.dumps(log(sample(1, "C"))))
    (tmp_path / "b.eval").write_bytes(b"no zip")
    (tmp_path / "c.json").write_text(json.dumps(log(status="error", error={"message": "key gone"})))
    (tmp_path / "d.jsonl").write_text('{"x": 1}\n')
    logs, unread = read_logs([str(tmp_path)])
    assert [each.file for each in logs] == [str(good)]
    reasons = {Path(each.file).name: each.reason for each in unread}
    assert reasons.keys() == {"b.eval", "c.json", "d.jsonl"}
    assert "not a zip file" in reasons["b.eval"]
    assert "without samples (status error: key gone)" in reasons["c.json"]
    assert "neither a prompt nor an item" in reasons["d.jsonl"]
    with pytest.raises(BadInput, match="without samples"):
        read_logs([str(tmp_path / "c.json")])


def test_values_of_inspect(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    values = ["C", "I", "P", "N", 0.25, True, math.nan, "no", "odd", {"a": "C", "b": 2}]
    path.write_text(json.dumps(log(*(sample(n, value) for n, value in enumerate(values)))))  # json writes a bare NaN
    found = [row.get("score_match") for row in one(str(path))]
    assert found == [1, 0, 0.5, 0, 0.25, 1, None, 0, None, None]
    last = one(str(path))
    assert (last[-1]["score_match_a"], last[-1]["score_match_b"]) == (1, 2)
    assert (last[6]["verdict_match"], last[8]["why_match"]) == ("unscored", "'odd' is no number")


def test_epochs_are_samples_of_one_item_and_attachments_are_put_in(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    kept = {"input": "attachment://7", "attachments": {"7": "The whole question"}}
    path.write_text(json.dumps(log(sample("q", "C"), sample("q", "I", epoch=2), sample("r", "C", **kept))))
    rows = one(str(path))
    assert [(row["item"], row["sample"]) for row in rows] == [("q", 0), ("q", 1), ("r", 0)]
    assert rows[2]["prompt"][0]["content"] == "The whole question"
    assert {row["suite"] for row in rows} == {"popularity"}


def zipped(path: Path, members: dict[str, bytes], method: int) -> None:
    """A ZIP whose members are stored as they are, or said to be Zstandard (method 93) and are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, zstandard.compress(content) if method == 93 else content)
    if method == 93:  # zipfile cannot write it before Python 3.14: say so in the headers
        raw = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            at = raw.find(signature)
            while at >= 0:
                raw[at + offset : at + offset + 2] = (93).to_bytes(2, "little")
                at = raw.find(signature, at + 4)
        path.write_bytes(raw)


@pytest.mark.parametrize("method", [0, 93])
def test_an_eval_archive_with_zstandard_members(tmp_path: Path, method: int) -> None:
    path = tmp_path / "log.eval"
    header = log(results={"total_samples": 3})
    del header["samples"]
    members = {f"samples/{n}_epoch_1.json": json.dumps(sample(n, "C" if n else "I")).encode() for n in range(2)}
    zipped(path, {"header.json": json.dumps(header).encode(), **members}, method)
    logs, _ = read_logs([str(path)])
    assert [row["score_match"] for row in logs[0].rows] == [0, 1]
    assert logs[0].notes == ["the log speaks of 3 samples and holds 2"]


def lm_row(doc: int, filter: str, value: float, **more: Any) -> dict[str, Any]:
    arguments = {"gen_args_0": {"arg_0": f"Question {doc}", "arg_1": {"until": ["\n"]}}}
    base = {"doc_id": doc, "doc": {"question": f"Question {doc}", "level": "hard"}, "target": str(doc)}
    base |= {"arguments": arguments, "resps": [[f"answer {doc}"]], "filtered_resps": [str(doc)], "doc_hash": f"h{doc}"}
    return {**base, "filter": filter, "metrics": ["exact_match"], "exact_match": value, **more}


def test_filters_of_lm_eval_count_an_item_once(tmp_path: Path) -> None:
    found = [lm_row(n, name, float(n == 0 or name == "flexible")) for n in range(3) for name in ("strict", "flexible")]
    path = lines(tmp_path / "samples_gsm8k_cot_2025-01-02T03-04-05.123.jsonl", *found)
    rows = one(path)
    assert len(rows) == 3
    assert [row["score_exact_match_strict"] for row in rows] == [1, 0, 0]
    assert [row["score_exact_match_flexible"] for row in rows] == [1, 1, 1]
    assert (rows[1]["suite"], rows[1]["item"], rows[1]["response"]) == ("gsm8k_cot", "h1", "answer 1")
    assert rows[1]["prompt"][0]["content"] == "Question 1"


def test_of_a_task_that_was_run_again_the_last_row_counts(tmp_path: Path) -> None:
    path = lines(tmp_path / "samples_t.jsonl", lm_row(0, "none", 0.0), lm_row(1, "none", 1.0), lm_row(0, "none", 1.0))
    logs, _ = read_logs([path])
    assert [row["score_exact_match"] for row in logs[0].rows] == [1, 1]
    assert "1 rows of an earlier run" in logs[0].notes[0]


def test_a_choice_of_lm_eval_has_the_likeliest_answer_and_its_confidence(tmp_path: Path) -> None:
    arguments = {f"gen_args_{n}": {"arg_0": "2 + 2 =", "arg_1": f" {n}"} for n in (3, 4)}
    resps = [[["-2.0", "False"]], [["-1.0", "True"]]]
    path = lines(tmp_path / "samples_arc.jsonl", lm_row(0, "none", 1.0, arguments=arguments, resps=resps))
    (row,) = one(path)
    assert row["response"] == " 4"
    assert json.loads(row["meta"])["confidence"] == pytest.approx(1 / (1 + math.exp(-1)))


def test_completions_of_trl(tmp_path: Path) -> None:
    path = tmp_path / "completions_00010.parquet"
    said = [{"role": "assistant", "content": "one"}], [{"role": "assistant", "content": "two"}]
    columns = {"step": [10, 10], "prompt": [[{"role": "user", "content": "Q"}]] * 2, "completion": list(said)}
    pq.write_table(pa.table({**columns, "accuracy": [1.0, math.nan], "advantage": [0.7, -0.7]}), path)
    rows = one(str(path))
    assert [row["response"] for row in rows] == ["one", "two"]
    assert [row["score_accuracy"] for row in rows] == [1, None]
    assert [row["sample"] for row in rows] == [0, 1]
    assert rows[0]["item"] == rows[1]["item"]
    assert rows[0]["model"] == "step 10"


def test_a_dump_of_verl(tmp_path: Path) -> None:
    first = {"input": "Q", "output": "A", "gts": {"answer": 4}, "score": 1.0, "step": 3, "acc": True, "uid": "u"}
    rows = one(lines(tmp_path / "3.jsonl", first, {**first, "score": 0.0, "acc": False}))
    assert [(row["score_score"], row["score_acc"]) for row in rows] == [(1, 1), (0, 0)]
    assert rows[0]["reference"] == '{"answer":4}'


def test_a_batch_with_and_without_its_requests(tmp_path: Path) -> None:
    body = {"model": "m-1", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    good = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    failed = {"custom_id": "b", "response": {"status_code": 500, "body": {"error": {"message": "busy"}}}, "error": None}
    output = lines(tmp_path / "output.jsonl", good, failed)
    rows = one(output)
    assert [(row["item"], row["response"], row["error"]) for row in rows] == [("a", "hi", None), ("b", None, "busy")]
    request = {"custom_id": "a", "body": {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}}
    rows = one(lines(tmp_path / "input.jsonl", request), output)
    assert [[turn["content"] for turn in row["prompt"]] for row in rows] == [["Hello"], []]


def test_plain_rows(tmp_path: Path) -> None:
    rows = one(
        lines(
            tmp_path / "plain.jsonl",
            {"task_id": 7, "correct": True, "type": "x"},
            {"question": "Q?", "response": "r", "answer": "g", "score_math": 0.5, "tags": ["t"]},
        )
    )
    assert (rows[0]["item"], rows[0]["prompt"], json.loads(rows[0]["meta"])["type"]) == ("7", [], "x")
    assert (rows[1]["reference"], rows[1]["score_math"], rows[1]["tags"]) == ("g", 0.5, ["t"])
    assert rows[1]["item"].startswith("g1:")


@pytest.mark.parametrize(("value", "found"), [(True, 1.0), ("0.5", 0.5), (math.inf, None), (None, None), ("nan", None)])
def test_numbers(value: Any, found: float | None) -> None:
    assert number(value) == found
