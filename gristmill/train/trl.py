"""Training through TRL 1.16 (https://huggingface.co/docs/trl): SFT, DPO, KTO, a reward model, GRPO.

SFT learns the last answer of a conversation (`completion_only_loss`), not the prompt. LoRA adapts all linear layers;
the adapter is saved in `adapter/` and merged into the weights, so that the result loads like any other. A checkpoint is
written ten times; the newest that is whole is where a killed training goes on.

Not covered: several GPUs (run `accelerate launch` as a command), evaluation on the way (`gristmill eval`).
"""

import dataclasses
import importlib.util
import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from gristmill import progress
from gristmill.errors import Refused, UsageError
from gristmill.run import Run
from gristmill.score.reward import Reward
from gristmill.score.trainers import trl_reward
from gristmill.train.record import LOG
from gristmill.train.settings import Settings, Watch, check_names

COMPLETIONS = "completions"
"""Where TRL's GRPO logs its outputs, if asked (`log_completions`)."""


def train_with_trl(
    settings: Settings, *, data: Path, model: Path, out: Path, work: Path, reward: Reward | None, run: Run
) -> dict[str, Any]:
    """Train the model in a directory on a file of rows and save it in `out`; checkpoints lie in `work`.

    Returns {steps, resumed_from, metrics, trainable}. Raises UsageError where the extra `train` is not installed and
    for arguments that the trainer does not take; Refused when the gap halted it.
    """
    if not all(map(importlib.util.find_spec, ("torch", "transformers", "trl", "peft", "datasets"))):
        raise UsageError(f"train {settings.method}: needs TRL: pip install 'gristmill[train]'")
    import trl

    _quiet()
    name = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "reward": "Reward", "grpo": "GRPO"}[settings.method]
    args = _config(getattr(trl, f"{name}Config"), settings, work)
    more: dict[str, Any] = {"callbacks": [_shown()()]}
    rows = _rows(data, work, settings)
    if reward:
        judged = trl_reward(reward, run=run.path)
        more["reward_funcs"] = [judged]
        if settings.watch:
            more["callbacks"].append(_watching(settings.watch, judged, rows, work, run))
    if settings.lora:
        more["peft_config"] = _adapter(settings.method, settings.lora, settings.args.get("lora", {}))
    try:
        trainer = getattr(trl, f"{name}Trainer")(str(model), args=args, train_dataset=rows, **more)
    except (ValueError, TypeError, KeyError) as error:  # of arguments that do not go together, or with the data
        raise UsageError(f"train {settings.method}: {' '.join(str(error).split())[:400]}") from error
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for shown in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown)
    resumed = whole_checkpoint(work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between TRL and transformers: nobody here can act on them
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    for callback in more["callbacks"]:
        if halted := getattr(callback, "halted", None):
            raise Refused(f"train grpo: {halted}; evidence in {callback.evidence}")
    state = trainer.state
    trainable = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    _save(trainer, out, adapter=settings.lora is not None)
    with (out / LOG).open("wb") as file:
        file.writelines(orjson.dumps(line, default=str) + b"\n" for line in state.log_history)
    if (work / COMPLETIONS).is_dir():
        shutil.copytree(work / COMPLETIONS, out / COMPLETIONS)
    return {
        "steps": state.global_step,
        "resumed_from": int(resumed.name.partition("-")[2]) if resumed else None,
        "trainable": trainable,
        "metrics": _metrics(state.log_history),
    }


def whole_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end (transformers writes `trainer_state.json` last); one that was
    not is removed."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    for checkpoint in found:
        with suppress(OSError, json.JSONDecodeError):
            json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
            return checkpoint
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def _config(kind: Any, settings: Settings, work: Path) -> Any:
    """The trainer's arguments: ours, and over them the user's."""
    import torch

    given = {name: value for name, value in settings.args.items() if name != "lora"}
    fields = {each.name: each.default for each in dataclasses.fields(kind)}
    check_names(given, fields, f"train {settings.method}")
    for argument, value in given.items():
        if isinstance(value, str) and isinstance(fields[argument], int | float):
            raise UsageError(f"train {settings.method}: {argument}: {value!r}; allowed: a number, true or false")
    ours: dict[str, Any] = {
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 0.1,
        "save_total_limit": 2,
        "disable_tqdm": True,
        "seed": settings.seed,
    }
    if not torch.cuda.is_available():
        ours |= {"bf16": False, "dataloader_pin_memory": False, "gradient_checkpointing": False}
        if not torch.backends.mps.is_available():
            ours["use_cpu"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TRL's own default is deprecated in transformers
            return kind(output_dir=str(work), **{**ours, **given})
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"train {settings.method}: {' '.join(str(error).split())[:400]}") from error


def _rows(data: Path, work: Path, settings: Settings) -> Any:
    """The rows as TRL's trainer reads them."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("json", data_files=str(data), split="train", cache_dir=str(work / "cache"))
    return rows.map(_last_answer, remove_columns=["messages"]) if settings.method == "sft" else rows


def _last_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as the prompt and the answer that is learned."""
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _adapter(method: str, rank: int, given: Mapping[str, Any]) -> Any:
    import peft

    check_names(given, [each.name for each in dataclasses.fields(peft.LoraConfig)], "args lora")
    task = peft.TaskType.SEQ_CLS if method == "reward" else peft.TaskType.CAUSAL_LM
    ours = {"lora_alpha": 2 * rank, "target_modules": "all-linear", "task_type": task}
    return peft.LoraConfig(r=rank, **{**ours, **given})


def _save(trainer: Any, out: Path, *, adapter: bool) -> None:
    """Weights, tokenizer and chat template; of an adapter also itself."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if adapter:
        model.save_pretrained(out / "adapter")
        model = model.merge_and_unload()
    model.save_pretrained(out)
    trainer.processing_class.save_pretrained(out)


def _metrics(log: list[dict[str, Any]]) -> dict[str, float]:
    """The newest value of everything that was logged."""
    newest: dict[str, float] = {}
    for line in log:
        newest |= {name: value for name, value in line.items() if isinstance(value, int | float)}
    return newest


def _watching(watch: Watch, judged: Any, rows: Any, work: Path, run: Run) -> Any:
    from gristmill.score.cache import Scores, cached
    from gristmill.score.named import score
    from gristmill.train.gap_callback import GapCallback, prompts_of

    prompts = prompts_of(watch.file) if watch.file else rows.select(range(min(watch.prompts, len(rows)))).to_list()
    gold = cached(score(watch.gold), Scores(run.path))
    return GapCallback(prompts, judged, gold, evidence=work / "gap", every=watch.every)


def _shown() -> type:
    """The callback that counts steps for people to watch; a class of transformers', so made when that is there."""
    from transformers import TrainerCallback

    class Counted(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            progress.begin(type(args).__name__.removesuffix("Config").lower(), state.max_steps - state.global_step)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            progress.advance(1)

    return Counted


def _quiet() -> None:
    """The libraries' own chatter goes; what they warn of stays."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    for name in ("httpx", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
