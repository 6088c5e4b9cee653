"""What a training is told, and the arguments of TRL's trainers that a YAML file may hold.

    # args.yaml: any field of the method's config, https://huggingface.co/docs/trl
    num_train_epochs: 2
    learning_rate: 1e-5
    lora: {lora_alpha: 32, lora_dropout: 0.05}      # with --lora RANK: any field of peft's LoraConfig

Not covered: whether a value is wise.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from gristmill.errors import UsageError
from gristmill.shapes import Answer
from gristmill.yaml_file import read_yaml

Method = Literal["sft", "dpo", "kto", "reward", "grpo", "fit"]
"""Those of TRL, and `fit`: the plain loop of `train/tiny/fit.py` for models as small as `tiny`, in seconds."""


class Trains(NamedTuple):
    """What a method trains on."""

    format: str
    """The name in `export/formats.py`."""
    answer: Answer = "response"
    """What the answer of a question/answer row is read as."""


METHODS: dict[str, Trains] = {
    "sft": Trains("trl-sft"),
    "dpo": Trains("trl-preference"),
    "kto": Trains("trl-kto"),
    "reward": Trains("trl-reward"),
    "grpo": Trains("trl-prompt", "reference"),
    "fit": Trains("trl-sft"),
}

FIT_ARGS = ("steps", "rate")
"""The arguments of `fit`."""

OURS = ("output_dir", "resume_from_checkpoint", "push_to_hub")
"""Arguments that a training sets itself."""

LEAST_RANK = 8
ROWS_A_RANK = 100

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Watch:
    """The alignment gap of a GRPO training: the score that is the truth, the prompts it is looked at on (a file; None:
    the first `prompts` of the data), and every how many steps."""

    gold: str
    file: str | None = None
    prompts: int = 32
    every: int = 1


@dataclass(frozen=True)
class Settings:
    """How to train: the method, LoRA's rank (None: all weights), the trainer's own arguments, a seed, for GRPO the
    reward file and what to watch. With `command`, that is run in place of TRL."""

    method: Method
    lora: int | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    reward: Path | None = None
    watch: Watch | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"train {self.method}: allowed are {', '.join(get_args(Method))}")
        if self.lora is not None and self.lora < 1:
            raise UsageError(f"--lora {self.lora}: a rank is a whole number from 1")
        if "lora" in self.args and self.lora is None:
            raise UsageError("args lora: it is for adapters; add --lora RANK")
        if self.command is None and (self.method == "grpo") != (self.reward is not None):
            raise UsageError(
                f"train {self.method}: "
                + ("it needs --reward FILE.yaml" if self.method == "grpo" else "--reward is for grpo")
            )
        if self.watch and (self.reward is None or self.command):
            raise UsageError("--gold: what is watched is the reward of train grpo with --reward")
        if self.command and self.lora:
            raise UsageError("--lora and --command: the command trains; give the rank to it")
        if self.method == "fit":
            if self.lora or self.command:
                raise UsageError("train fit: all weights, in its own loop; --lora and --command are for the others")
            check_names(self.args, FIT_ARGS, "train fit")


def read_args(path: str | Path | None) -> dict[str, Any]:
    """The trainer's arguments in a YAML file; numbers such as 1e-5 are numbers. Raises UsageError."""
    return numbers(read_yaml(path, "arguments of a trainer, as in learning_rate: 1e-5")) if path else {}


def numbers(value: Any) -> Any:
    """A value of YAML in which what people write as numbers (1e-5, which YAML takes for text) is numbers."""
    if isinstance(value, Mapping):
        return {name: numbers(each) for name, each in value.items()}
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


def check_names(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raise UsageError for a name that is not allowed, with the one that is most like it."""
    allowed = set(allowed) - set(OURS)
    for name in given:
        if name in OURS:
            raise UsageError(f"{where}: {name}: gristmill sets it; leave it out")
        if name not in allowed:
            like = difflib.get_close_matches(name, allowed, 1)
            raise UsageError(f"{where}: no argument {name!r}{f'; did you mean {like[0]}?' if like else ''}")


def rank_warning(rank: int, rows: int) -> str | None:
    """What to say of a rank that is large for the set: more than 8, and more than one for every 100 rows.

    A rule of thumb: the lowest rank that works has the least room to learn noise by heart. Measured on the embedded
    model, see docs/train.md.
    """
    if rank <= max(LEAST_RANK, rows // ROWS_A_RANK):
        return None
    return (
        f"--lora {rank} is a large rank for {rows:,} rows: an adapter that large can learn a small set by heart; "
        f"begin with {LEAST_RANK} or less, and raise it while held-out answers get better"
    )
