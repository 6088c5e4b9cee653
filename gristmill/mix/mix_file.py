"""A mix in YAML: sources, what each is for, and how much of each there shall be.

    name: maths-1
    preset: math                  # 60 to 80 % task-specific, beginning in the middle
    rows: 10000                   # or tokens: 5000000; left out: as much as the sources give
    seed: 7
    sources:
      - {name: gsm8k, files: gsm8k.jsonl, kind: math, share: 0.5, epochs: 2}
      - {name: proofs, files: [a.parquet, b.parquet], kind: math}
      - {name: chat, files: chat/, kind: general, cap: 3000}

`kind` is `general`, `task`, or the name of a capability; all but `general` are task-specific. What the fields do is in
`docs/mix.md`, how shares come of them in `resolve.py`. Unknown keys are errors.
"""

from functools import cache
from importlib.resources import files as packaged
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gristmill.errors import UsageError
from gristmill.yaml_file import read_as

GENERAL = "general"
"""The kind of source that is not task-specific."""

Share = Annotated[float, Field(gt=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Source(_Strict):
    """One source of rows."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    files: list[str] = Field(min_length=1)
    """Files, globs, directories or URLs of any shape that can be read, from where the command runs."""
    kind: str = Field(default="task", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    share: Share | None = None
    """Of the mix; left out: of what its side has left, by size."""
    epochs: float = Field(default=1, gt=0)
    """How often each of its rows may be taken."""
    cap: int | None = Field(default=None, gt=0)
    """The most rows (or tokens) of it in the mix; what it gives up goes to the others of its side."""
    strata: str | None = None
    """A column, or a key of `meta`, whose values keep the shares that they have in the source."""
    map: dict[str, str] = {}
    """Our column names and the source's, as `--map` takes them."""

    @field_validator("files", mode="before")
    @classmethod
    def _listed(cls, files: Any) -> Any:
        return [files] if isinstance(files, str) else files


class Measured(_Strict):
    """One evaluation of a mix: its shares by kind, and of each kind the score and the items it is the mean of."""

    shares: dict[str, float]
    scores: dict[str, tuple[float, int]]


class MixFile(_Strict):
    """A whole file."""

    name: str = Field(default="mix", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    preset: str | None = None
    task_share: Share | None = None
    """How much is task-specific; left out: the middle of the preset's range."""
    rows: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    by: Literal["rows", "tokens"] = "rows"
    """What shares are shares of. A token is reckoned as four characters."""
    temperature: float = Field(default=1, gt=0)
    """Sources without a share get size^(1/temperature): 1 is by size, more is flatter."""
    floors: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}
    """The least share of a kind. `general` has 0.2 unless it is named here."""
    reasoning: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share that has reasoning; about 0.4 is usual for multi-step tasks."""
    answer: Literal["response", "reference"] = "response"
    """What the `answer` of a question is: what to train on, or the gold answer of a prompt."""
    seed: int = 0
    suites: dict[str, str] = {}
    """Which kind an evaluation suite measures; one that is neither named here nor called as a kind is general."""
    goals: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """The score that a kind is to reach; left out: it is to hold what it had."""
    importance: dict[str, Annotated[float, Field(ge=0)]] = {}
    """How much a kind counts in tuning; left out: 1."""
    history: list[Measured] = []
    """What tuning has seen, oldest first; it writes this itself."""
    sources: list[Source] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two sources are called {twice}; give each its own name")
        if self.preset is not None and self.preset not in presets():
            raise ValueError(f"preset {self.preset}: allowed are {', '.join(presets())}")
        if self.rows and self.tokens:
            raise ValueError("rows and tokens are both given; name one")
        if self.rows and self.by == "tokens":
            raise ValueError("rows with by: tokens; give the size as tokens")
        if self.tokens:
            self.by = "tokens"
        kinds = {source.kind for source in self.sources}
        for field in ("floors", "goals", "importance"):
            if unknown := next((kind for kind in getattr(self, field) if kind not in kinds | {GENERAL}), None):
                raise ValueError(f"{field}: no source is of the kind {unknown}; there are {', '.join(sorted(kinds))}")
        if sum(self.floor.values()) > 1:
            raise ValueError("floors: they are more than the whole together")
        return self

    @property
    def floor(self) -> dict[str, float]:
        """The least share of each kind that has one."""
        return {GENERAL: general_floor()} | self.floors

    @property
    def kinds(self) -> list[str]:
        """The kinds of the sources, each once."""
        return list(dict.fromkeys(source.kind for source in self.sources))


class Preset(NamedTuple):
    """A capability and the range of its task-specific share."""

    low: float
    high: float
    what: str


@cache
def _known() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((packaged("gristmill.mix") / "presets.yaml").read_text(encoding="utf-8"))
    return found


@cache
def presets() -> dict[str, Preset]:
    """The shipped presets by name."""
    found = _known()["presets"].items()
    return {name: Preset(each["task"][0], each["task"][1], each["what"]) for name, each in found}


def general_floor() -> float:
    """The share of general data that every mix has unless its file says otherwise by name."""
    return float(_known()["general"]["floor"])


def read_mix(path: str | Path) -> MixFile:
    """The mix in a file; raises UsageError for what is none."""
    return read_as(MixFile, path, "a mix (gristmill init mix writes an example)")


def task_range(mix: MixFile) -> tuple[float, float]:
    """Between which task-specific shares a mix may be tuned: the preset's range, cut by the floor of general data."""
    preset = presets().get(mix.preset or "")
    low, high = (preset.low, preset.high) if preset else (0.0, 1.0)
    task_floor = sum(share for kind, share in mix.floor.items() if kind != GENERAL)
    high = min(high, 1 - mix.floor[GENERAL])
    low = min(max(low, task_floor), high)
    if high < task_floor:
        raise UsageError(f"floors: {task_floor:.0%} task-specific at least, and at most {high:.0%} are allowed")
    return low, high
