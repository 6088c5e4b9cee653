"""Training by a command of the user's: `accelerate launch sft.py --data {data} --model {model} --output {out}`.

The command is split as a shell would and run without one. What it writes on stdout goes to stderr. `{out}` outlasts a
kill, so that a command that looks there for its own checkpoints goes on. A command that outlives the process that
started it holds on to the training's lock, so that a second one does not write into its `{out}`.

Not covered: pipes, variables and globs (write a script), a training on another machine.
"""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gristmill.errors import Refused, UsageError

STDERR = 2

NAMES = ("data", "out", "model", "work")


def run_command(command: str, *, data: Path, model: Path, out: Path, work: Path, held: int) -> dict[str, Any]:
    """Run `command` with the names in braces filled in, and wait for it.

    `out` is created; `held` is the descriptor of the lock. Raises UsageError for a command that names neither {data}
    nor {out}, cannot be split or does not exist; Refused when it fails or leaves `out` empty.
    """
    places = {"data": data, "out": out, "model": model, "work": work}
    words = [filled(word, places) for word in split(command)]
    out.mkdir(parents=True, exist_ok=True)
    try:
        ended = subprocess.run(words, stdout=STDERR, check=False, pass_fds=[held])
    except OSError as error:
        raise UsageError(f"--command {words[0]}: {error.strerror}; name a program that is there") from None
    if ended.returncode:
        raise Refused(
            f"--command {words[0]}: ended with {ended.returncode}; start again when it is mended, {out} is kept"
        )
    if not any(out.iterdir()):
        raise Refused(f"--command {words[0]}: ended, and {out} is empty; it must write the model to {{out}}")
    return {"command": shlex.join(words)}


def split(command: str) -> list[str]:
    """The words of a command. Raises UsageError for one that cannot be split or does not name {data} and {out}."""
    for name in ("data", "out"):
        if f"{{{name}}}" not in command:
            raise UsageError(f"--command {command}: it does not name {{{name}}}; allowed are {_allowed()}")
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command {command}: {error}") from None


def filled(word: str, places: Mapping[str, object]) -> str:
    """A word of a command with the names in braces filled in; other braces, as those of JSON, are left alone."""
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", str(place))
    return word


def _allowed() -> str:
    return ", ".join(f"{{{name}}}" for name in NAMES)
