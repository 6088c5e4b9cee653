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
    stop: {gain: 0.01, rounds: 2}

Paths lead from the file. Not covered: several candidates a round; models that are not weights on this machine.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gristmill.yaml_file import read_as


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CounterEntry(_Strict):
    """How counterexamples are made: by a function of (cluster, n, seed), or by a model whose answers are verified."""

    made_by: str | None = Field(None, alias="with")
    """`tiny`, or FILE.py:FUNCTION."""
    model: str | None = None
    verify: str | None = None
    """The score that an answer must pass; without one, a model's rows wait for people and are not trained on."""
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
        return self


class TrainEntry(_Strict):
    """How a candidate is trained: `fit` (the plain loop, for models as small as tiny), or `sft` through TRL."""

    method: Literal["fit", "sft"] = "sft"
    steps: int = Field(250, ge=1)
    """Of `fit`."""
    rate: float = Field(0.005, gt=0)
    """Of `fit`: half of what a model is made with forgets less."""
    lora: int | None = Field(None, ge=1)
    args: dict[str, Any] = {}
    """Of `sft`: TRL's arguments."""
    command: str | None = None
    """Of `sft`: another trainer, with {data}, {model} and {out}."""


class GateEntry(_Strict):
    """What a candidate must pass; see `gate.Terms`. The targets are the mined clusters."""

    margin: float = Field(0.05, gt=0, lt=1)
    critical: list[str] = []
    max_flips: float = Field(0.1, ge=0, le=1)
    slices: list[str] | None = None
    min_items: int = Field(1, ge=1)


class StopEntry(_Strict):
    """When to stop before the last round: after `rounds` in a row that gained less than `gain` (paired, on the gate's
    items)."""

    gain: float = Field(0.01, ge=0, le=1)
    rounds: int = Field(2, ge=1)


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

    changed: dict[str, Any] = {name: placed(getattr(loop, name)) for name in ("data", "suite", "gate_suite")}
    if loop.base != "tiny":
        kind, colon, place = loop.base.rpartition(":")
        changed["base"] = f"{kind}{colon}{placed(place)}" if (above / place).exists() else loop.base
    if loop.counter.made_by and ".py:" in loop.counter.made_by:
        file, _, name = loop.counter.made_by.rpartition(":")
        changed["counter"] = loop.counter.model_copy(update={"made_by": f"{placed(file)}:{name}"})
    return loop.model_copy(update=changed)
