"""Training that needs no torch: what it is told, commands, the record, and that nothing is trained twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.errors import Refused, UsageError
from gristmill.run import Run
from gristmill.train.pipeline import train
from gristmill.train.record import record_of, told
from gristmill.train.settings import Settings, Watch, check_names, rank_warning, read_args

COPY = f"{sys.executable} train.py {{data}} {{model}} {{out}}"
SCRIPT = """\
import json, pathlib, sys
data, model, out = map(pathlib.Path, sys.argv[1:])
if (fail := pathlib.Path("fail")).exists():
    (out / "half").write_text("done so far")
    sys.exit(3)
calls = pathlib.Path("calls")
calls.write_text((calls.read_text() if calls.exists() else "") + ("again " if (out / "half").exists() else "new "))
(out / "config.json").write_text((model / "config.json").read_text())
(out / "learned").write_text(str([json.loads(line)["messages"][-1]["content"] for line in data.open()]))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with rows, a model (its configuration alone) and a trainer, which is a script."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {n}?", "response": f"answer {n}"}) + "\n" for n in range(4))
    )
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def trained(here: Path, **more: object) -> dict:
    settings = Settings("sft", command=COPY, **more)  # type: ignore[arg-type]
    return train(str(here / "data.jsonl"), "hf:base", here / "model", settings, run=Run(here / "run"))


def test_a_command_trains_and_the_model_leads_back_to_its_rows(here: Path) -> None:
    record = trained(here)
    assert (here / "model" / "learned").read_text() == str([f"answer {n}" for n in range(4)])
    assert record["data"]["rows"] == 4
    made = told(here / "model")
    assert [step["name"] for step in made["steps"]] == ["read"]
    assert made["steps"][0]["inputs"] == [str(here / "data.jsonl")]
    rows = Run(here / "run").result(made["data"]["step"]).to_pylist()
    assert [row["response"] for row in rows] == [f"answer {n}" for n in range(4)]
    shown = CliRunner().invoke(app, ["why", str(here / "model")])
    assert "4 rows" in shown.stdout
    assert str(here / "run") in shown.stdout.replace("\n", "")


def test_what_is_finished_is_not_trained_again_and_what_changed_is(here: Path) -> None:
    assert not trained(here)["again"]
    assert trained(here)["again"]
    assert (here / "calls").read_text() == "new "
    with (here / "data.jsonl").open("a") as file:
        file.write('{"prompt": "One more?", "response": "yes"}\n')
    assert not trained(here)["again"]
    assert trained(here, seed=1)["again"] is False
    (here / "model" / "learned").unlink()
    assert trained(here, seed=1)["again"] is False


def test_a_command_that_fails_is_refused_and_goes_on_where_it_was(here: Path) -> None:
    (here / "fail").touch()
    with pytest.raises(Refused, match="ended with 3"):
        trained(here)
    assert not (here / "model").exists()
    (here / "fail").unlink()
    trained(here)
    assert (here / "calls").read_text() == "again "


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("train.sh {out}", "{data}"),
        ("train.sh {data}", "{out}"),
        ("no-such-program {data} {out}", "no-such-program"),
        ("sh -c 'exit 0 {data} {out}", "quotation"),
        ("true {data} {out}", "is empty"),
    ],
)
def test_a_command_that_cannot_train_is_named(here: Path, command: str, named: str) -> None:
    settings = Settings("sft", command=command)
    with pytest.raises((UsageError, Refused), match=named):
        train(str(here / "data.jsonl"), "hf:base", here / "model", settings, run=Run(here / "run"))


def test_a_directory_of_someone_else_is_not_replaced(here: Path) -> None:
    (here / "model").mkdir()
    (here / "model" / "notes.txt").touch()
    with pytest.raises(UsageError, match="--force"):
        trained(here)


def test_rows_of_another_kind_are_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="sample rows"):
        settings = Settings("dpo", command=COPY)
        train(str(here / "data.jsonl"), "hf:base", here / "model", settings, run=Run(here / "run"))


