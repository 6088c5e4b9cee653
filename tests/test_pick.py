"""Sets from rollouts: what is picked, what is not and why, and feedback that does not teach length."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.records import SCHEMAS, row_id
from gristmill.rollout.groups import Solved
from gristmill.rollout.pairs import kto_weights, pick_labels, pick_pairs
from gristmill.rollout.pick import pick_prompts, pick_sft
from gristmill.rollout.rollouts import Rollouts, read_rollouts
from gristmill.score.reward import Component, Reward
from gristmill.score.score import Item, Score, Verdict
from gristmill.score.trainers import TrlReward, VerlReward, trl_reward, verl_reward

RIGHT = Solved("right")


def rollouts(
    tmp_path: Path, *outputs: tuple[str, str, float | None], model: str = "m", **scores: list[Any]
) -> Rollouts:
    """Outputs as (prompt, response, score_right)."""
    rows = [
        {
            "prompt": p,
            "response": r,
            "model": model,
            "score_right": s,
            **{f"score_{k}": v[n] for k, v in scores.items()},
        }
        for n, (p, r, s) in enumerate(outputs)
    ]
    path = tmp_path / f"rollouts{len(list(tmp_path.iterdir()))}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_rollouts(str(path))


def reasons(table: pa.Table) -> list[str | None]:
    return table["drop_rule"].to_pylist()  # type: ignore[no-any-return]


def test_rejection_keeps_the_best_that_pass_every_axis_and_says_why_not(tmp_path: Path) -> None:
    found = rollouts(
        tmp_path,
        *[("a", "xxx", 1), ("a", "xx", 1), ("a", "x", 0), ("b", "y", None), ("b", "yy", 1), ("a", "x!", 1)],
        fluent=[0.9, 0.9, 0.9, 0.9, 0.1, 0.9],
    )
    table, told = pick_sft(found, {"right": 1, "fluent": 0.5}, by="fluent")
    assert reasons(table) == ["not_best", None, "below_right", "unjudged_right", "below_fluent", "not_best"]
    assert table["drop_value"].to_pylist() == [3, None, 0, None, 0.1, 2]  # of equal ones the shorter, then the earlier
    assert table["drop_limit"].to_pylist() == [1, None, 1, 1, 0.5, 1]
    assert (told["rows_kept"], told["prompts"], told["prompts_kept"]) == (1, 2, 1)
    assert told["dropped"] == {"not_best": 2, "below_right": 1, "unjudged_right": 1, "below_fluent": 1}


@pytest.mark.parametrize(("take", "cap", "kept"), [("all", None, 3), (2, None, 2), ("all", 2, 2), ("best", None, 1)])
def test_how_many_are_taken(tmp_path: Path, take: Any, cap: int | None, kept: int) -> None:
    found = rollouts(tmp_path, *[("a", "x" * n, 1) for n in range(1, 4)], ("a", "no", 0))
    assert pick_sft(found, {"right": 1}, by="right", take=take, cap=cap)[1]["rows_kept"] == kept


def test_one_axis_that_decides_nearly_everything_is_named(tmp_path: Path) -> None:
    outputs = [(f"p{n}", "r", float(n % 2)) for n in range(100)]
    found = rollouts(tmp_path, *outputs, fluent=[1.0] * 100)
    assert pick_sft(found, {"right": 1, "fluent": 0.5}, by="right")[1]["decides"] == "right"
    found = rollouts(tmp_path, *outputs, fluent=[float(n % 3 > 0) for n in range(100)])
    assert pick_sft(found, {"right": 1, "fluent": 0.5}, by="right")[1]["decides"] is None


def test_pairs_are_right_against_wrong_and_matched_by_length(tmp_path: Path) -> None:
    outputs = [
        ("a", "x" * 100, 1.0),
        ("a", "x" * 10, 1.0),
        ("a", "y" * 12, 0.0),
        ("a", "y" * 300, 0.0),
        ("b", "z", 1.0),
    ]
    found = rollouts(tmp_path, *outputs, ("c", "w", 0), ("d", "v", None))
    table, told = pick_pairs(found, RIGHT)
    assert table.num_rows == 1 and len(table["chosen"][0].as_py()) == 10 and len(table["rejected"][0].as_py()) == 12
    assert told["prompts_without_pair"] == {"all_right": 1, "all_wrong": 1, "unjudged": 1}
    assert table.schema.names == SCHEMAS["preference"].names and table["margin"][0].as_py() == 1
    row = table.to_pylist()[0]
    assert row["id"] == row_id("preference", row) and len(row["parents"]) == 2 and row["policy"] == "m"
    assert pick_pairs(found, RIGHT, per_prompt=5)[0].num_rows == 2
    assert pick_pairs(found, RIGHT, policy="newer")[1]["other_policy"] == 1


def test_pairs_do_not_mix_models_unless_told(tmp_path: Path) -> None:
    one, other = rollouts(tmp_path, ("a", "r", 1), model="m1"), rollouts(tmp_path, ("a", "w", 0), model="m2")
    both = Rollouts(pa.concat_tables([one.table, other.table]), np.array([0, 0]))
    with pytest.raises(UsageError, match=r"no prompt has a pair: 1 other_model; .* --across-models"):
        pick_pairs(both, RIGHT)
    assert pick_pairs(both, RIGHT, across=True)[0]["policy"].to_pylist() == ["m1+m2"]


def test_length_is_no_teacher_where_it_need_not_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    outputs = []
    for n in range(300):  # the right ones are longer on the whole
        outputs += [(f"p{n}", "r" * int(rng.normal(220, 60)), 1.0) for _ in range(4)]
        outputs += [(f"p{n}", "w" * int(rng.normal(180, 60)), 0.0) for _ in range(4)]
    told = pick_pairs(rollouts(tmp_path, *outputs), RIGHT)[1]
    assert told["pairs"] == 300 and abs(told["longer_is_chosen"] - 0.5) < 0.1


def test_labels_and_their_weights(tmp_path: Path) -> None:
    table, told = pick_labels(
        rollouts(tmp_path, ("a", "x", 1), ("a", "y", 0), ("a", "z", 0.5), ("b", "w", None)), RIGHT
    )
    assert table["label"].to_pylist() == [True, False, False] and told["unjudged"] == 1
    assert told["weights"] == {"desirable_weight": 2.0, "undesirable_weight": 1.0}
    assert kto_weights(5, 4) == {"desirable_weight": 1, "undesirable_weight": 1}
    assert kto_weights(8, 3) == {"desirable_weight": 1, "undesirable_weight": 2}  # 8 / (2 x 3) = 4 / 3
    assert kto_weights(5, 0) is None


def test_prompts_are_dropped_only_when_it_is_sure(tmp_path: Path) -> None:
    outputs = [("easy", f"{n}", 1.0) for n in range(32)] + [("hard", f"{n}", 0.0) for n in range(32)]
    found = rollouts(tmp_path, *outputs, *[("few", f"{n}", 1.0) for n in range(3)])
    table, told = pick_prompts(found, RIGHT)
    assert reasons(table) == ["too_easy", None, None] and table["flag_band"].to_pylist() == ["easy", "hard", "unknown"]
    assert reasons(pick_prompts(found, RIGHT, low=0.2)[0]) == ["too_easy", "too_hard", None]
    assert told["prompts_kept"] == 2
    first = table.to_pylist()[0]
    assert first["id"] == row_id("prompt", first) and first["drop_limit"] == 0.625


def test_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = rollouts(tmp_path, ("a", "xx", 1), ("a", "y", 0), ("b", "z", 1))
    pq.write_table(found.table, "r.parquet")

    def cli(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            command(["pick", *arguments])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    for kind, rows in {"sft": 3, "preference": 1, "label": 3, "prompt": 2}.items():
        code, _, err = cli("r.parquet", "--for", kind, "--solved", "right", "-o", f"{kind}.parquet")
        assert code == 0, err
        assert pq.read_table(f"{kind}.parquet").num_rows == rows
    assert (
        json.loads(cli("r.parquet", "--for", "sft", "--solved", "right>=0", "-o", "s.parquet", "--json")[1])[
            "rows_kept"
        ]
        == 2
    )
    for arguments, said in {
        ("--for", "dpo", "--solved", "right"): "allowed are sft",
        ("--for", "sft", "--solved", "wrong"): "allowed: right",
        ("--for", "sft", "--solved", "right", "--take", "0"): "--take 0",
        ("--for", "sft", "--solved", "right", "--min", "right=much"): "--min",
        ("--for", "prompt", "--solved", "right", "--low", "0.9"): "low must be below high",
    }.items():
        code, _, err = cli("r.parquet", *arguments, "-o", "x.parquet")
        assert code == 2 and said in err and err.count("\n") == 1


def reference_first(items: Any) -> list[Verdict]:
    """Right where the response begins with the reference; ? cannot be judged."""
    return [
        Verdict(None, "unjudged")
        if item.response == "?"
        else Verdict(float(item.response.startswith(item.reference)), "scored")
        for item in items
    ]


REWARD = Reward((Component(Score("right", "1", reference_first)),), name="mine")


def test_trl_gets_one_number_or_none_for_each_completion() -> None:
    reward = pickle.loads(pickle.dumps(TrlReward(REWARD)))
    assert reward.__name__ == "mine"
    logged: dict[str, float] = {}
    got = reward(
        prompts=["a", "a", [{"role": "user", "content": "b"}], [{"role": "user", "content": "b"}]],
        completions=["4 it is", "5", [{"role": "assistant", "content": "7"}], "?"],
        completion_ids=[[1]] * 4,
        answer=["4", "4", 7, 7],
        trainer_state=None,
        log_metric=logged.__setitem__,
    )
    assert got == [1, 0, 1, None]
    assert logged == {"mine/right": pytest.approx(2 / 3), "mine/right_unjudged": 0.25}


def test_trl_groups_are_neighbours_with_equal_prompts() -> None:
    scaled = TrlReward(Reward((Component(Score("right", "1", reference_first), normalize="minmax"),)))
    assert scaled(prompts=["a", "a", "b", "b"], completions=["1", "2", "1", "1"], answer=["1"] * 4) == [1, 0, 0.5, 0.5]


def test_verl_gets_numbers_and_is_told_what_stands_for_none(tmp_path: Path) -> None:
    score = VerlReward(REWARD, unjudged=-1)
    assert score("gsm8k", "4", 4, {"question": "2+2"}) == {"score": 1, "right": 1}
    assert score(data_source="x", solution_str="?", ground_truth="4", extra_info=None) == {"score": -1, "right": -1}
    with pytest.raises(UsageError, match="one output at a time"):
        VerlReward(Reward((Component(Score("right", "1", reference_first), normalize="z"),)), unjudged=0)
    (tmp_path / "r.yaml").write_text("components: [{score: exact}]")
    assert verl_reward(tmp_path / "r.yaml", unjudged=0, run=tmp_path / "run")("s", "4", "4")["score"] == 1
    assert trl_reward(tmp_path / "r.yaml", run=tmp_path / "run")(prompts=["p"], completions=["4"], answer=["4"]) == [1]
    assert Item("x").question == ""
