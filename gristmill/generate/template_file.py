"""A template file: skeletons of messages, slots, constraints, and how many prompts to make of them, in YAML.

    name: teacher
    system: "You are a {{ persona }}."
    prompt: "Help a {{ audience }} with {{ topic }}: {{ question }} Answer in a {{ style }} style."
    slots:
      persona: [patient teacher, senior engineer, research scientist]
      audience: {values: [beginner, executive], weights: [3, 1]}
      style: [terse, friendly]
      question: {from: questions.jsonl, column: question}
      topic: {from: questions.jsonl, column: topic, with: question}   # same row as question
    constraints: ["audience != 'executive' or style == 'terse'"]
    samples: 500
    seed: 7

Unknown keys are errors. What the slots mean is in `slots.py`, what is made of it all in `templates.py`.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from gristmill.errors import UsageError
from gristmill.yaml_file import read_as

Number = StrictInt | StrictFloat


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SlotEntry(_Strict):
    """One slot: `values`, `range`, `from` or `template`, and how they are taken. A bare list is `values`."""

    values: list[Any] | dict[Any, list[Any]] | None = None
    """The values; with `given`, a list for each value of the other slot."""
    weights: list[Number] | None = None
    """How often each value is drawn, relative to the others; above 0."""
    range: list[Number] | None = None
    """[lowest, highest], both included where `step` reaches them."""
    step: Number | None = None
    """Between the values of `range`; 1 for whole numbers unless given."""
    from_: StrictStr | None = Field(None, alias="from")
    """A table: JSONL, JSON, CSV, Parquet, text, also .gz and .zst; relative to the template's directory."""
    column: StrictStr | None = None
    """Its column. Left out, a value is the whole row (`{{ slot.column }}`), or the text if there is one column only."""
    with_: StrictStr | None = Field(None, alias="with")
    """Another slot: the value is the one of the same number there."""
    given: StrictStr | None = None
    """Another slot, on whose value `values` depends."""
    template: StrictStr | None = None
    """A skeleton over other slots."""
    sample: StrictInt | None = Field(None, ge=1)
    """The value is a list of this many different values, for few-shot prompts."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        if not isinstance(given, list | dict):
            raise ValueError("allowed are a list of values and a mapping (values, range, from, …)")
        return {"values": given} if isinstance(given, list) else given


class MessageEntry(_Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: StrictStr


class Template(_Strict):
    """A whole template file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Letters, digits, `_`, `.`, `-`."""
    description: str = ""
    source: str = ""
    """Where the idea comes from: a paper, a URL."""
    system: StrictStr | None = None
    """Skeleton of the system message; where it renders to nothing, there is none."""
    prompt: StrictStr | None = None
    """Skeleton of the one user message. Either this or `messages`."""
    messages: list[MessageEntry] | None = Field(None, min_length=1)
    """Skeletons of several turns."""
    reference: StrictStr | None = None
    """Skeleton of the row's gold answer."""
    slots: dict[StrictStr, SlotEntry] = {}
    constraints: list[StrictStr] = []
    """Jinja expressions over slots; only combinations for which all are true are used."""
    samples: StrictInt | None = Field(None, ge=1)
    """How many distinct prompts; left out, all."""
    seed: StrictInt = 0
    sampling: dict[StrictStr, Any] = {}
    """What to send with each request unless told otherwise, by OpenAI's names: `max_tokens`, `temperature`, …"""
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    """JSON schema of the answer."""
    tags: list[StrictStr] = []

    _path: str = PrivateAttr("")
    _shown: str = PrivateAttr("")

    @property
    def where(self) -> str:
        """What errors and rows call it: what it was loaded as, or its name."""
        return self._shown or self.name

    @property
    def folder(self) -> Path:
        """The directory that its tables are relative to."""
        return Path(self._path).parent if self._path else Path()

    @classmethod
    def load(cls, path: str | Path, *, shown: str | None = None) -> Self:
        """The template of a file; errors and rows call it `shown`, if given, instead of its path.

        Raises UsageError, naming file, field, value and what is allowed, for a file that cannot be read or makes no
        sense. Whether its slots make sense is found by `templates.prepared`.
        """
        shown = shown or str(path)
        template = read_as(cls, path, "a template (see `gristmill init template`)", shown=shown)
        template._path, template._shown = str(path), shown
        return template

    def with_samples(self, samples: int) -> Self:
        """The same template asking for another number of prompts; raises UsageError for a number below 1."""
        if samples < 1:
            raise UsageError(f"samples {samples}: allowed are whole numbers from 1")
        return self.model_copy(update={"samples": samples})