@pytest.mark.parametrize("model", ["http://localhost:8000/v1#m", "fake:fake.yaml", "nowhere/at-all"])
def test_a_model_whose_weights_are_not_here_is_refused(here: Path, model: str) -> None:
    if "/" in model and ":" not in model:
        pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e '.[train]'")
    with pytest.raises(UsageError, match=r"not here|no such directory"):
        train(str(here / "data.jsonl"), model, here / "model", Settings("sft", command=COPY), run=Run(here / "run"))


def test_the_command_line_says_what_was_done(here: Path) -> None:
    arguments = ["train", "sft", "data.jsonl", "-m", "hf:base", "-o", "model", "--command", COPY, "--json"]
    record = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert record["again"] is False
    assert record_of(here / "model")["key"] == record["key"]


def test_numbers_of_an_args_file_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("learning_rate: 1e-5\nmax_steps: 3\nlora: {lora_dropout: 5e-2}\noptim: adamw\n")
    found = read_args(tmp_path / "args.yaml")
    assert found == {"learning_rate": 1e-5, "max_steps": 3, "lora": {"lora_dropout": 0.05}, "optim": "adamw"}
    assert read_args(None) == {}


def test_an_unknown_argument_is_named_with_its_like() -> None:
    with pytest.raises(UsageError, match="did you mean learning_rate"):
        check_names(["learnin_rate"], ["learning_rate", "max_steps"], "train sft")
    with pytest.raises(UsageError, match="gristmill sets it"):
        check_names(["output_dir"], ["output_dir"], "train sft")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"method": "ppo"}, "ppo"),
        ({"method": "grpo"}, "--reward"),
        ({"method": "sft", "reward": Path("reward.yaml")}, "grpo"),
        ({"method": "sft", "lora": 0}, "rank"),
        ({"method": "sft", "args": {"lora": {}}}, "--lora RANK"),
        ({"method": "sft", "watch": Watch("exact")}, "--gold"),
        ({"method": "sft", "lora": 4, "command": "x {data} {out}"}, "--command"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Settings(**given)


def test_a_large_rank_for_a_small_set_is_warned_of() -> None:
    assert rank_warning(8, 20) is None
    assert rank_warning(64, 6_400) is None
    assert "--lora 64" in (rank_warning(64, 100) or "")


def test_fit_takes_steps_and_a_rate_alone() -> None:
    assert Settings("fit", args={"steps": 20, "rate": 0.01}).args["steps"] == 20
    with pytest.raises(UsageError, match="no argument 'epochs'"):
        Settings("fit", args={"epochs": 2})
    for more in ({"lora": 4}, {"command": COPY}):
        with pytest.raises(UsageError, match="train fit: all weights"):
            Settings("fit", **more)  # type: ignore[arg-type]


SLOW = """\
import pathlib, sys, time
(pathlib.Path(sys.argv[2]) / "half").write_text("so far")
time.sleep(60)
"""

KILLED = """\
from pathlib import Path
from gristmill.run import Run
from gristmill.train.pipeline import train
from gristmill.train.settings import Settings
train("data.jsonl", "hf:base", Path("model"), Settings("sft", command={command!r}), run=Run("run"))
"""


def test_a_command_that_outlives_its_process_keeps_the_training(here: Path) -> None:
    (here / "slow.py").write_text(SLOW)
    command = f"{sys.executable} slow.py {{data}} {{out}}"
    first = subprocess.Popen([sys.executable, "-c", KILLED.format(command=command)], process_group=0)
    try:
        while not list(here.glob("run/train/sft-*/out/half")):
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
        first.wait()
        settings = Settings("sft", command=command)
        with pytest.raises(UsageError, match="another process is at this training"):
            train("data.jsonl", "hf:base", here / "model", settings, run=Run(here / "run"))
    finally:
        os.killpg(first.pid, signal.SIGKILL)
