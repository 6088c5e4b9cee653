"""The whole filter: files in, a directory of explained rows out."""

import json
import random
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from gristmill.errors import BadInput, UsageError
from gristmill.filter.pipeline import Settings, filter_files

ENDINGS = ("ing", "er", "s", "y", "ed", "")
WORDS = [f"{stem}{ending}" for stem in ("mill", "grain", "stone", "river", "wheel") for ending in ENDINGS]


def essay(seed: int, words: int = 60) -> str:
    """Words in an order that no other seed shares."""
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + "."


LONG = [f"Number {n}: {essay(n)}" for n in range(60)]
QUESTION = (
    "Kim picked eleven red apples on Monday and seven green pears on Tuesday; how many fruits did Kim pick in all?"
)


def pile() -> list[dict[str, object]]:
    """Rows with one defect of every default stage among good ones."""
    rows: list[dict[str, object]] = [
        {"instruction": f"Tell me story {n}.", "output": text, "quality": 1 + n % 5} for n, text in enumerate(LONG[:30])
    ]
    rows += [
        {"instruction": "Say nothing.", "output": "", "quality": 5},
        {"instruction": "Tell me story 3.", "output": LONG[3].upper(), "quality": 4},
        {"instruction": "Tell me story 4.", "output": LONG[4] + " The end.", "quality": 5},
        {"instruction": QUESTION, "output": "Kim picked 18 fruits.", "quality": 5},
        {"instruction": "Is it wet?", "output": "I'm sorry, but I can't help with that request.", "quality": 5},
    ]
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def milled(tmp_path):
    data = write(tmp_path / "data.jsonl", pile())
    evaluation = write(tmp_path / "eval.jsonl", [{"question": QUESTION, "answer": "18"}])
    summary = filter_files([data], tmp_path / "out", Settings(against=[evaluation], minimum={"quality": 2.0}))
    return tmp_path / "out", summary


def rows_of(out):
    return pq.read_table(out / "rows.parquet").to_pylist()


def test_every_row_is_there_in_input_order_and_every_drop_has_its_reason(milled):
    rows = rows_of(milled[0])
    assert [row["source_row"] for row in rows] == list(range(len(pile())))
    rules = {row["source_row"]: row["drop_rule"] for row in rows if row["drop_rule"]}
    # Of two duplicates the one with the smaller id is kept, whichever came first.
    assert {rules.pop(3, None), rules.pop(31, None)} == {None, "exact_duplicate"}
    assert {rules.pop(4, None), rules.pop(32, None)} == {None, "near_duplicate"}
    assert rules == dict.fromkeys(range(0, 30, 5), "below_quality") | {30: "empty", 33: "contaminated", 34: "refusal"}
    for row in rows:
        told = row["drop_rule"] not in (None, "below_quality")  # a score says all there is in value and limit
        assert (row["drop_evidence"] is not None) == told
        assert (row["drop_value"] is None) == (row["drop_limit"] is None) == (row["drop_rule"] is None)
        if told:
            json.loads(row["drop_evidence"])


def test_rows_are_conserved_and_counted(milled):
    out, summary = milled
    rows = rows_of(out)
    assert summary["rows_in"] == len(rows) == summary["rows_kept"] + sum(summary["dropped"].values())
    assert summary["rows_kept"] == sum(row["drop_rule"] is None for row in rows)
    assert summary["yield"] == pytest.approx(summary["rows_kept"] / summary["rows_in"])
    names = [stage["name"] for stage in summary["stages"]]
    assert names == ["read + rules", "scores", "contamination", "exact", "near", "openings"]
    for before, after in pairwise(summary["stages"]):
        assert after["rows_in"] == before["rows_in"] - before["dropped"]
    assert {"seconds", "peak_rss_mb", "runner", "rules", "balance", "alarms", "rows_bad"} <= summary.keys()
    assert json.loads((out / "summary.json").read_text())["rows_kept"] == summary["rows_kept"]


def test_evidence_of_a_duplicate_names_a_kept_row(milled):
    rows = {(row["id"], row["copy"]): row for row in rows_of(milled[0])}
    duplicates = [row for row in rows.values() if row["drop_rule"] in ("exact_duplicate", "near_duplicate")]
    assert len(duplicates) == 2
    for row in duplicates:
        evidence = json.loads(row["drop_evidence"])
        assert rows[evidence["id"], evidence["copy"]]["drop_rule"] is None
        assert row["drop_value"] >= row["drop_limit"]


def test_kept_files_hold_the_kept_rows_in_order(milled):
    out, _ = milled
    kept = [row for row in rows_of(out) if row["drop_rule"] is None]
    assert pq.read_table(out / "kept.parquet")["id"].to_pylist() == [row["id"] for row in kept]
    chats = [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]
    assert [chat["messages"][-1]["content"] for chat in chats] == [row["response"] for row in kept]
    assert all([m["role"] for m in chat["messages"]] == ["user", "assistant"] for chat in chats)


