"""The loop: its file, what belongs to a cluster, and, with torch, a round that mends a planted weakness."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gristmill.beside import alone
from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.loop.checks import check_gate
from gristmill.loop.evaluate import evaluate
from gristmill.loop.loop_file import read_loop
from gristmill.loop.suite import Suite
from gristmill.loop.targets import belongs
from gristmill.models.budget import Prices
from gristmill.models.calls import Calls
from gristmill.models.named import ready
from gristmill.run import Run
from gristmill.train.tiny.counters import counter
from gristmill.train.tiny.world import Mix, tasks
from tests.loop_world import LOOP, looped, written
from tests.loop_world import world as world

pytestmark = pytest.mark.xdist_group("loop")


def test_paths_lead_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(LOOP))
    found = read_loop(tmp_path / "loop.yaml")
    assert found.base == f"hf:{tmp_path / 'base'}" and found.data == str(tmp_path / "base.parquet")
    assert found.counter.made_by == "tiny" and found.stop.rounds == 2
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**LOOP, "base": "tiny", "counter": {"with": "mine.py:more"}}))
    assert read_loop(tmp_path / "loop.yaml").counter.made_by == f"{tmp_path / 'mine.py'}:more"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counter": {"rows": 5}}, "either with or model"),
        ({"counter": {"with": "tiny", "model": "m"}}, "either with or model"),
        ({"rounds": 0}, "rounds"),
        ({"gate": {"margin": 2}}, "margin"),
        ({"trainer": {}}, "unknown key"),
        ({"train": {"method": "ppo"}}, "method"),
        ({"train": {"method": "fit", "lora": 8}}, "lora is not for method fit"),
        ({"train": {"method": "sft", "steps": 8}}, "steps is not for method sft"),
        ({"train": {"command": "t {data} {out}", "lora": 8}}, "with a command"),
        ({"counter": {"model": "teacher"}}, "add verify: SCORE"),
        ({"stop": {"budget": {"cost": -1}}}, "stop.budget.cost"),
        ({"stop": {"unseen": 5}}, "stop.unseen"),
    ],
)
def test_a_loop_that_makes_no_sense_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump({**LOOP, **changes}))
    with pytest.raises(UsageError) as error:
        read_loop(tmp_path / "loop.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_belongs_to_a_cluster() -> None:
    meta = '{"source": "a", "topic": "salt and pepper", "hard": true, "digits": 3}'
    row = {"tags": ["minus", "borrow", "give and take"], "slot_digits": "2", "slot_form": None, "meta": meta}
    for definition, inside in {
        "tag borrow": True,
        "digits = 2": True,
        "digits = 2 and tag borrow": True,
        "digits = 1 and tag borrow": False,
        "source = a": True,
        "tag carry": False,
        "hard = True": True,
        "topic = salt and pepper": True,
        "topic = salt and pepper and digits = 2": True,
        "tag give and take and topic = salt and pepper": True,
        "topic = salt": False,
        "topic = salt and pepper and digits = 1": False,
        "prompt words < 9": False,
    }.items():
        assert belongs({"kind": "slice", "definition": definition}, row) == inside, definition
    assert not belongs({"kind": "text", "definition": "tag borrow"}, row)


def test_counterexamples_are_of_the_cluster_and_true() -> None:
    made = counter({"definition": "borrow = yes and wording = bare", "items": []}, 30, 0)
    assert {(row["slot_borrow"], row["slot_wording"]) for row in made} == {("yes", "bare")} and len(made) == 30
    assert all(row["response"].rsplit(None, 1)[-1].strip("}") == row["reference"] for row in made)
    held_out = {task.prompt for task in tasks(300, part="test", mix=Mix(only={"borrow": "yes"}))}
    assert not held_out & {row["prompt"][0]["content"] for row in made}
    items = [{"failed": 1.0, "facts": {"operation": "add", "carry": "yes", "borrow": "no"}}] * 5
    shared = counter({"definition": "text: about sums", "items": items}, 5, 1)
    assert {(row["slot_operation"], row["slot_carry"]) for row in shared} == {("add", "yes")}


def test_a_planted_weakness_is_mined_first_and_mended_and_nothing_is_done_twice(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    told = looped(world, capsys, written(world, "loop.yaml", LOOP), "-o", "out")
    (round_,) = told["rounds"]
    assert "borrow" in round_["clusters"][0]["definition"] or "subtract" in round_["clusters"][0]["definition"]
    assert round_["trained_on"]["counterexamples"] > 80 and round_["trained_on"]["replay"] == 1_500
    target = next(check for check in round_["checks"] if check["check"] == "target")
    assert target["difference"] > 0.2
    before = (world / "out" / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns
    assert looped(world, capsys, "loop.yaml", "-o", "out") == told
    assert (world / "out" / "round-1" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert pq.read_table(world / "out" / "round-1" / "train.parquet").num_rows == round_["trained_on"]["rows"]
    took = {each["step"]: each for each in round_["steps"]}
    assert [*took] == ["mined items", "mine", "counter", "mix", "train", "gate items", "gate"]
    assert took["mined items"]["calls"] == 200 and took["gate items"]["calls"] == 400
    assert took["train"]["seconds"] > 0 and told["took"]["calls"] == 1_000  # the base on the gate's items too


def test_the_report_tells_each_round_and_its_rows_are_found(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    told = looped(world, capsys, written(world, "loop.yaml", LOOP), "-o", "out")
    page = (world / "out" / "loop.html").read_text()
    for heading in ("What was wrong", "What was added", "What moved", "What it took"):
        assert heading in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    for check in told["rounds"][0]["checks"]:
        assert check["name"] in page
    assert all((world / "out" / name).is_file() for name in re.findall(r'href="([^#"]+)"', page))
    commands = re.findall(r"gristmill (why g1:\w+ --run [^<]+)<", page)
    assert len(commands) > 10
    for line in (commands[0], commands[-1], commands[len(commands) // 2]):
        with pytest.raises(SystemExit) as end:
            command(shlex.split(line))
        assert not end.value.code and "kept" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        command(["why", "out/round-1/model"])
    assert not end.value.code and "2,000 rows" in capsys.readouterr().out


def test_suite_and_gate_must_have_items_of_their_own(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    with pytest.raises(SystemExit) as end:
        command(["loop", written(world, "same.yaml", {**LOOP, "gate_suite": "mined.yaml"}), "-o", "out2"])
    assert end.value.code == 2 and "items of its own" in capsys.readouterr().err


FAKE = r'''
import re

def reply(messages, sampling):
    """Subtractions like those it is shown, and right answers, but for every seventh."""
    text, number = messages[-1]["content"], sampling.get("seed", 0)
    if "<task>" in text:
        first = 20 + number % 79
        second = first // 10 * 10 - 10 + first % 10 + 1 if first % 10 < 9 else first - 9
        return f"<prompt>Compute {first} minus {second}.</prompt><response>#### {first - second}</response>"
    first, second = map(int, re.findall(r"\d+", text)[:2])
    return f"#### {first - second + (first % 7 == 0)}"
'''

COPY = """import shutil, sys
from pathlib import Path
data, model, out = map(Path, sys.argv[1:])
with open("trained.txt", "a") as log:
    log.write(f"{sum(1 for _ in data.open())}\\n")
