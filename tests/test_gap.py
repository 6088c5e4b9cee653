"""The alignment gap: halts when the proxy leaves the truth, and is silent on what only looks like it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.rollout.gap import BASELINE, Alarm, Evaluation, best, evaluation, watch
from gristmill.rollout.gap_log import Columns, read_log

N = 60


def series(seed: int, *, gap: Any = 0.0, gold: Any = 0.0, scale: Any = 1.0, n: int = N) -> list[Evaluation]:
    """Evaluations of 64 prompts; `gap`, `gold` and the proxy's `scale` are numbers or one for each evaluation."""
    rng = np.random.default_rng(seed)
    found = []
    for at in range(n):
        add, level, times = (float(np.broadcast_to(each, n)[at]) for each in (gap, gold, scale))
        truth = 0.4 + level + rng.normal(size=64) * 0.2 + rng.normal() * 0.01
        proxy = (truth + 0.1 + add + rng.normal(size=64) * 0.05 + rng.normal() * 0.01) * times
        found.append(evaluation(at, [[p] for p in proxy], [[g] for g in truth]))
    return found


def statuses(alarms: list[Alarm]) -> set[str]:
    return {each.status for each in alarms[BASELINE:]}


RAMP = np.concatenate([np.zeros(30), np.arange(30) * 0.01])


def test_too_few_evaluations_are_never_ok() -> None:
    alarms = watch(series(0, n=BASELINE))
    assert {each.status for each in alarms} == {"insufficient"}
    assert alarms[-1].why == f"1 more until there is a baseline of {BASELINE}"
    assert watch(series(0, n=BASELINE + 1))[-1].status == "ok" and watch([]) == []


def test_a_healthy_run_is_ok_also_when_both_rise() -> None:
    for seed in range(10):
        assert statuses(watch(series(seed, gold=np.arange(N) * 0.005))) == {"ok"}


def test_a_proxy_that_leaves_a_standing_gold_halts_soon() -> None:
    for seed in range(10):
        alarms = watch(series(seed, gap=RAMP))
        halt = next(each.step for each in alarms if each.status == "halt")
        assert 30 <= halt <= 55
        assert {each.status for each in alarms[BASELINE:30]} == {"ok"}


def test_a_growing_gap_with_a_rising_gold_is_only_warned_of() -> None:
    found = [statuses(watch(series(seed, gap=RAMP, gold=np.arange(N) * 0.01))) for seed in range(10)]
    assert all("warn" in each for each in found) and sum("halt" in each for each in found) <= 1


def test_a_spike_is_no_drift() -> None:
    gap = np.zeros(N)
    gap[40] = 5.0
    assert statuses(watch(series(1, gap=gap))) == {"ok"}


def test_a_rescaled_proxy_begins_a_new_baseline() -> None:
    scale = np.where(np.arange(90) < 40, 1.0, 10.0)
    alarms = watch(series(2, scale=scale, n=90))
    assert "halt" not in {each.status for each in alarms}
    assert alarms[39].status == "ok" and alarms[50].status == "insufficient" and alarms[-1].status == "ok"
    assert (
        watch(series(2, scale=scale, n=90, gap=np.concatenate([np.zeros(70), np.arange(20) * 0.03])))[-1].status
        == "halt"
    )


def test_missing_scores_leave_the_state_as_it_was() -> None:
    found = series(3)
    found[45] = found[45]._replace(proxy=float("nan"))
    alarms = watch(found)
    assert alarms[45].status == "ok" and alarms[45].why == "no scores at this step" and alarms[-1].status == "ok"


def test_a_constant_baseline_can_still_alarm() -> None:
    steady = [Evaluation(at, 64, 0.5 + (0.02 * (at - 30) if at > 30 else 0), 0.5, 0, 0, 0) for at in range(50)]
    alarms = watch(steady)
    assert alarms[29].status == "ok" and alarms[-1].status == "halt"


def test_outputs_to_one_prompt_go_together() -> None:
    found = evaluation(1, [[1, 0], [1, np.nan]], [[0, 0], [1, 1]])
    assert (found.prompts, found.proxy, found.gold) == (2, 0.75, 0.5)
    assert np.isnan(evaluation(1, [[np.nan]], [[1]]).proxy)
    with pytest.raises(UsageError, match="same outputs"):
        evaluation(1, [[1]], [[1, 2]])


def test_the_checkpoint_to_go_back_to_has_the_best_gold() -> None:
    found = best(series(4, gold=np.concatenate([np.arange(30) * 0.02, np.arange(30, 0, -1) * 0.02])))
    assert found is not None and 25 <= found.step <= 35 and best([]) is None


def log(path: Path, found: np.ndarray, *, prompts: int = 40, rows: Any = None) -> str:
    """A log as TRL writes completions, with a gold column; `found` is the gap at each step."""
    rng = np.random.default_rng(5)
    lines = []
    for step, add in enumerate(found):
        for prompt in range(prompts):
            gold = 0.4 + rng.normal() * 0.2
            row = {
                "step": step,
                "prompt": [{"role": "user", "content": f"p{prompt}"}],
                "completion": f"c{step}-{prompt}",
            }
            lines.append(row | {"reward": gold + add + rng.normal() * 0.05, "truth": gold})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines + (rows or [])))
    return str(path)


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(["gap", *arguments])
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["--proxy", "reward", "--gold", "truth"]
    code, out, _ = cli(capsys, log(tmp_path / "a.jsonl", RAMP), *columns, "--evidence", str(tmp_path / "e"), "--json")
    told = json.loads(out)
    assert code == 1 and told["status"] == "halt" and told["first_halt"] > 30
    worst = [json.loads(line) for line in (tmp_path / "e" / "counterexamples.jsonl").read_text().splitlines()]
    assert len(worst) == 20 and all(row["step"] >= 55 for row in worst)
    assert json.loads((tmp_path / "e" / "report.json").read_text())["status"] == "halt"
    code, out, _ = cli(capsys, log(tmp_path / "b.jsonl", np.zeros(40)), *columns)
    assert code == 0 and out.startswith("ok at step 39")
    code, out, err = cli(capsys, log(tmp_path / "c.jsonl", np.zeros(5)), *columns)
    assert code == 1 and "insufficient" in out and err.count("\n") == 1


def test_a_step_with_other_prompts_is_left_out(tmp_path: Path) -> None:
    other = [{"step": 40, "prompt": f"new{n}", "completion": "c", "reward": 9, "truth": 0} for n in range(40)]
    found = read_log([log(tmp_path / "a.jsonl", np.zeros(40), rows=other)], Columns("reward", "truth"))
    assert found.left_out == {40: "has 0 of the first step's 40 prompts"} and found.alarms[-1].status == "ok"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--proxy", "reward", "--gold", "reward"], "the gold is the proxy itself"),
        (["--proxy", "nothing", "--gold", "truth"], "no column 'nothing'"),
        (["--proxy", "completion", "--gold", "truth"], "scores are numbers"),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, _, err = cli(capsys, log(tmp_path / "a.jsonl", np.zeros(3)), *arguments)
    assert code == 2 and said in err and err.count("\n") == 1
