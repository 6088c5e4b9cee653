"""What trains in a trial: the embedded model, a function of the user's, or a command.

- `Tiny`: the embedded model, from nothing or from weights that are there, for a fixed number of steps whatever the rows
  are: of two sets the one wins that is better to learn from for as long;
- `FILE.py:FUNCTION`, called with the path of a JSONL file of chat rows (`gristmill export --to trl-sft`) and a seed;
- a command with `{data}`, `{out}` and `{seed}` in it.

Functions and commands evaluate too: what a function returns, or the last line of a command as JSON, are results by
capability. Where suites do that, a function returns the directory of the model, and a command writes it to `{out}`.

Not covered: what happens inside a user's trainer.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.code_version import local_files
from gristmill.errors import GristmillError, UsageError
from gristmill.train.command import filled
from gristmill.user_code import raised, user_function

if TYPE_CHECKING:
    from gristmill.models.weights import Weights

STEPS = 300
"""Steps of 32 rows: what the embedded model needs to learn most of its world from nothing."""


@dataclass(frozen=True)
class Tiny:
    """The embedded model as a trainer; the seed of a trial decides its first weights and the order of the rows."""

    steps: int = STEPS
    base: Path | None = None
    """The directory of the weights to begin with, those of any model that fits the machine; None for new ones."""


Trainer = str | Tiny


def known_of(trainer: Trainer) -> dict[str, Any]:
    """What decides what a trainer does, as far as it can be known: sources, versions, settings, weights.

    A command is known by its words alone. Raises UsageError for a file that is not there, or without the extra `train`.
    """
    if isinstance(trainer, Tiny):
        from gristmill.models.weights import content_of
        from gristmill.train.tiny.make import NEEDED, check_installed

        check_installed("trainer tiny")
        versions = {name: version(name) for name in NEEDED}
        return {"tiny": trainer.steps, "base": trainer.base and content_of(trainer.base), "versions": versions}
    if not _is_function(trainer):
        return {"command": trainer}
    file = Path(trainer.partition(":")[0])
    if not file.is_file():
        raise UsageError(f"trainer {trainer}: no file {file}; name FILE.py:FUNCTION, or a command with {{data}} in it")
    digest = blake2b(digest_size=8)
    for local in sorted(local_files(file.resolve())):
        digest.update(local.read_bytes())
    return {"function": trainer, "code": digest.hexdigest()}


def results_of(trainer: str, data: str, seed: int) -> Mapping[str, Any]:
    """What a function or a command says of the model that it trained: results by capability.

    Raises UsageError for a trainer that is not there, fails, or gives something else.
    """
    found = _called(trainer, data, seed) if _is_function(trainer) else _json(trainer, _commanded(trainer, data, seed))
    if not isinstance(found, Mapping) or not found:
        raise UsageError(f"trainer {trainer}: gave {type(found).__name__}; it must give results by capability")
    return found


def weights_of(trainer: Trainer, data: str, seed: int) -> "Weights":
    """The model that a trainer makes of the rows in `data`, ready to answer.

    Raises UsageError for a trainer that is not there, fails, or leaves no model.
    """
    from gristmill.models.weights import load

    if isinstance(trainer, Tiny):
        from gristmill.train.tiny.make import chats, trained

        return trained(chats(Path(data)), base=trainer.base, steps=trainer.steps, seed=seed)
    if _is_function(trainer):
        out = _called(trainer, data, seed)
        if not isinstance(out, str | Path):
            raise UsageError(
                f"trainer {trainer}: gave {type(out).__name__}; with --suite it must give the directory of the model"
            )
    elif "{out}" in trainer:
        out = _out(data, seed)
        shutil.rmtree(out, ignore_errors=True)  # of another trainer, or of one that was killed
        _commanded(trainer, data, seed)
    else:
        raise UsageError(f"trainer {trainer}: with --suite a command must write the model to {{out}}")
    if not (Path(out) / "config.json").is_file():
        raise UsageError(f"trainer {trainer}: no config.json in {out}; it must save the model there (save_pretrained)")
    weights = load(Path(out), str(out))
    if not _is_function(trainer):
        shutil.rmtree(out, ignore_errors=True)  # ours; the models of hundreds of trials would fill a disk
    return weights


def _is_function(trainer: str) -> bool:
    return trainer.partition(":")[0].endswith(".py") and " " not in trainer


def _called(trainer: str, data: str, seed: int) -> Any:
    file, _, name = trainer.partition(":")
    fn = user_function(Path(file).resolve(), name, f"trainer {trainer}")
    try:
        return fn(data, seed)
    except GristmillError:
        raise
    except Exception as error:  # of the user's trainer, which may raise anything
        raise UsageError(f"trainer {trainer}: {raised(error)}") from error


def _out(data: str, seed: int) -> Path:
    return Path(data).with_suffix(f".{seed}.out")


def _commanded(trainer: str, data: str, seed: int) -> str:
    """What a command wrote on stdout."""
    if "{data}" not in trainer:
        raise UsageError(f"trainer {trainer}: a command must have {{data}} in it; {{out}} and {{seed}} may be")
    places = {"data": data, "out": _out(data, seed), "seed": seed}
    try:
        words = [filled(word, places) for word in shlex.split(trainer)]
    except ValueError as error:
        raise UsageError(f"trainer {trainer}: {error}; write it as for a shell") from None
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise UsageError(f"trainer {words[0]}: {error.strerror}; name a command that can be run") from error
    if done.returncode:
        raise UsageError(f"trainer {trainer}: exit {done.returncode}; its last words are above")
    return done.stdout


def _json(trainer: str, told: str) -> Any:
    last = (told.strip().splitlines() or [""])[-1]
    try:
        return json.loads(last)
    except json.JSONDecodeError:
        raise UsageError(f"trainer {trainer}: its last line is {last[:80]!r}; it must be JSON of results") from None
