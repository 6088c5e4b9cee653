"""What is asked of a model about clusters: counterexamples of each kind, and names. Each says its source."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from gristmill.errors import UsageError
from gristmill.generate.op_file import NAMES, Op

ASKS = Path(__file__).parent

KINDS = ("look_alike", "contrast", "boundary", "negative")
"""The kinds of counterexamples, in the order of the output."""


class Ask(Op):
    """A template of counterexamples: a transform that knows the cluster too. `cluster` is its name, `words` are its
    characteristic words, `others` the prompts of two more of its failed items."""

    known: ClassVar[tuple[str, ...]] = (*NAMES, "cluster", "words", "others")


def asks_of(directory: str | Path | None = None) -> dict[str, Ask]:
    """The templates by kind: the shipped ones, and in their place those of a directory (`look_alike.yaml`, …).

    Raises UsageError for a directory without any, and for a file that is no such template.
    """
    found = {kind: Ask.load(ASKS / f"{kind}.yaml") for kind in KINDS}
    if directory is not None:
        own = {kind: path for kind in KINDS if (path := Path(directory) / f"{kind}.yaml").is_file()}
        if not own:
            raise UsageError(f"--asks {directory}: holds none of {_listed(KINDS)}")
        found |= {kind: _usable(Ask.load(path), path) for kind, path in own.items()}
    return found


def _usable(ask: Ask, path: Path) -> Ask:
    if set(ask.makes) != {"prompt", "response"}:
        raise UsageError(f"{path}: makes: {ask.makes}; a counterexample is a prompt and a response")
    return ask


def _listed(kinds: Sequence[str]) -> str:
    return ", ".join(f"{kind}.yaml" for kind in kinds)
