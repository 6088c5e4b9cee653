"""Composite rewards: a weighted sum of scores behind gates, from YAML or Python.

    # reward.yaml
    components:
      - {score: math, weight: 0.5}
      - {score: "judge:clarity.yaml", weight: 0.3, normalize: z}
      - {score: format, gate: true}

A *gate* must be passed: an item that fails one gets `failed` (0), and where components are normalised no more than the
worst item of its group that passes. The other components are
clipped, brought to a common scale within their group or batch, weighed and summed. An item with a required component
that could not be judged has no reward: None, never a sum of the rest, which would favour what the judge fails on.
Weights may differ by template (`templates`, by the name in the row's `meta`).

Not covered: what the group of a prompt is worth to a policy gradient (`rollout/advantages.py`), finding the weights
(`reward_search.py`), how much each component decided (`reward_report.py`).
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gristmill.errors import UsageError
from gristmill.score.cache import Scores, cached
from gristmill.score.named import beside
from gristmill.score.named import score as named
from gristmill.score.normalize import Way, normalized
from gristmill.score.score import Item, Score, Verdict
from gristmill.yaml_file import read_as


@dataclass(frozen=True)
class Component:
    """One score of a reward.

    `gate` is the least value that passes, None for a component that is weighed; `clip` bounds the value before it is
    normalised `over` its group or the whole batch. Where `required` is False, an unjudged value adds nothing.
    """

    score: Score
    weight: float = 1.0
    gate: float | None = None
    clip: tuple[float, float] | None = None
    normalize: Way = "none"
    over: Literal["group", "batch"] = "group"
    required: bool = True


class Rewarded(NamedTuple):
    """The reward of an item, and what it is made of."""

    value: float | None
    """None: a required component could not be judged."""
    verdict: str
    """`scored`, `gated` (a gate was failed) or `unjudged`."""
    parts: dict[str, Verdict]
    """What each component said, by the name of its score."""
    shares: dict[str, float]
    """What each weighed component adds to the value; empty unless it is `scored`."""

    def why(self) -> str:
        """The parts as one JSON object: {score: [value, verdict, share]}."""
        told = {name: [v.value, v.verdict, self.shares.get(name)] for name, v in self.parts.items()}
        return orjson.dumps(told).decode()


@dataclass(frozen=True)
class Reward:
    """A composite reward; it can be pickled if its scores can. `templates` holds weights by score by template."""

    components: tuple[Component, ...]
    name: str = "reward"
    templates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failed: float = 0.0

    def __post_init__(self) -> None:
        names = [each.score.name for each in self.components]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"reward {self.name}: two components are called {twice}; give one of them name=OTHER")
        if all(each.gate is not None for each in self.components):
            raise UsageError(f"reward {self.name}: every component is a gate; give at least one a weight")
        for template, weights in self.templates.items():
            if unknown := next((name for name in weights if name not in names), None):
                raise UsageError(
                    f"reward {self.name}: template {template} weighs {unknown}; allowed: {', '.join(names)}"
                )

    @property
    def relative(self) -> bool:
        """Whether the reward of an item depends on the items it is judged with."""
        return any(each.normalize != "none" for each in self.components)

    def cached(self, scores: Scores) -> "Reward":
        """The same, with components that ask the score cache first."""
        return replace(self, components=tuple(replace(c, score=cached(c.score, scores)) for c in self.components))

    def judged(self, items: Sequence[Item]) -> list[dict[str, Verdict]]:
        """What each component says of each item."""
        said = {each.score.name: each.score(items) for each in self.components}
        return [{name: verdicts[place] for name, verdicts in said.items()} for place in range(len(items))]

    def __call__(self, items: Sequence[Item], groups: Sequence[Hashable] | None = None) -> list[Rewarded]:
        """The reward of each item. `groups` says which items answer the same prompt (None: all are one group)."""
        return self.weighed(items, self.judged(items), groups)

    def weighed(
        self, items: Sequence[Item], parts: Sequence[dict[str, Verdict]], groups: Sequence[Hashable] | None = None
    ) -> list[Rewarded]:
        """The reward of items whose components have been judged; `parts` as `judged` gives them."""
        members = _members(groups if groups is not None else [0] * len(items))
        scaled = {c.score.name: self._scaled(c, parts, members) for c in self.components if c.gate is None}
        found = [self._summed(item, parts[n], {k: v[n] for k, v in scaled.items()}) for n, item in enumerate(items)]
        for group in members:
            passed = [v for n in group if found[n].verdict == "scored" and (v := found[n].value) is not None]
            worst = min([self.failed, *passed]) if self.relative else self.failed
            for n in group:
                if found[n].verdict == "gated":
                    found[n] = found[n]._replace(value=worst)
        return found

    def _scaled(
        self, component: Component, parts: Sequence[dict[str, Verdict]], members: Sequence[Sequence[int]]
    ) -> list[float | None]:
        values = [_clipped(part[component.score.name].value, component.clip) for part in parts]
        together = members if component.over == "group" else [range(len(values))]
        scaled: list[float | None] = [None] * len(values)
        for group in together:
            for place, value in zip(group, normalized([values[n] for n in group], component.normalize), strict=True):
                scaled[place] = value
        return scaled

    def _summed(self, item: Item, parts: dict[str, Verdict], scaled: Mapping[str, float | None]) -> Rewarded:
        weights = self.templates.get(str(item.meta.get("template")), {})
        shares, gated = {}, False
        for component in self.components:
            name = component.score.name
            value = parts[name].value
            if value is None and component.required:
                return Rewarded(None, "unjudged", parts, {})
            if component.gate is not None:
                gated |= value is not None and value < component.gate
            elif (scale := scaled[name]) is not None:
                shares[name] = weights.get(name, component.weight) * scale
        return Rewarded(0.0, "gated", parts, {}) if gated else Rewarded(sum(shares.values()), "scored", parts, shares)


def _members(groups: Sequence[Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        found[group].append(place)
    return list(found.values())


def _clipped(value: float | None, clip: tuple[float, float] | None) -> float | None:
    return value if value is None or clip is None else min(max(value, clip[0]), clip[1])


class ComponentEntry(BaseModel):
    """One entry of `components`."""

    model_config = ConfigDict(extra="forbid")

    score: str
    """What `--with` takes: `math`, `judge:FILE.yaml`, `FILE.py:FUNCTION`, with parameters."""
    weight: float = 1.0
    gate: bool | float = False
    """true: the value must be 1 at least; a number: that much at least."""
    clip: tuple[float, float] | None = None
    normalize: Way = "none"
    over: Literal["group", "batch"] = "group"
    required: bool = True


class RewardFile(BaseModel):
    """A whole reward file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("reward", pattern=r"^[a-z][a-z0-9_]*$")
    components: list[ComponentEntry] = Field(min_length=1)
    templates: dict[str, dict[str, float]] = {}
    failed: float = 0.0


def read_reward(path: str | Path) -> Reward:
    """The reward that a YAML file describes. Files that it names are looked for beside it.

    Raises UsageError naming file, component and what is allowed.
    """
    entries = read_as(RewardFile, path, "a reward (see `gristmill init reward`)")
    components = []
    for number, entry in enumerate(entries.components):
        where = f"{path}: components.{number}"
        gate = None if entry.gate is False else 1.0 if entry.gate is True else entry.gate
        if gate is not None and entry.model_fields_set & {"weight", "normalize", "clip", "over"}:
            raise UsageError(f"{where}: a gate is passed or not; leave out weight, normalize, clip and over")
        if entry.clip and entry.clip[0] >= entry.clip[1]:
            raise UsageError(f"{where}: clip {list(entry.clip)}; allowed: a lower and a greater bound")
        made = named(beside(Path(path), entry.score))
        components.append(Component(made, entry.weight, gate, entry.clip, entry.normalize, entry.over, entry.required))
    return Reward(tuple(components), entries.name, entries.templates, entries.failed)
