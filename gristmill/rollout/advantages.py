"""What each output of a group is worth to a policy gradient: GRPO, Dr. GRPO, GDPO and RLOO.

The trainers compute these by themselves; here they are computed for looking at data before it is paid for, with the
same numbers: TRL's sample standard deviation (ddof = 1) and epsilon (1e-4). A reward of None (unjudged) takes no part
and has no advantage; a group whose rewards are all equal teaches nothing, and its advantages are 0.

- GRPO: (r - mean) / (std + eps) within the group (Shao et al. 2024, https://arxiv.org/abs/2402.03300).
- Dr. GRPO: r - mean, without the scale, which favours easy and hard prompts (Liu et al. 2025,
  https://arxiv.org/abs/2503.20783).
- RLOO: r less the mean of the others (Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740).
- GDPO: each component by itself as in GRPO, weighed and summed, then scaled over the batch, so that different mixes of
  components do not collapse into one sum (https://arxiv.org/abs/2601.05242).

Not covered: clipping, KL penalties, weights of tokens: those are the trainer's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

OfRewards = Literal["grpo", "dr_grpo", "rloo"]
"""Forms that look at the rewards of one group."""
Form = Literal[OfRewards, "gdpo"]
FORMS: tuple[Form, ...] = get_args(Form)

EPSILON = 1e-4
"""Added to standard deviations, as TRL does."""

EQUAL = 1e-8
"""Rewards of a group that differ by less than this are equal: a judge's rounding is no signal."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


def advantages(rewards: Sequence[float | None], form: OfRewards = "grpo") -> list[float | None]:
    """The advantage of each output of one group; None where there is no reward."""
    known = _floats(rewards)
    judged = known[~np.isnan(known)]
    if not len(judged):
        return [None] * len(rewards)
    centred = known - judged.mean()
    if is_dead(rewards):
        centred = centred * 0
    elif form == "grpo":
        centred = centred / (judged.std(ddof=1) + EPSILON)
    elif form == "rloo":
        centred = centred * len(judged) / (len(judged) - 1)
    return _listed(centred)


def gdpo(
    groups: Sequence[Mapping[str, Sequence[float | None]]], weights: Mapping[str, float]
) -> list[list[float | None]]:
    """The advantages of each output of a batch of groups, component by component.

    A group maps the name of a component to its values, one an output; `weights` are by the same names. A component that
    was not judged on an output adds nothing to it; an output of which none was judged has None.
    """
    summed = []
    for group in groups:
        parts = np.array([_floats(advantages(group[name])) * weight for name, weight in weights.items()])
        total = np.nansum(parts, axis=0)
        summed.append(np.where(np.isnan(parts).all(axis=0), np.nan, total))
    every = np.concatenate(summed) if summed else np.zeros(0)
    judged = every[~np.isnan(every)]
    if len(judged) < 2:
        return [_listed(group * 0) for group in summed]
    mean, spread = judged.mean(), judged.std(ddof=1) + EPSILON
    return [_listed((group - mean) / spread) for group in summed]


def is_dead(rewards: Sequence[float | None]) -> bool:
    """Whether a group has no gradient: fewer than two rewards, or all of them equal."""
    judged = [reward for reward in rewards if reward is not None]
    return len(judged) < 2 or max(judged) - min(judged) < EQUAL


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], float)


def _listed(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
