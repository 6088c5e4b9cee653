"""TRL's trainers on the embedded model, on this machine's CPU: each runs on our rows, goes on after a kill, and loads.

What is asserted to improve is what training must improve at any size: the loss on the answers that are learned, the
margin of the pairs that are learned. Whether the model then answers better is not a claim of these tests.
"""

import asyncio
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from gristmill import progress
from gristmill.demo.arms import evaluated, suite, written
from gristmill.errors import UsageError
from gristmill.export.pipeline import export_files
from gristmill.models.local import Local
from gristmill.models.protocol import Request
from gristmill.parquet import RowWriter, marked
from gristmill.records import SCHEMAS, row_id
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.reward import Component, Reward
from gristmill.score.score import Score, Verdict
from gristmill.score.trainers import trl_reward
from gristmill.train.pipeline import train
from gristmill.train.record import told
from gristmill.train.settings import Settings
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows
from gristmill.train.trl import whole_checkpoint

for _module in ("torch", "transformers", "trl", "peft", "datasets"):
    pytest.importorskip(_module, reason=f"{_module} is not installed: pip install -e '.[train]', or make test-train")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what these libraries say of each other
    pytest.mark.xdist_group("trl"),
]

PLAIN = Mix(forms={"hash": 1.0})
FAST = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 2e-3, "logging_steps": 1}
KINDS = {"sft": "sample", "dpo": "preference", "reward": "preference", "kto": "label", "grpo": "prompt"}
FORMATS = {
    "trl-sft": ("SFT", "sample"),
    "trl-preference": ("DPO", "preference"),
    "trl-reward": ("Reward", "preference"),
    "trl-kto": ("KTO", "label"),
    "trl-prompt": ("GRPO", "prompt"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model that has learned little, and rows of every kind."""
    path = tmp_path_factory.mktemp("trl")
    make(path / "base", Recipe(steps=40, rows=500, mix=PLAIN))
    for kind in set(KINDS.values()):
        schema = marked(SCHEMAS[kind])  # type: ignore[index]
        with RowWriter(path / f"{kind}.parquet", schema) as file:
            for number, row in enumerate(rows(48, mix=PLAIN, reasoning=1.0)):
                file.write(as_kind(row, kind, number))
    (path / "reward.yaml").write_text("components: [{score: tiny}]\n")
    return path


def as_kind(row: dict, kind: str, number: int) -> dict:
    right, wrong = row["response"], f"I do not know.\n#### {int(row['reference']) + 1}"
    made = {**row, "source_file": "tiny", "source_row": number}
    if kind == "preference":
        made |= {"chosen": right, "rejected": wrong}
    elif kind == "label":
        made |= {"response": wrong if number % 2 else right, "label": not number % 2}
    return {**made, "id": row_id(kind, made)}  # type: ignore[arg-type]


def trained(home: Path, method: str, name: str, run: str | None = None, **more: object) -> dict:
    given = {"args": FAST, "seed": 1, **more}
    if method == "grpo":
        given["reward"] = home / "reward.yaml"
        given["args"] = {**FAST, "max_steps": 2, "num_generations": 4, "max_completion_length": 12}
    settings = Settings(method, **given)  # type: ignore[arg-type]
    data = str(home / f"{KINDS[method]}.parquet")
    return train(data, f"hf:{home / 'base'}", home / name, settings, run=Run(home / (run or "run")))


def answer(model: Path) -> str:
    """The beginning of what a trained model says; that it loads and speaks is the point."""

    async def ask() -> str:
        local = Local(str(model))
        request = Request([{"role": "user", "content": "12 + 30 = ?"}], {"max_tokens": 8, "temperature": 0})
        found = await local.complete(request)
        await local.close()
        return found.choices[0].text or ""

    return asyncio.run(ask())


def logged(model: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (model / "training.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_sft_learns_its_answers_and_is_not_repeated(home: Path) -> None:
    record = trained(home, "sft", "sft", args={**FAST, "max_steps": 12})
    losses = logged(home / "sft", "loss")
    assert record["steps"] == len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert isinstance(answer(home / "sft"), str)
    assert trained(home, "sft", "sft", args={**FAST, "max_steps": 12})["again"]


def test_sft_learns_the_answer_and_not_the_prompt(home: Path) -> None:
    """The loss that is logged is that of the tokens after the prompt, by the base's own weights."""
    import torch

    from gristmill.models.weights import load
    from gristmill.train.tiny.fit import taught

    frozen = {**FAST, "max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 48}
    trained(home, "sft", "frozen", args=frozen)
    weights = load(home / "base", "base", device="cpu")
    total = count = 0.0
    for each in taught(rows(48, mix=PLAIN, reasoning=1.0), weights.tokenizer):
        ids = torch.tensor([each.tokens])
        with torch.no_grad():
            logits = weights.model(ids).logits[0, each.begin - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, each.begin :], reduction="sum").item()
        count += len(each.tokens) - each.begin
    assert logged(home / "frozen", "loss")[0] == pytest.approx(total / count, rel=1e-2)


def test_an_adapter_is_merged_and_kept(home: Path) -> None:
    record = trained(home, "sft", "lora", lora=16)
    assert record["warnings"]
    assert 0 < record["trainable"] < 100_000
    assert (home / "lora" / "adapter" / "adapter_config.json").is_file()
    assert isinstance(answer(home / "lora"), str)


def test_dpo_widens_the_margin_of_its_pairs(home: Path) -> None:
    trained(home, "dpo", "dpo", args={**FAST, "max_steps": 6})
    margins = logged(home / "dpo", "rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > 0.1


def test_kto_runs_on_labels(home: Path) -> None:
    assert trained(home, "kto", "kto")["steps"] == 4
    assert isinstance(answer(home / "kto"), str)


def test_a_reward_model_tells_its_pairs_apart(home: Path) -> None:
    import transformers

    trained(home, "reward", "reward", args={**FAST, "max_steps": 10})
    losses = logged(home / "reward", "loss")
    assert losses[-1] < 0.5 < losses[0]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(home / "reward")
    assert model.config.num_labels == 1


def test_grpo_takes_our_reward_through_the_cache(home: Path) -> None:
    import sqlite3

    record = trained(home, "grpo", "grpo")
    assert record["steps"] == 2
    assert "reward/tiny" in record["metrics"]
    with sqlite3.connect(home / "run" / "scores.sqlite") as db:
        judged = db.execute("SELECT count(*) FROM scores WHERE score = 'tiny'").fetchone()[0]
    assert 0 < judged <= 16
    assert [step["name"] for step in told(home / "grpo")["steps"]] == ["read"]


def test_grpo_by_the_verifier_answers_better(tmp_path: Path) -> None:
    """Sampled answers to held-out tasks, of a base that is right on some of each prompt's outputs."""
    run, mix, base = Run(tmp_path / "run"), Mix(forms={"hash": 1.0}), tmp_path / "base"
    make(base, Recipe(steps=600, reasoning=0.6, mix=mix))
    prompts = written(tmp_path / "prompts.parquet", rows(1_000, seed=1, mix=mix), answers=False)
    (tmp_path / "reward.yaml").write_text("components: [{score: tiny}]\n")
    args = {"max_steps": 20, "per_device_train_batch_size": 128, "max_completion_length": 40, "learning_rate": 3e-4}
    settings = Settings("grpo", args=args, reward=tmp_path / "reward.yaml")
    train(str(prompts), f"hf:{base}", tmp_path / "better", settings, run=run)
    items = suite(tmp_path / "items.parquet", seed=2, items=400)
    items = items.model_copy(update={"sampling": {"max_tokens": 40, "temperature": 1}})
    before, after = (
        evaluated(items, tmp_path / name, tmp_path / f"{name}.parquet", run)["accuracy"] for name in ("base", "better")
    )
    assert 0.2 < before < 0.7
    assert after > before + 0.04


def test_a_training_that_was_killed_goes_on_and_ends_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import load_file

    args = {**FAST, "max_steps": 6}
    trained(home, "sft", "whole", run="run-whole", args=args)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("gristmill.train.trl.progress", SimpleNamespace(begin=progress.begin, advance=advance_until(4)))
        trained(home, "sft", "resumed", run="run-killed", args=args)
    assert not (home / "resumed").exists()
    (broken,) = [path for path in (home / "run-killed" / "train").glob("sft-*") if path.is_dir()]
    (broken / "checkpoint-5").mkdir()  # a checkpoint that was being written
    record = trained(home, "sft", "resumed", run="run-killed", args=args)
    assert (record["resumed_from"], record["steps"]) == (3, 6)
    one, two = (load_file(home / name / "model.safetensors") for name in ("whole", "resumed"))
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=1e-6)


def advance_until(most: int) -> object:
    """A count of steps that is interrupted at one of them."""
    steps = []

    def advance(count: int) -> None:
        steps.append(count)
        if len(steps) == most:
            raise KeyboardInterrupt

    return advance


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (10, "{}"), (20, '{"cut')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-20").exists()


@pytest.mark.parametrize(
    "args", [{"learnin_rate": 1}, {"learning_rate": "fast"}, {"max_steps": 1, "bf16": True, "fp16": True}]
)
def test_arguments_that_the_trainer_does_not_take_are_one_line(home: Path, args: dict) -> None:
    with pytest.raises(UsageError, match="train sft"):
        trained(home, "sft", "refused", args=args)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("to", FORMATS)
def test_trl_loads_every_exported_format_as_it_is(home: Path, tmp_path: Path, to: str, suffix: str) -> None:
    import datasets
    import trl

    name, kind = FORMATS[to]
    export_files(str(home / f"{kind}.parquet"), to, tmp_path / f"set{suffix}", run=Run(tmp_path / "run"))
    reader = "json" if suffix == ".jsonl" else "parquet"
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(reader, data_files=str(tmp_path / f"set{suffix}"), split="train", cache_dir=cache)
    more = {"num_generations": 2, "max_completion_length": 4} if name == "GRPO" else {}
    config = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )
    rewards = {"reward_funcs": [trl_reward(Reward((Component(score("tiny")),)))]} if name == "GRPO" else {}
    trainer = getattr(trl, f"{name}Trainer")(str(home / "base"), args=config, train_dataset=loaded, **rewards)
    trainer.train()
    assert trainer.state.global_step == 1


class Drift:
    """A proxy that rises from the baseline on, and a gold that falls, whatever the outputs are."""

    __name__ = "drift"

    def __init__(self) -> None:
        self.looks = {"proxy": 0, "gold": 0}
        self.noise = random.Random(0)

    def value(self, name: str, sign: float) -> float:
        return sign * max(0, self.looks[name] - 20) * 0.3 + self.noise.gauss(0, 0.1)

    def __call__(self, prompts: list, **_: object) -> list[float]:
        self.looks["proxy"] += 1
        return [self.value("proxy", 1.0) for _ in prompts]

    def judge(self, items: list) -> list[Verdict]:
        self.looks["gold"] += 1
        return [Verdict(self.value("gold", -0.3), "scored") for _ in items]


def test_the_gap_halts_a_run_and_leaves_evidence(home: Path, tmp_path: Path) -> None:
    from gristmill.models.weights import load
    from gristmill.rollout.gap_log import Columns, read_log
    from gristmill.train.gap_callback import GapCallback, prompts_of

    drift = Drift()
    prompts = prompts_of(str(home / "prompt.parquet"))[:6]
    watched = GapCallback(prompts, drift, Score("truth", "1", drift.judge), evidence=tmp_path / "gap")
    weights = load(home / "base", "base", device="cpu")
    given = {"model": weights.model, "processing_class": weights.tokenizer}
    args, control = SimpleNamespace(max_completion_length=4, seed=0), SimpleNamespace(should_training_stop=False)
    state = SimpleNamespace(global_step=0)
    watched.on_train_begin(args, state, control, **given)
    assert [alarm.status for alarm in watched.alarms] == ["insufficient"] * 20
    while not control.should_training_stop and state.global_step < 30:
        state.global_step += 1
        watched.on_step_end(args, state, control, **given)
    assert control.should_training_stop
    assert "halted" in (watched.halted or "")
    report = json.loads((tmp_path / "gap" / "report.json").read_text())
    assert (report["status"], report["first_halt"]) == ("halt", state.global_step)
    worst = [json.loads(line) for line in (tmp_path / "gap" / "counterexamples.jsonl").read_text().splitlines()]
    assert worst[0]["proxy"] > worst[0]["gold"]
    logged = read_log([str(tmp_path / "gap" / "outputs.jsonl")], Columns("proxy", "gold"))
    assert [alarm.status for alarm in logged.alarms] == [alarm.status for alarm in watched.alarms]

    again = GapCallback(prompts, drift, Score("truth", "1", drift.judge), evidence=tmp_path / "gap")
    again.on_train_begin(args, SimpleNamespace(global_step=2), control, **given)  # goes on from a checkpoint
    assert [each.step for each in again.evaluations] == [*range(-20, 0), 1, 2]


def test_a_gold_that_is_trained_on_is_refused(home: Path, tmp_path: Path) -> None:
    from gristmill.train.gap_callback import GapCallback, prompts_of

    proxy = trl_reward(Reward((Component(score("tiny")), Component(score("exact")))), run=tmp_path)
    prompts = prompts_of(str(home / "prompt.parquet"))
    for gold in (score("exact"), score("tiny,name=exact"), score("exact,name=truth")):
        with pytest.raises(UsageError, match="among the rewards"):
            GapCallback(prompts, proxy, gold, evidence=tmp_path)
    fair = trl_reward(Reward((Component(score("exact")),)))
    GapCallback(prompts, fair, score("tiny"), evidence=tmp_path)


def test_grpo_stops_for_nothing_while_the_gap_is_not_known(home: Path) -> None:
    from gristmill.train.settings import Watch

    args = {**FAST, "max_steps": 1, "num_generations": 4, "max_completion_length": 4}
    watch = Watch("exact", prompts=2)
    settings = Settings("grpo", args=args, reward=home / "reward.yaml", watch=watch)
    out = home / "watched"
    record = train(str(home / "prompt.parquet"), f"hf:{home / 'base'}", out, settings, run=Run(home / "run"))
    assert record["steps"] == 1
