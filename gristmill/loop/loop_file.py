"""A loop in YAML: what is improved, by what, and when to stop.

    # loop.yaml
    base: tiny                          # the model to begin with: hf:PATH, or tiny
    data: base.parquet                  # what it was trained on; replay is drawn from it
    suite: mined.yaml                   # what is mined for failures
    gate_suite: gate.yaml               # what decides, on other items
    rounds: 4
    counter: {with: tiny, rows: 100, repeat: 5, replay: 2000}
    train: {method: fit, steps: 250}
    gate: {margin: 0.05, critical: [tags=add]}
    stop: {gain: 0.01, rounds: 2, unseen: 0.02, budget: {cost: 5, hours: 2}}

Paths lead from the file; a trainer's command runs where the loop was started. Not covered: several candidates a round;
models that are not weights on this machine.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gristmill.score.named import beside
from gristmill.yaml_file import read_as


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CounterEntry(_Strict):
    """How counterexamples are made: by a function of (cluster, n, seed), or by a model whose answers are verified."""

    made_by: str | None = Field(None, alias="with")
    """`tiny`, or FILE.py:FUNCTION."""
    model: str | None = None
    verify: str | None = None
    """The score that an answer must pass; a model's answers need one."""
    clusters: int = Field(1, ge=1)
    """How many clusters a round is about, the first of the ranking."""
    rows: int = Field(100, ge=1)
    """Kept counterexamples for each cluster."""
    repeat: int = Field(1, ge=1)
    """How often each is shown."""
    replay: int = Field(2000, ge=0)
    """Rows of `data` beside them. Without, small models forget the rest: 0 is for showing that."""

    @model_validator(mode="after")
    def _one(self) -> "CounterEntry":
        if (self.made_by is None) == (self.model is None):
            raise ValueError("give either with or model")
        if self.model and not self.verify:
            raise ValueError("what a model answers is trained on only if it is verified: add verify: SCORE")
        return self


class TrainEntry(_Strict):
    """How a candidate is trained: `fit` (the plain loop, for models as small as tiny), or `sft` through TRL."""

    method: Literal["fit", "sft"] = "sft"
    steps: int | None = Field(None, ge=1)
    """Of `fit`; 250 if left out."""
    rate: float | None = Field(None, gt=0)
    """Of `fit`; 0.005 if left out: half of what a model is made with forgets less."""
    lora: int | None = Field(None, ge=1)
    args: dict[str, Any] = {}
    """Of `sft`: TRL's arguments."""
    command: str | None = None
    """Of `sft`: another trainer, with {data}, {model} and {out}."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainEntry":
        others = ("lora", "args", "command") if self.method == "fit" else ("steps", "rate")
        if given := [name for name in others if getattr(self, name) not in (None, {})]:
            raise ValueError(f"{given[0]} is not for method {self.method}")
        if self.command and (self.lora or self.args):
            raise ValueError("with a command, lora and args are its own affair: write them into it")
        return self


class GateEntry(_Strict):
    """What a candidate must pass; see `gate.Terms`. The targets are the mined clusters."""

    margin: float = Field(0.05, gt=0, lt=1)
    critical: list[str] = []
    max_flips: float = Field(0.1, ge=0, le=1)
    slices: list[str] | None = None
    min_items: int = Field(1, ge=1)


class BudgetEntry(_Strict):
    """What a loop may take: money of its calls, in the currency of `models.yaml`, and hours of its steps.

    Money holds within a round: calls that would cost more are not sent. Hours are looked at between rounds.
    """

    cost: float | None = Field(None, gt=0)
    hours: float | None = Field(None, gt=0)


class StopEntry(_Strict):
    """When to stop before the last round (`stops.py`): after `rounds` in a row that gained less than `gain` (paired, on
    the gate's items); when the mass of unseen kinds of failures is under `unseen` (None: not a reason) and no cluster
    is left whose frequency x severity is over `worth`; when the budget is spent."""

    gain: float = Field(0.01, ge=0, le=1)
    rounds: int = Field(2, ge=1)
    unseen: float | None = Field(None, gt=0, le=1)
    worth: float = Field(0.03, ge=0, le=5)
    """0.03: an item in a hundred fails so, and it is as bad as most (severity 3)."""
    budget: BudgetEntry = BudgetEntry()  # type: ignore[call-arg]  # Field() gives the defaults


class LoopFile(_Strict):
    """A whole loop file."""

    base: str
    data: str
    suite: str
    gate_suite: str
    rounds: int = Field(4, ge=1)
    counter: CounterEntry
    train: TrainEntry = TrainEntry()  # type: ignore[call-arg]  # Field() gives the defaults
    gate: GateEntry = GateEntry()  # type: ignore[call-arg]  # Field() gives the defaults
    stop: StopEntry = StopEntry()  # type: ignore[call-arg]  # Field() gives the defaults
    seed: int = 0


def read_loop(path: str | Path) -> LoopFile:
    """The loop of a file, its paths made to hold from here. Raises UsageError naming what is wrong in it."""
    loop = read_as(LoopFile, path, "a loop (see `gristmill init loop`)")
    above = Path(path).parent

    def placed(name: str) -> str:
        return name if "://" in name or Path(name).is_absolute() else str(above / name)

    def model(name: str) -> str:
        kind, colon, place = name.rpartition(":")
        return f"{kind}{colon}{placed(place)}" if "://" not in name and (above / place).exists() else name

    changed: dict[str, Any] = {name: placed(getattr(loop, name)) for name in ("data", "suite", "gate_suite")}
    changed["base"] = loop.base if loop.base == "tiny" else model(loop.base)
    entry: dict[str, Any] = {}
    if loop.counter.made_by and ".py:" in loop.counter.made_by:
        file, _, name = loop.counter.made_by.rpartition(":")
        entry["made_by"] = f"{placed(file)}:{name}"
    if loop.counter.model:
        entry["model"] = model(loop.counter.model)
    if loop.counter.verify:
        entry["verify"] = beside(Path(path), loop.counter.verify)
    changed["counter"] = loop.counter.model_copy(update=entry)
    return loop.model_copy(update=changed)
