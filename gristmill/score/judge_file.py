"""A judge in YAML: a rubric whose axes are given numbers, or a question about which of two responses is better.

    # clarity.yaml
    kind: rubric
    axes: {clarity: {scale: [1, 5], ask: "Could a beginner follow every step?"}}
    samples: 3
    model: judge-a

    # better.yaml
    kind: pairwise
    ask: "Which response would you rather send to a customer?"
    model: [judge-a, judge-b, judge-c]       # a panel

Not covered: what is asked and how it is read (`judge_prompt.py`).
"""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gristmill.errors import UsageError
from gristmill.yaml_file import read_as

ASK = "Which response answers the request better?"
NAME = re.compile(r"[a-z][a-z0-9_]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Axis(_Strict):
    """One question of a rubric, answered by a number on `scale` (lowest, highest)."""

    ask: str = Field(min_length=1)
    scale: tuple[float, float] = (1, 5)

    @field_validator("scale")
    @classmethod
    def _rising(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not scale[0] < scale[1]:
            raise ValueError("scale must be a lower and a higher number")
        return scale


class Example(_Strict):
    """A judgement shown before the one that is asked for. `response` goes with `axes`, `a` and `b` with `verdict`."""

    prompt: str
    response: str | None = None
    a: str | None = None
    b: str | None = None
    why: str = Field(min_length=1)
    axes: dict[str, float] | None = None
    verdict: Literal["A", "B", "tie", "both bad"] | None = None


class JudgeFile(_Strict):
    """A whole judge file."""

    kind: Literal["rubric", "pairwise"]
    name: str | None = Field(None, pattern=NAME.pattern + "$")
    """What the score of a pairwise judge is called; the file's name if left out. A rubric's are called by the axes."""
    model: str | list[str]
    """A MODEL, or several: a panel."""
    axes: dict[str, Axis] = {}
    ask: str = ASK
    """The question of a pairwise judge."""
    both_bad: bool = False
    """Whether a pairwise judge may say that neither will do."""
    system: str | None = None
    """What stands before everything: who the judge is, what counts."""
    reference: bool = False
    """Whether the judge sees the reference answer; a row without one is `no_reference`."""
    examples: list[Example] = []
    samples: int = Field(1, ge=1, le=100)
    """Judgements of each model (and in each order)."""
    orders: Literal["both", "one"] = "both"
    sampling: dict[str, Any] = {}
    """Sent with every request: temperature, max_tokens, …"""

    @model_validator(mode="after")
    def _fits(self) -> "JudgeFile":
        if not self.models:
            raise ValueError("model: name one at least")
        if len(set(self.models)) < len(self.models):
            raise ValueError("model: one is named twice")
        if self.kind == "rubric" and not self.axes:
            raise ValueError("a rubric needs axes")
        if self.kind == "pairwise" and self.axes:
            raise ValueError("a pairwise judge has no axes; use ask")
        for axis in self.axes:
            if not NAME.fullmatch(axis):
                raise ValueError(f"axis {axis}: small letters, digits and _ only, beginning with a letter")
        for number, example in enumerate(self.examples):
            self._check_example(number, example)
        return self

    def _check_example(self, number: int, example: Example) -> None:
        place = f"examples.{number}"
        if self.kind == "pairwise":
            if example.a is None or example.b is None or example.verdict is None:
                raise ValueError(f"{place}: a pairwise example has a, b and verdict")
            if example.verdict == "both bad" and not self.both_bad:
                raise ValueError(f"{place}: verdict 'both bad' without both_bad: true")
            return
        if example.response is None or example.axes is None or example.axes.keys() != self.axes.keys():
            raise ValueError(f"{place}: an example of a rubric has response, and a number for each of the axes")
        for name, value in example.axes.items():
            low, high = self.axes[name].scale
            if not low <= value <= high:
                raise ValueError(f"{place}: {name} {value:g} is off its scale {low:g} to {high:g}")

    @property
    def models(self) -> tuple[str, ...]:
        """The MODELs of the panel."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)


def read_judge(path: str | Path) -> JudgeFile:
    """The judge of a file; a `fake:` file or `hf:` folder that it names is looked for beside it.

    Raises UsageError naming file, field and what is allowed.
    """
    judge = read_as(JudgeFile, path, "a judge (see `gristmill init judge`)")
    if judge.kind == "pairwise" and judge.name is None and not NAME.fullmatch(Path(path).stem):
        raise UsageError(f"{path}: give it a name (small letters, digits and _): its column cannot be called that")
    return judge.model_copy(update={"model": [_beside(Path(path), model) for model in judge.models]})


def _beside(path: Path, model: str) -> str:
    kind, colon, place = model.partition(":")
    if kind in ("fake", "hf") and colon and (path.parent / place).exists():
        return f"{kind}:{path.parent / place}"
    return model
