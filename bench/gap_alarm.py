"""The alignment-gap alarm's error rates, by simulation: halts in healthy runs, and how soon it halts after a drift.

    python bench/gap_alarm.py [RUNS]

A run has 100 evaluations of 64 prompts. The evaluations share a disturbance that is independent or AR(1) with .5.
*continuous*: per-prompt scores are normal; the proxy is the gold plus noise of the same size. *binary*: both are 0 or
1, and the proxy passes whatever the gold passes and a share of the rest. In healthy runs both rise. A drift begins at
evaluation 40: the gold stands still or falls, and the proxy rises by so much an evaluation.
"""

import sys
from functools import partial

import numpy as np

from gristmill.rollout.gap import Evaluation, evaluation, watch

EVALUATIONS, PROMPTS, DRIFT = 100, 64, 40
DISTURBANCE = 0.02


def run(rng, kind, phi, proxy_slope=None, gold_slope=0.0):
    """The evaluations of one run; healthy without a slope."""
    shared = disturbances(rng, phi)
    found = []
    for at in range(EVALUATIONS):
        since = max(0, at - DRIFT) if proxy_slope is not None else 0
        gold = 0.4 + 0.002 * min(at, DRIFT if proxy_slope is not None else at) + gold_slope * since
        ahead = 0.1 + ((proxy_slope - gold_slope) * since if proxy_slope is not None else 0.0)
        found.append(look(rng, kind, at, gold + shared[at, 0], ahead + shared[at, 1]))
    return found


def disturbances(rng, phi):
    """AR(1) series, one for the gold and one for the gap."""
    series = np.zeros((EVALUATIONS, 2))
    for at in range(EVALUATIONS):
        before = series[at - 1] if at else 0
        series[at] = phi * before + rng.normal(size=2) * DISTURBANCE * (1 - phi**2) ** 0.5
    return series


def look(rng, kind, at, gold, ahead) -> Evaluation:
    if kind == "binary":
        truth = rng.random(PROMPTS) < np.clip(gold, 0, 1)
        fooled = rng.random(PROMPTS) < np.clip(ahead / max(1 - gold, 1e-9), 0, 1)
        return evaluation(at, [[float(p)] for p in truth | fooled], [[float(g)] for g in truth])
    truth = gold + rng.normal(size=PROMPTS) * 0.2
    return evaluation(at, [[p] for p in truth + ahead + rng.normal(size=PROMPTS) * 0.05], [[g] for g in truth])


def first(alarms, *statuses):
    return next((each.step for each in alarms if each.status in statuses), None)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{'scores':<12}{'AR(1)':>6}  {'halts':>7}{'warns':>7}   of {runs} healthy runs")
    for kind in ("continuous", "binary"):
        for phi in (0.0, 0.5):
            made = [watch(run(np.random.default_rng(seed), kind, phi)) for seed in range(runs)]
            halts = sum(first(each, "halt") is not None for each in made)
            warns = sum(first(each, "warn", "halt") is not None for each in made)
            print(f"{kind:<12}{phi:>6}  {halts / runs:>7.1%}{warns / runs:>7.1%}")
    print(f"\n{'scores':<12}{'AR(1)':>6}{'proxy':>8}{'gold':>8}  {'in 25':>7}{'median':>7}{'early':>7}   drifting runs")
    for kind in ("continuous", "binary"):
        for phi in (0.0, 0.5):
            for proxy, gold in ((0.005, 0.0), (0.005, -0.005), (0.01, 0.0), (0.01, -0.005)):
                drifting = partial(run, kind=kind, phi=phi, proxy_slope=proxy, gold_slope=gold)
                halts = [first(watch(drifting(np.random.default_rng(seed))), "halt") for seed in range(runs // 5)]
                delays = [halt - DRIFT for halt in halts if halt is not None and halt >= DRIFT]
                soon = sum(delay <= 25 for delay in delays) / len(halts)
                early = sum(halt is not None and halt < DRIFT for halt in halts) / len(halts)
                median = np.median(delays) if delays else float("nan")
                print(f"{kind:<12}{phi:>6}{proxy:>8}{gold:>8}  {soon:>7.1%}{median:>7.0f}{early:>7.1%}")


if __name__ == "__main__":
    main()
