"""A transform in YAML: what is asked about a row, and what the reply becomes.

    name: restyle
    needs: [prompt, response]        # what a row must have
    makes: [response]                # what the reply becomes
    keeps: [reasoning, reference]    # what else stays true of the original; the rest is left empty
    prompt: |
      Write this answer anew in this style: {{ style }}.
      {{ response }}

The skeleton's names are `prompt` (the last message of the user), `context` (the turns before it), `system`, `response`,
`reasoning`, `reference`, `style` and `language`. A reply is what is made; of several, each stands in tags of its name.
Unknown keys and names are errors. What is done with a transform is in `transform.py`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictStr, model_validator

from gristmill.errors import UsageError
from gristmill.generate.ops import OPS, op_names
from gristmill.generate.skeleton import Skeleton
from gristmill.keys import key_of
from gristmill.shapes import message
from gristmill.yaml_file import read_as

Row = dict[str, Any]
Messages = list[dict[str, str | None]]
Made = Literal["prompt", "response", "reasoning"]

NAMES = ("prompt", "context", "system", "response", "reasoning", "reference", "style", "language")
"""What a skeleton may name."""
SET = {"style": "--style", "language": "--to"}
"""The names that are not of the row, and the flags that set them."""


class Op(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid")
    known: ClassVar[tuple[str, ...]] = NAMES

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Letters, digits, `_`, `.`, `-`."""
    description: str = ""
    source: str = ""
    """Where the idea comes from: a paper, a URL."""
    needs: list[Literal["prompt", "response"]] = Field(min_length=1)
    """What a row must have."""
    makes: list[Made] = Field(min_length=1)
    """What the reply becomes."""
    keeps: list[Literal["response", "reasoning", "reference"]] = []
    """What else of the original holds for the result."""
    moves: Literal["harder", "easier"] | None = None
    """Where the difficulty must have moved."""
    marked: bool = False
    """The result is an answer without its reasoning; one that is marked is taken without asking."""
    alone: Literal["prompt", "response"] = "prompt"
    """What a row is taken for that is one text."""
    system: StrictStr | None = None
    prompt: StrictStr
    sampling: dict[StrictStr, Any] = {}
    """What to send with each request unless told otherwise, by OpenAI's names."""

    _skeletons: list[tuple[str, Skeleton]] = PrivateAttr([])

    @model_validator(mode="after")
    def _makes_or_keeps(self) -> Self:
        if both := next((name for name in self.keeps if name in self.makes), None):
            raise ValueError(f"{both} is both made and kept; take it out of keeps")
        if self.moves and "prompt" not in self.makes:
            raise ValueError("moves is for transforms that make a prompt")
        return self

    @property
    def names(self) -> set[str]:
        """The names its skeletons use."""
        return set().union(*(skeleton.names for _, skeleton in self._skeletons))

    @property
    def lineage(self) -> dict[str, str]:
        """What a row says of it: its name and the hash of what decides a result."""
        said = self.model_dump(mode="json", exclude={"description", "source", "sampling"})
        return {"op": self.name, "template_hash": key_of(said)}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The transform of a file; raises UsageError naming file, field, value and what is allowed."""
        op = read_as(cls, path, f"a template of a transform: {', '.join(cls.model_fields)}")
        turns = ([("system", op.system)] if op.system else []) + [("user", op.prompt)]
        op._skeletons = [
            (role, Skeleton(text, f"{path}: {'prompt' if role == 'user' else role}")) for role, text in turns
        ]
        if unknown := sorted(op.names - set(cls.known)):
            raise UsageError(f"{path}: {unknown[0]!r} stands for nothing; names are {', '.join(cls.known)}")
        return op

    def messages(self, values: Mapping[str, str]) -> Messages:
        """What is asked, for the values of its names. Raises UsageError where a skeleton fails for them."""
        return [message(role, skeleton.render(values)) for role, skeleton in self._skeletons]

    def made(self, reply: str | None) -> dict[str, str] | str:
        """What a reply makes, by column, or why it makes nothing."""
        text = (reply or "").strip()
        if not text:
            return "empty: the reply is empty"
        if len(self.makes) == 1:
            whole = _TAGGED[self.makes[0]].fullmatch(text)
            text = whole[1].strip() if whole else text
            return {self.makes[0]: text} if text else "empty: the reply is empty"
        tagged = {name: _TAGGED[name].search(text) for name in self.makes}
        found: dict[str, str] = {name: match[1].strip() for name, match in tagged.items() if match}
        missing = [name for name in self.makes if not found.get(name)]
        return f"unparsed: the reply has no <{missing[0]}>…</{missing[0]}>" if missing else found


_TAGGED = {
    name: re.compile(rf"<{name}>(.*?)</{name}>", re.DOTALL | re.IGNORECASE)
    for name in ("prompt", "response", "reasoning")
}


def op_of(name: str | None, template: str | Path | None = None) -> Op:
    """The shipped transform of a name, or that of a file. Raises UsageError for none, both, or an unknown name."""
    if (name is None) == (template is None):
        raise UsageError(f"name one of --op ({', '.join(op_names())}) and --template FILE")
    if name is None:
        return Op.load(template or "")
    if name not in op_names():
        raise UsageError(f"--op {name}: allowed are {', '.join(op_names())}; or --template FILE for one of your own")
    return Op.load(OPS / f"{name}.yaml")
