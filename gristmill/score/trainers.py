"""Our rewards as the objects that trainers call: TRL's reward functions, verl's `compute_score`.

    trainer = GRPOTrainer(..., reward_funcs=[trl_reward("reward.yaml", run="gristmill-run")])

What is unjudged is None for TRL, which leaves it out and gives the row no advantage if nothing else judged it; one
composite object, since TRL would sum around a missing part (TRL 1.16, `trainer/grpo_trainer.py`). Every verdict goes
through the score cache of the run, also those that other processes reach.

Not covered: environments and tools (rewards of a conversation with tool calls see its last message).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from gristmill.errors import UsageError
from gristmill.score.cache import Scores
from gristmill.score.reward import Reward, Rewarded, read_reward
from gristmill.score.score import Item

GOLDS = ("reference", "solution", "answer", "ground_truth")
"""Columns in which data sets for RL keep the gold answer; the first that is there counts."""


class TrlReward:
    """A composite reward for `reward_funcs` of TRL's GRPO and RLOO trainers; it can be pickled and has a name.

    Called with `prompts`, `completions` (texts or lists of messages) and the columns of the data set as lists; gives
    one number or None each. Neighbours with equal prompts are one group. The parts are logged as metrics.
    """

    def __init__(self, reward: Reward):
        self.reward, self.__name__ = reward, reward.name

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The rewards of completions. Raises UsageError for a data set without a column of gold answers."""
        golds = next((columns[name] for name in GOLDS if name in columns), [None] * len(prompts))
        metas = columns.get("meta") or [None] * len(prompts)
        items = [
            Item(_last(completion), None if gold is None else str(gold), _messages(prompt), None, _mapping(meta))
            for prompt, completion, gold, meta in zip(prompts, completions, golds, metas, strict=True)
        ]
        groups, number = [], 0
        for place, prompt in enumerate(prompts):
            number += place > 0 and prompt != prompts[place - 1]
            groups.append(number)
        found = self.reward(items, groups)
        if log_metric:
            self._log(found, log_metric)
        return [each.value for each in found]

    def _log(self, found: Sequence[Rewarded], log_metric: Callable[[str, float], None]) -> None:
        for component in self.reward.components:
            name = component.score.name
            values = [v for each in found if (v := each.parts[name].value) is not None]
            if values:
                log_metric(f"{self.__name__}/{name}", sum(values) / len(values))
            log_metric(f"{self.__name__}/{name}_unjudged", 1 - len(values) / len(found))


def trl_reward(reward: Reward | str | Path, *, run: str | Path | None = None) -> TrlReward:
    """A reward, or the YAML file of one, for TRL; `run` is the directory whose score cache it shares."""
    return TrlReward(_ready(reward, run))


class VerlReward:
    """A composite reward as verl's `compute_score`: {"score", and each part}; `unjudged` stands for None."""

    def __init__(self, reward: Reward, unjudged: float):
        if reward.relative:
            raise UsageError(
                f"reward {reward.name}: verl scores one output at a time, and this one is normalised over its group; "
                "set normalize: none, and let verl's GDPO normalise the parts"
            )
        self.reward, self.unjudged, self.__name__ = reward, unjudged, reward.name

    def __call__(
        self, data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, **_: Any
    ) -> dict[str, float]:
        """The score of one output, with its parts; `extra_info["question"]` is the prompt where it is there."""
        info = _mapping(extra_info)
        prompt = [{"role": "user", "content": str(info["question"])}] if info.get("question") else []
        gold = None if ground_truth is None else str(ground_truth)
        (found,) = self.reward([Item(solution_str, gold, prompt, None, {**info, "data_source": data_source})])
        parts = {name: self.unjudged if v.value is None else v.value for name, v in found.parts.items()}
        return {"score": self.unjudged if found.value is None else found.value, **parts}


def verl_reward(reward: Reward | str | Path, *, unjudged: float, run: str | Path | None = None) -> VerlReward:
    """A reward, or the YAML file of one, for verl, which knows no None: say what stands for it.

    In the file that `reward.custom_reward_function.path` names, write
    `compute_score = verl_reward("reward.yaml", unjudged=0)`.
    """
    return VerlReward(_ready(reward, run), unjudged)


def _ready(reward: Reward | str | Path, run: str | Path | None) -> Reward:
    made = reward if isinstance(reward, Reward) else read_reward(reward)
    return made.cached(Scores(Path(run))) if run is not None else made


def _last(completion: Any) -> str | None:
    """The text of a completion: itself, or the last message's."""
    if isinstance(completion, str) or completion is None:
        return completion
    content = completion[-1].get("content") if completion else None
    return content if isinstance(content, str) else None


def _messages(prompt: Any) -> Sequence[Mapping[str, Any]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = orjson.loads(value)
    return value if isinstance(value, Mapping) else {}
