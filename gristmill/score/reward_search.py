"""Weights of a reward, found by what they do: every mix on a grid, judged by how well the reward ranks a target.

Weights are hyperparameters; small changes of them change behaviour. So the whole table is kept: each mix with the share
of pairs it ranks right (of two outputs to one prompt that differ in the target, the better one has the higher reward;
ties count half), on the prompts it was chosen by and on prompts it was not.

Not covered: searching by training; more components than a grid bears (`GRID`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import numpy as np

from gristmill.calibrate.agreement import bootstrap
from gristmill.errors import UsageError
from gristmill.score.reward import Reward
from gristmill.score.score import Item, Verdict

GRID = 20_000
"""Mixes that are tried at most."""

HELD_OUT = 0.5
"""The share of prompts that do not choose the weights."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Tried(NamedTuple):
    """One mix of weights (they sum to 1) and the shares of pairs it ranks right."""

    weights: dict[str, float]
    chosen_by: float
    held_out: float


class Search(NamedTuple):
    """Every mix, the best (by the prompts that choose) first; and the weights that the reward has now."""

    tried: list[Tried]
    now: Tried
    pairs: int
    """Pairs of the held-out prompts."""
    gain: float
    """The best mix less the present one, on the held-out prompts."""
    interval: tuple[float, float]
    """95 %, of the gain, by resampled prompts."""


def search(
    reward: Reward,
    items: Sequence[Item],
    parts: Sequence[dict[str, Verdict]],
    groups: Sequence[Hashable],
    target: Sequence[float | None],
    *,
    steps: int = 10,
    seed: int = 0,
) -> Search:
    """Try every mix of the weighed components in steps of 1/`steps`.

    `parts` is what the components said of the items, `target` what the reward should rank. Raises UsageError for fewer
    than two weighed components, a grid too large, and a target that never differs within a prompt.
    """
    names = [each.score.name for each in reward.components if each.gate is None]
    if len(names) < 2:
        raise UsageError(f"search: {reward.name} weighs only {names[0]}; there is nothing to tune")
    if (size := comb(steps + len(names) - 1, len(names) - 1)) > GRID:
        raise UsageError(f"search: {size:,} mixes of {len(names)} components; at most {GRID:,}: take fewer --steps")
    table = _shares(reward, items, parts, groups, names)
    pairs = _pairs(groups, target, ~np.isnan(table).any(axis=1))
    chooses, rest = _split(pairs, groups, seed)
    if not len(chooses) or not len(rest):
        raise UsageError("search: too few prompts with outputs that differ in the target; roll out more")
    mixes = [dict(zip(names, mix, strict=True)) for mix in _simplex(len(names), steps)]
    tried = [_tried(mix, table, chooses, rest) for mix in mixes]
    tried.sort(key=lambda each: -each.chosen_by)
    total = sum(abs(each.weight) for each in reward.components if each.gate is None) or 1.0
    now = {each.score.name: each.weight / total for each in reward.components if each.gate is None}
    best, present = tried[0], _tried(now, table, chooses, rest)
    gain, interval = _gain(best.weights, now, table, rest, groups)
    return Search(tried, present, len(rest), gain, interval)


def _shares(
    reward: Reward,
    items: Sequence[Item],
    parts: Sequence[dict[str, Verdict]],
    groups: Sequence[Hashable],
    names: Sequence[str],
) -> Floats:
    """What each component adds at weight 1, an item a row; NaN where the item has no reward, or fails a gate."""
    plain = replace(reward, components=tuple(replace(each, weight=1.0) for each in reward.components), templates={})
    found = plain.weighed(items, parts, groups)
    return np.array(
        [[each.shares.get(name, 0.0) if each.verdict == "scored" else np.nan for name in names] for each in found]
    )


def _pairs(groups: Sequence[Hashable], target: Sequence[float | None], usable: Any) -> np.ndarray[Any, Any]:
    """Places of two outputs to one prompt, the one with the higher target first."""
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        if usable[place] and target[place] is not None:
            members.setdefault(group, []).append(place)
    found = []
    for places in members.values():
        for one, other in combinations(places, 2):
            a, b = target[one], target[other]
            assert a is not None and b is not None
            if a != b:
                found.append((one, other) if a > b else (other, one))
    return np.array(found, np.int64).reshape(-1, 2)


def _split(pairs: np.ndarray[Any, Any], groups: Sequence[Hashable], seed: int) -> tuple[Any, Any]:
    """The pairs of the prompts that choose, and those of the others: by a hash of the prompt."""

    def held_out(group: Hashable) -> bool:
        digest = blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 < HELD_OUT

    away = np.array([held_out(groups[int(one)]) for one, _ in pairs], bool)
    return pairs[~away], pairs[away]


def _simplex(size: int, steps: int) -> list[tuple[float, ...]]:
    """Every way to share 1 among `size` in steps of 1/`steps` (stars and bars)."""
    found = []
    for bars in combinations(range(steps + size - 1), size - 1):
        edges = (-1, *bars, steps + size - 1)
        found.append(tuple((b - a - 1) / steps for a, b in pairwise(edges)))
    return found


def _right(weights: dict[str, float], table: Floats, pairs: Any) -> Floats:
    """For each pair 1 where the better output has the higher reward, one half where they are equal."""
    reward = table @ np.array(list(weights.values()))
    apart = reward[pairs[:, 0]] - reward[pairs[:, 1]]
    return np.where(np.abs(apart) < 1e-12, 0.5, (apart > 0).astype(float))


def _tried(weights: dict[str, float], table: Floats, chooses: Any, rest: Any) -> Tried:
    return Tried(weights, float(_right(weights, table, chooses).mean()), float(_right(weights, table, rest).mean()))


def _gain(
    best: dict[str, float], now: dict[str, float], table: Floats, rest: Any, groups: Sequence[Hashable]
) -> tuple[float, tuple[float, float]]:
    """How much more the best mix ranks right than the present one, and its interval by prompts."""
    better = _right(best, table, rest) - _right(now, table, rest)
    numbers = {group: n for n, group in enumerate(dict.fromkeys(groups[int(one)] for one, _ in rest))}
    prompt = np.array([numbers[groups[int(one)]] for one, _ in rest])
    sums, sizes = np.bincount(prompt, better), np.bincount(prompt)
    interval = bootstrap(lambda n: float(sums[n].sum() / sizes[n].sum()), len(numbers))
    return float(better.mean()), interval