def test_the_same_rows_come_out_whatever_the_files_and_their_order(tmp_path):
    rows = pile() * 2
    one = write(tmp_path / "one.jsonl", rows)
    parts = [write(tmp_path / f"part{n}.jsonl", rows[n::3]) for n in range(3)]
    filter_files([one], tmp_path / "a", Settings())
    filter_files(parts[::-1], tmp_path / "b", Settings())

    def decided(out):
        return sorted(
            (r["id"], r["copy"], r["drop_rule"], r["drop_value"], r["drop_limit"], r["drop_evidence"])
            for r in rows_of(out)
        )

    assert decided(tmp_path / "a") == decided(tmp_path / "b")


def test_stages_can_be_turned_off(tmp_path):
    data = write(tmp_path / "data.jsonl", pile())
    summary = filter_files([data], tmp_path / "out", Settings(rules=(), exact=False, near=None))
    assert summary["dropped"] == {}
    assert summary["near_duplicates"] is None


def test_identical_rows_are_near_duplicates_where_exact_is_off(tmp_path):
    data = write(tmp_path / "data.jsonl", [pile()[0]] * 3)
    summary = filter_files([data], tmp_path / "out", Settings(exact=False))
    assert summary["dropped"] == {"near_duplicate": 2}


def test_top_rows_are_kept_by_score(tmp_path):
    data = write(tmp_path / "data.jsonl", pile()[:30])
    summary = filter_files([data], tmp_path / "out", Settings(keep_top=(0.2, "quality"), near=None))
    assert summary["rows_kept"] == 6
    assert all(row["score_quality"] == 5 for row in rows_of(tmp_path / "out") if row["drop_rule"] is None)


def test_bad_rows_are_listed_with_file_line_and_reason(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(
        '{"instruction": 3, "output": "x"}\n' + "".join(json.dumps(row) + "\n" for row in pile()) + "{nope\n"
    )
    summary = filter_files([str(data)], tmp_path / "out", Settings())
    bad = [json.loads(line) for line in (tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in bad] == [(str(data), 0), (str(data), len(pile()) + 1)]
    assert "instruction is a number" in bad[0]["reason"]
    assert (summary["rows_bad"], summary["rows_in"]) == (2, len(pile()))


def test_too_many_bad_rows_stop_the_filter_and_leave_the_old_output(milled, tmp_path):
    out, summary = milled
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n" * 10 + json.dumps(pile()[0]) + "\n")
    with pytest.raises(BadInput, match=r"10 of 11 rows cannot be read.*all of them: .*out\.bad_rows\.jsonl"):
        filter_files([str(bad)], out, Settings())
    assert len((tmp_path / "out.bad_rows.jsonl").read_text().splitlines()) == 10
    assert not (tmp_path / ".out.partial").exists()
    assert json.loads((out / "summary.json").read_text())["rows_in"] == summary["rows_in"]


def test_an_output_of_ours_is_replaced_and_anything_else_is_refused(milled, tmp_path):
    out, _ = milled
    data = write(tmp_path / "few.jsonl", pile()[:3])
    assert filter_files([data], out, Settings())["rows_in"] == 3
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        filter_files([data], theirs, Settings())
    assert filter_files([data], theirs, Settings(), force=True)["rows_in"] == 3


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": f"Question {n}: {text}", "chosen": "It is so.", "rejected": "No."} for n, text in enumerate(LONG)],
        [{"prompt": f"Question {n}: {text}"} for n, text in enumerate(LONG)],
        [
            {"prompt": f"Question {n}: {text}", "completion": "It is so.", "label": n % 2 == 0}
            for n, text in enumerate(LONG)
        ],
    ],
    ids=["preference", "prompt", "label"],
)
def test_every_kind_of_row_is_filtered(tmp_path, rows):
    data = write(tmp_path / "data.jsonl", [*rows, rows[0]])
    summary = filter_files([data], tmp_path / "out", Settings())
    assert summary["dropped"].get("exact_duplicate") == 1
    assert len((tmp_path / "out" / "kept.jsonl").read_text().splitlines()) == summary["rows_kept"]


def test_an_output_that_holds_an_input_or_a_foreign_file_is_not_replaced(milled, tmp_path):
    out, _ = milled
    with pytest.raises(UsageError, match="would replace the input"):
        filter_files([str(out / "kept.jsonl")], out, Settings(), force=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        filter_files([str(tmp_path / "data.jsonl")], out, Settings())


def test_a_file_that_breaks_off_raises_an_alarm(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(pile())[:-40])
    summary = filter_files([str(tmp_path / "a.json")], tmp_path / "out", Settings())
    assert [alarm["name"] for alarm in summary["alarms"]] == ["broken_file"]


def test_rows_nobody_answered_pass_without_rules(tmp_path):
    rows = [{"instruction": "Ask.", "output": None}] * 3 + pile()[:2]
    evaluation = write(tmp_path / "eval.jsonl", [{"question": QUESTION}])
    settings = Settings(rules=(), exact=False, near=None, against=[evaluation])
    assert filter_files([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", settings)["rows_kept"] == 5
    first = json.loads((tmp_path / "out" / "kept.jsonl").read_text().splitlines()[0])
    assert first == {"messages": [{"role": "user", "content": "Ask."}]}
