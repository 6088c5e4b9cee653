"""The score `math` against verdicts that others reached on real rollouts, every disagreement classified by hand.

`tests/data/math_disagreements.json` says of each whose verdict is right, and why; it names rows and holds no text. The
data is not part of the repository: where it is absent these tests are skipped, and `test_math.py` stands alone.
"""

import gzip
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gristmill.score.named import score
from gristmill.score.score import Item, Verdict

DATA = Path(os.environ.get("GRISTMILL_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
DISAGREEMENTS = json.loads((Path(__file__).parent / "data" / "math_disagreements.json").read_text())


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {name} in {DATA}; set GRISTMILL_DATA")
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def asked(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def judged(items: list[Item], **policies: object) -> list[Verdict]:
    return score("math", **policies)(items)


def share_ours(names: list[str], listed: dict[str, str]) -> float:
    unknown = [name for name in names if name not in listed]
    assert not unknown, f"disagreements that nobody has classified: {unknown}"
    return sum(listed[name].startswith("ours") for name in names) / len(names)


def test_gsm8k_rollouts_are_judged_as_openai_judged_them() -> None:
    data = rows("gsm8k_rollouts/example_model_solutions.jsonl.gz")
    verdicts = judged([Item(row["solution"], row["ground_truth"]) for row in data])
    assert [verdict.value == 1 for verdict in verdicts] == [row["is_correct"] for row in data]


def test_qwen_math_rollouts() -> None:
    data = rows("qwen_math_rollouts/math_cot_100x8.jsonl.gz")
    verdicts = judged([Item(row["response"], row["gold"], asked(row["question"])) for row in data])
    differ = [
        f"{row['idx']}/{row['sample']}"
        for row, verdict in zip(data, verdicts, strict=True)
        if (verdict.value == 1) != bool(row["is_correct"])
    ]
    assert share_ours(differ, DISAGREEMENTS["qwen_math_rollouts"]) >= 0.95


@cache
def evaltree(gold: str) -> list[tuple[dict[str, Any], Verdict]]:
    problems = {row["math_row"]: row for row in rows("evaltree_math_rollouts/problems.jsonl.gz")}
    data = rows("evaltree_math_rollouts/rollouts_1000x8.jsonl.gz")
    items = [
        Item(row["generation"], (row | problem)[gold], asked(problem["problem"]))
        for row in data
        for problem in [problems[row["math_row"]]]
    ]
    return list(zip(data, judged(items), strict=True))


@pytest.mark.parametrize(
    ("gold", "theirs", "at_least"),
    [
        ("boxed_gold", "exact_match", 0.95),
        ("boxed_gold", "exact_match_flex", 0.95),
        ("gold", "exact_match", 0.95),
        ("gold", "exact_match_flex", 0.9),  # six references lost their left side, and the set is smaller
    ],
)
def test_evaltree_math_rollouts(gold: str, theirs: str, at_least: float) -> None:
    """`gold` went through a normaliser of its authors that damaged some; `boxed_gold` is from the solution."""
    listed = DISAGREEMENTS["evaltree_math_rollouts"][gold]
    differ = [
        f"{row['k']}/{row['run']}" for row, verdict in evaltree(gold) if (verdict.value == 1) != bool(row[theirs])
    ]
    assert share_ours(differ, listed) >= at_least
    assert not Counter(listed[name].split(":")[0] for name in differ)["theirs"]


def test_math_equivalence_cases_differ_only_by_policy() -> None:
    cases = [
        (f"math_verify/{row['n']}", Item(row["pred"], row["gold"]), bool(row["expected"]))
        for row in rows("math_equivalence_cases/math_verify_cases.jsonl.gz")
    ]
    cases += [
        (f"inspect/{row['n']}", Item(row["output"], row["target"]), row["expected"] == "C")
        for row in rows("math_equivalence_cases/inspect_math_cases.jsonl.gz")
    ]
    listed = DISAGREEMENTS["math_equivalence_cases"]
    verdicts = judged([item for _, item, _ in cases])
    differ = [case for case, verdict in zip(cases, verdicts, strict=True) if (verdict.value == 1) != case[2]]
    assert [name for name, _, _ in differ if name not in listed] == []
    assert len(differ) <= 0.1 * len(cases)
    left = 0
    for name, item, expected in differ:
        policy = dict([listed[name].split("=")]) if "=" in listed[name] else {}
        (verdict,) = judged(
            [item], **{key: float(value) if key == "tolerance" else value for key, value in policy.items()}
        )
        left += (verdict.value == 1) != expected
    assert left <= 0.03 * len(cases)
