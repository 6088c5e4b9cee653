"""Tuning in simulated worlds: `python bench/mix_tune.py [WORLDS]` (200).

A world has 4 to 8 kinds, one of them general, and score = ceiling - a (share / share at the start)^-b - i (1 - share),
with ceiling in 0.7 to 0.98, a in 0.05 to 0.4, b in 0.2 to 0.6 and i in 0 to 0.1; every evaluation draws 500 fresh items
a kind (so nothing is paired). A mix begins in the middle of a preset's range, evenly within its sides; the aim is the
mean score (every goal is 1, every loss accepted), within the preset's range and the floor.

regret: what is missing to the best allowed mix after eight rounds, as a share of what it gains over the first; rounds 1
to 7 explore. Beside it: eight rounds without exploring, and the mean of the explored mixes on the way (1 is the first
mix). noise: worlds whose scores do not answer to the mix; without goals (scores are to hold what they had) and with
goals that are met.
"""

import sys
from collections.abc import Callable

import numpy as np
from data import table

from gristmill.mix.evals import Metric
from gristmill.mix.mix_file import GENERAL, MixFile, Source, presets, task_range
from gristmill.mix.response import SHARES, best
from gristmill.mix.tune import tune

ITEMS, ROUNDS = 500, 8
Scores = Callable[[dict[str, float]], dict[str, float]]


def mix_of(kinds: list[str], preset: str, seed: int, **more: object) -> tuple[MixFile, dict[str, float]]:
    sources = [Source(name=kind, files=["none"], kind=kind) for kind in kinds]
    middle = sum(presets()[preset][:2]) / 2
    shares = {kind: middle / (len(kinds) - 1) for kind in kinds} | {GENERAL: 1 - middle}
    return MixFile(preset=preset, sources=sources, seed=seed, **more), shares


def evaluated(
    truth: dict[str, float], rng: np.random.Generator, before: dict[str, float] | None = None
) -> list[Metric]:
    scores = {kind: rng.binomial(ITEMS, min(max(score, 0), 1)) / ITEMS for kind, score in truth.items()}
    return [Metric(k, k, s, ITEMS, *((before[k], ITEMS) if before else ())) for k, s in scores.items()]


def world(rng: np.random.Generator) -> tuple[list[str], str, Callable[[dict[str, float]], Scores]]:
    kinds = [f"kind{n}" for n in range(rng.integers(3, 8))] + [GENERAL]
    k = len(kinds)
    ceiling, a = rng.uniform(0.7, 0.98, k), rng.uniform(0.05, 0.4, k)
    b, i = rng.uniform(0.2, 0.6, k), rng.uniform(0, 0.1, k)

    def scores(first: dict[str, float]) -> Scores:
        def truth(shares: dict[str, float]) -> dict[str, float]:
            lost = {
                kind: a[n] * (shares[kind] / first[kind]) ** -b[n] + i[n] * (1 - shares[kind])
                for n, kind in enumerate(kinds)
            }
            return {kind: ceiling[n] - lost[kind] for n, kind in enumerate(kinds)}

        return truth

    return kinds, str(rng.choice(list(presets()))), scores


def best_mix(truth: Scores, mix: MixFile) -> dict[str, float]:
    low, high = task_range(mix)
    at = [truth(dict.fromkeys(mix.kinds, float(share))) for share in SHARES]
    values = [np.array([scores[kind] for scores in at]) for kind in mix.kinds]
    bounds = [(1 - high, 1 - low) if kind == GENERAL else (0.0, 1.0) for kind in mix.kinds]
    found = best(values, *zip(*bounds, strict=True))
    return dict(zip(mix.kinds, found, strict=True))


def rounds(
    mix: MixFile, shares: dict[str, float], truth: Scores, rng: np.random.Generator, *, explore: bool
) -> tuple[dict[str, float], float, list[dict[str, float]]]:
    """The shares after all rounds, the least general share on the way, and the shares on the way."""
    least, way = shares[GENERAL], []
    for number in range(ROUNDS):
        found = evaluated(truth(shares), rng)
        tuned = tune(mix, shares, found, accepted=mix.kinds, explore=explore and number < ROUNDS - 1)
        mix = mix.model_copy(update={"history": [*mix.history, tuned.measured]})
        shares = tuned.shares
        least = min(least, shares[GENERAL])
        way.append(shares)
    return shares, least, way


def regret_of(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    kinds, preset, scores = world(rng)
    mix, first = mix_of(kinds, preset, seed, goals=dict.fromkeys(kinds, 1.0))
    truth = scores(first)

    def mean(shares: dict[str, float]) -> float:
        return float(np.mean(list(truth(shares).values())))

    top, start = mean(best_mix(truth, mix)), mean(first)
    explored, least, way = rounds(mix, first, truth, rng, explore=True)
    greedy, also, _ = rounds(mix, first, truth, rng, explore=False)
    gain = max(top - start, 1e-6)
    return {
        "gain": gain,
        "explore": (top - mean(explored)) / gain,
        "way": float(np.mean([(top - mean(each)) / gain for each in way[:-1]])),
        "greedy": (top - mean(greedy)) / gain,
        "least general": min(least, also) - max(1 - task_range(mix)[1], 0.2),
    }


def noise(seed: int, *, goals: bool) -> float:
    """The share of rounds in which pure noise moved the mix."""
    rng = np.random.default_rng(seed)
    kinds, preset, _ = world(rng)
    truth = {kind: float(rng.uniform(0.3, 0.95)) for kind in kinds}
    mix, shares = mix_of(kinds, preset, seed, **({"goals": truth} if goals else {}))
    moves = 0
    before = {metric.kind: metric.score for metric in evaluated(truth, rng)}
    for _ in range(ROUNDS):
        found = evaluated(truth, rng, None if goals else before)
        before = {metric.kind: metric.score for metric in found}
        moves += tune(mix, shares, found, accepted=kinds).moved
    return moves / ROUNDS


def main() -> None:
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    found = [regret_of(seed) for seed in range(worlds)]
    regrets = {name: np.array([each[name] for each in found]) for name in found[0]}
    print(f"{worlds} worlds; the best mix gains {np.median(regrets['gain']):.3f} (median) over the first\n")
    lines = [
        [what, *(f"{value:.1%}" for value in np.quantile(regrets[name], [0.5, 0.75, 0.9])), target]
        for what, name, target in (
            ("exploring, then not", "explore", "5 %"),
            ("the explored mixes", "way", "-"),
            ("never exploring", "greedy", "-"),
        )
    ]
    table(["regret after 8 rounds", "median", "75 %", "90 %", "target"], lines)
    below = int((regrets["least general"] < -1e-9).sum())
    still = {
        name: np.mean([noise(seed, goals=name == "goals") for seed in range(worlds)]) for name in ("before", "goals")
    }
    print(f"worlds in which the general share fell below its floor: {below}")
    for name, moves in still.items():
        print(f"rounds of pure noise (against {name}) without a move: {1 - moves:.1%} (target 95 %)")
    sys.exit(not (np.median(regrets["explore"]) <= 0.05 and not below and max(still.values()) <= 0.05))


if __name__ == "__main__":
    main()
