"""The recipes run as they are: offline, with the scripted model, to files a trainer loads."""

import json
import runpy
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from gristmill.run import Run

RECIPES = Path(__file__).parent.parent / "recipes"


def test_sft_makes_chat_rows_and_asks_nothing_twice(tmp_path, capsys):
    main = runpy.run_path(str(RECIPES / "sft.py"))["main"]
    model = f"fake:{RECIPES / 'sft' / 'fake.yaml'}"
    found = main(Run(tmp_path / "run"), tmp_path / "out", model)
    assert "480 candidates of 480 calls, 0 of them answered before" in capsys.readouterr().out

    assert {"exact_duplicate", "near_duplicate", "refusal", "repetitive"} <= found["dropped"].keys()
    lines = (tmp_path / "out" / "filtered" / "kept.jsonl").read_text().splitlines()
    assert len(lines) == found["rows_kept"] == found["rows_in"] - sum(found["dropped"].values()) > 0
    turns = [json.loads(line)["messages"] for line in lines]
    assert {tuple(turn["role"] for turn in each) for each in turns} == {("user", "assistant")}
    assert max(Counter(each[-1]["content"] for each in turns).values()) == 1

    again = main(Run(tmp_path / "run"), tmp_path / "out", model)
    assert "480 candidates of 480 calls, 480 of them answered before" in capsys.readouterr().out
    assert again["dropped"] == found["dropped"]


def test_the_scripted_teacher_is_worse_at_both_ends_of_the_ladder(tmp_path, capsys):
    main = runpy.run_path(str(RECIPES / "sft.py"))["main"]
    main(Run(tmp_path / "run"), tmp_path / "out", f"fake:{RECIPES / 'sft' / 'fake.yaml'}")
    capsys.readouterr()
    rows = pq.read_table(tmp_path / "out" / "filtered" / "rows.parquet").to_pylist()
    counts = Counter((json.loads(row["sampling"])["temperature"], row["drop_rule"]) for row in rows)
    assert counts[0.3, "exact_duplicate"] > counts[1.1, "exact_duplicate"]
    assert counts[1.1, "repetitive"] > counts[0.3, "repetitive"] == 0
