"""The recipes run as they are: offline, with the scripted model, to files a trainer loads."""

import json
import runpy
from collections import Counter
from pathlib import Path

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

    # The scripted teacher repeats itself when cold and rambles when hot; the yields show it.
    cold, _, hot = found["yields"]
    assert [(each["by"], each["value"], each["rows"]) for each in (cold, hot)] == [
        ("temperature", 0.3, 160),
        ("temperature", 1.1, 160),
    ]
    assert cold["dropped"]["exact_duplicate"] > hot["dropped"]["exact_duplicate"]
    assert "repetitive" in hot["dropped"] and "repetitive" not in cold["dropped"]

    again = main(Run(tmp_path / "run"), tmp_path / "out", model)
    assert "480 candidates of 480 calls, 480 of them answered before" in capsys.readouterr().out
    assert again["dropped"] == found["dropped"]


def test_rollouts_make_groups_and_four_sets_of_them(tmp_path, capsys):
    main = runpy.run_path(str(RECIPES / "rollouts.py"))["main"]
    model = f"fake:{RECIPES / 'rollouts' / 'fake.yaml'}"
    found = main(Run(tmp_path / "run"), tmp_path / "out", model)
    assert "480 outputs to 60 problems, 0 of them answered before" in capsys.readouterr().out
    assert [each["score"] for each in found["components"]] == ["accuracy", "completeness", "verification"]
    assert found["components"][0]["share"] > 0.5  # correctness dominates, and not alone
    assert not found["dominant"]

    def rows(name):
        return [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]

    assert {tuple(row) for row in rows("sft")} == {("messages",)} and len(rows("sft")) > 50
    assert {tuple(row) for row in rows("preference")} == {("prompt", "chosen", "rejected")}
    assert {tuple(row) for row in rows("kto")} == {("prompt", "completion", "label")} and len(rows("kto")) == 480
    assert len(rows("prompt")) == 60 - found["bands"]["easy"]

    main(Run(tmp_path / "run"), tmp_path / "out", model)
    assert "480 outputs to 60 problems, 480 of them answered before" in capsys.readouterr().out