for file in model.iterdir():
    if file.name != "gristmill.json":
        shutil.copy(file, out / file.name)
"""


@pytest.fixture
def taught(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world, with a scripted teacher and a trainer that is a command and learns nothing."""
    monkeypatch.chdir(world)
    (world / "teacher.py").write_text(FAKE)
    (world / "teacher.yaml").write_text("replies: [{regex: '.', function: 'teacher:reply'}]")
    (world / "copy_weights.py").write_text(COPY)
    return world


BY_A_MODEL = {
    **LOOP,
    "counter": {"model": "fake:teacher.yaml", "verify": "tiny", "rows": 20, "replay": 50},
    "train": {"command": f"{sys.executable} copy_weights.py {{data}} {{model}} {{out}}"},
}


def test_a_model_makes_counterexamples_and_a_command_trains(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = looped(taught, capsys, written(taught, "model.yaml", BY_A_MODEL), "-o", "by-model", run="run-model")
    (round_,) = told["rounds"]
    assert round_["counterexamples"] > 5 and round_["dropped"]["unverified"] > 0
    assert (taught / "trained.txt").read_text().split() == [str(round_["trained_on"]["rows"])]
    assert round_["all"]["gained"] == round_["all"]["lost"] == 0 and round_["verdict"] != "promote"
    assert told["best"] == "hf:base" and told["stopped"] == "rounds: 1 of 1 are done (rounds)"
    counter = next(each for each in round_["steps"] if each["step"] == "counter")
    assert counter["calls"] > 40 and counter["tokens_in"] > 0 and counter["money"] == 0
    again = looped(taught, capsys, "model.yaml", "-o", "by-model", run="run-model")
    assert again == told and len((taught / "trained.txt").read_text().split()) == 1


def test_the_budget_stops_a_round_and_a_higher_one_goes_on(
    taught: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def priced(*_: Any, **__: Any) -> Prices:
        return Prices(1_000.0, 1_000.0)

    for module in ("gristmill.models.named", "gristmill.loop.steps", "gristmill.loop.checks"):
        monkeypatch.setattr(f"{module}.prices_of", priced)
    limited = {**BY_A_MODEL, "stop": {"budget": {"cost": 0.5}}}
    told = looped(taught, capsys, written(taught, "paid.yaml", limited), "-o", "paid", run="run-paid")
    said = "budget: 0.5 may be spent on calls, and round 1 would take more (stop: budget: cost)"
    assert told["rounds"] == [] and told["stopped"] == said
    assert told["took"]["money"] > 0.4 and told["steps"][-1]["step"] == "counter, cut"
    again = looped(taught, capsys, "paid.yaml", "-o", "paid", run="run-paid")
    assert again["stopped"] == told["stopped"] and again["took"]["money"] == told["took"]["money"]
    more = {**BY_A_MODEL, "stop": {"budget": {"cost": 500}}}
    whole = looped(taught, capsys, written(taught, "paid.yaml", more), "-o", "paid", run="run-paid")
    assert len(whole["rounds"]) == 1 and whole["took"]["money"] > told["took"]["money"]
    used = Calls(taught / "run-paid").used()
    assert sum(each.sent for each in used) == sum(each.answers for each in used)  # nothing was paid for twice


def test_the_recipe_in_python_tries_candidates_and_repeats_nothing(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(Path(__file__).parent.parent / "recipes" / "loop.py"))["main"]
    shutil.copytree(world / "base", tmp_path / "base")
    small = {"rounds": 1, "items": 150, "steps": 10, "replay": (100, 0)}
    best = main(Run(tmp_path / "run"), tmp_path, **small)
    said = capsys.readouterr().out
    assert "round 1: " in said and "  100 of replay: " in said and "  0 of replay: " in said
    assert best in {f"hf:{tmp_path / 'base'}", *(f"hf:{tmp_path / 'round-1' / f'model-{old}'}" for old in (100, 0))}
    assert main(Run(tmp_path / "run"), tmp_path, **small) == best
    assert capsys.readouterr().out == said
    trained = [each.path for each in Run(tmp_path / "run").outputs() if each.name == "train"]
    assert len(trained) == len(set(trained)) == 2
    assert all(each.sent == each.answers for each in Calls(tmp_path / "run").used())


def test_few_unseen_kinds_of_failures_stop_a_loop(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    stop = {"unseen": 0.5, "worth": 5}
    told = looped(world, capsys, written(world, "unseen.yaml", {**LOOP, "stop": stop}), "-o", "unseen")
    assert told["rounds"] == [] and told["stopped"].startswith("unseen: a further item shows a new kind of failure")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "http://host/v1#m"}, "its weights are not here"),
        ({"base": "hf:nowhere"}, "nowhere"),
        ({"data": "nowhere.parquet"}, "nowhere.parquet"),
        ({"data": "mined.parquet"}, "these are prompt rows"),
        ({"suite": "nowhere.yaml"}, "nowhere.yaml"),
        ({"counter": {"with": "nowhere.py:more"}}, "nowhere.py:more"),
        ({"counter": {"with": "tiny", "verify": "nowhere"}}, "nowhere"),
        ({"counter": {"model": "nowhere", "verify": "tiny"}}, "model nowhere"),
        ({"train": {"command": "no-such-program {data} {out}"}}, "no-such-program"),
        ({"train": {"command": "python {data}"}}, "{out}"),
        ({"gate": {"slices": ["slot_colour"]}}, "slot_colour"),
        ({"gate": {"slices": ["slot_operation"], "critical": ["slot_operation=divide"]}}, "slot_operation=add"),
    ],
)
def test_what_cannot_run_is_one_line_before_the_first_round(
    world: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.chdir(world)
    with pytest.raises(SystemExit) as end:
        command(["loop", written(world, "bad.yaml", {**LOOP, **changes}), "-o", "bad", "--run", "run-bad"])
    told = capsys.readouterr()
    wrong = [line for line in told.err.splitlines() if line.startswith("gristmill: ")]
    assert end.value.code == 2 and len(wrong) == 1 and said in wrong[0] and "Traceback" not in told.err
    assert not (world / "bad" / "round-1").exists()


def test_a_directory_is_one_loops_at_a_time_and_not_anybodys(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    loop = written(world, "loop.yaml", LOOP)
    (world / "mine").mkdir()
    (world / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit) as end:
        command(["loop", loop, "-o", "mine"])
    assert end.value.code == 2 and "not a directory of a loop" in capsys.readouterr().err
    with alone(world / "held", "loop"), pytest.raises(SystemExit) as end:
        command(["loop", loop, "-o", "held"])
    assert end.value.code == 2 and "another process is at this loop" in capsys.readouterr().err


def test_a_gate_that_can_judge_nothing_ends_the_loop_before_its_first_step(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    (tmp_path / "fake.yaml").write_text('replies: [{default: "c"}]')
    suite = Suite(name="some", items=str(tmp_path / "items.jsonl"), scores=["exact"])
    out, run = tmp_path / "gate-0.parquet", Run(tmp_path / "run")
    evaluate(suite, ready(f"fake:{tmp_path / 'fake.yaml'}", calls=Calls(run.path)), out, run=run)
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(LOOP))
    with pytest.raises(UsageError, match="none of its items could be judged by exact"):
        check_gate(read_loop(tmp_path / "loop.yaml"), out)
